"""The systolic array: skewed edges, rows, drain chain and deskew."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib.wiring import Component, In, Out

from hw.delay import delayed
from hw.layouts import pixels
from hw.pe import mac_latency
from hw.row import sums
from hw.row_block import RowBlock, block_sizes
from hw.select import lanes_below
from hw.shared import shared
from hw.skew import Skew
from hw.spec.config import AcceleratorConfig
from hw.spec.numerics import NUMERICS

__all__ = ["Array"]

PIXEL = 8
"""Bits of a pixel, and of a weight."""


class Array(Component):
    """`rows` x `cols` PEs, GEMM and (optionally) ST-OS mode; timing as in ``array_timing`` of the architecture.

    Every cycle takes one step.  All inputs of a step are given in the same cycle, T below; the array skews what
    needs skewing.  A step without work is all zeros (``w`` = 0).  In GEMM mode `tile_rows` may change between last
    steps that are rows + cols - 1 cycles apart or more.

    The mode may change while tiles finish and drain: to ST-OS `cols` cycles after the last GEMM step (the lines follow
    its activations down the rows), with the first ``capture`` at least rows + cols - 1 cycles after it (when the last
    PE has multiplied); to GEMM in the cycle after the last tap.  Rows of the later tile must not leave before those of
    the earlier one, so its last step may have to wait.

    GEMM: ``w[i]`` times ``a[halo + j]`` is accumulated in PE (i, j); ``last`` marks a tile's last step.  Tiles may
    follow each other when the last steps are at least `tile_rows` cycles apart.

    ST-OS: ``v_en`` shifts line ``a`` into the top row; ``capture`` (a cycle after the last shift at the earliest)
    copies the lines into the windows; each following cycle multiplies window and tap ``w[i]`` and moves the window
    one place right; ``last`` marks a tile's last tap.  Last taps are at least the later tile's `tile_rows` apart.
    Pixels left of column 0 follow their line by as many cycles as they are places away (see :class:`~hw.row.Row`).

    Results appear on ``out``, one row of a tile a cycle, row tile_rows-1 first, with ``out_valid``:

    * GEMM: the first one ``LATENCY_GEMM`` cycles after ``last``,
    * ST-OS: the last one (row 0) ``LATENCY_STOS`` cycles after ``last``.

    Parameters
    ----------
    config : AcceleratorConfig

    Attributes
    ----------
    w : pixels(rows), in
    a : pixels(read_lanes), in
    last : in
    tile_rows : range(rows + 1), in
        Rows of the tile that count, from the top; sampled with ``last``.
    stos, v_en, capture : in
        ST-OS only.
    flush : in
        Clear the PEs, which have no reset: hold for :func:`hw.control.flush_cycles` with ``w`` = 0.
    bypass, bypass_valid : pixels(cols), in
        A row that goes past the PEs, in a cycle without one of theirs.
    out : sums(cols), out
        Undefined without ``out_valid``.
    out_valid : out
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        rows, cols = config.rows, config.cols
        mac = mac_latency(config.pipeline_mac)
        edge = int(config.pipeline_mac)
        self.LATENCY_GEMM = edge + 1 + mac + rows + cols - 1
        self.LATENCY_STOS = edge + mac + rows
        ports = {
            "w": In(pixels(rows)),
            "a": In(pixels(config.read_lanes)),
            "last": In(1),
            "tile_rows": In(range(rows + 1)),
            "flush": In(1),
            "bypass": In(pixels(cols)),
            "bypass_valid": In(1),
            "out": Out(sums(cols)),
            "out_valid": Out(1),
        }
        if config.stos:
            ports |= {"stos": In(1), "v_en": In(1), "capture": In(1)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        """Build edges, rows, the valid chain that mirrors column 0's drain, and the deskew."""
        m = Module()
        config = self.config
        rows, cols, halo = config.rows, config.cols, config.halo
        mac = mac_latency(config.pipeline_mac)
        stos: Value = self.stos if config.stos else Const(0, 1)

        def to_rows(value: ValueLike, name: str) -> Value:
            """Return what enters the rows, or goes beside them: with ``pipeline_mac`` by way of a register."""
            return delayed(m, value, int(config.pipeline_mac), name=f"edge_{name}", reset_less=False)[-1]

        # --- tile boundaries: `clear` reaches PE (i, j) i + j cycles after PE (0, 0) in GEMM, all at once in ST-OS
        last = Signal(2)  # of a GEMM tile, of an ST-OS tile
        m.d.comb += last.eq(Cat(self.last & ~stos, self.last & stos))
        # PE (0, 0)'s accumulator is complete in the next cycle (GEMM) or this one (ST-OS).
        finish, together = delayed(m, last, mac, name="finish", reset_less=False)[-1]
        tile_rows = delayed(m, self.tile_rows, mac, name="tile_rows")[-1]
        tile_used = Signal(rows)  # the same, a bit per row: from the first register on, since it goes to all PEs
        m.d.comb += tile_used.eq(lanes_below(m, self.tile_rows, rows, name="used"))
        tile_used = delayed(m, tile_used, mac, name="tile_used")[-1]
        diagonal = Signal(rows + cols - 1)
        m.d.sync += diagonal.eq(Cat(finish, diagonal))

        # Held: GEMM rows use them up to rows + cols cycles later.
        gemm_rows, gemm_used = Signal(range(rows + 1)), Signal(rows)
        with m.If(finish):
            m.d.sync += [gemm_rows.eq(tile_rows), gemm_used.eq(tile_used)]
        used = Signal(rows)
        m.d.comb += used.eq(Mux(self.flush, 0, Mux(together, tile_used, gemm_used)))

        # --- release of held results: when the last used row of a column has its own
        countdown = Signal(range(rows + 1))
        with m.If(diagonal[0]):
            m.d.sync += countdown.eq(gemm_rows)
        with m.Elif(countdown != 0):
            m.d.sync += countdown.eq(countdown - 1)
        go_first = Signal()
        m.d.comb += go_first.eq(countdown == 1)
        go_next = Signal(cols - 1)  # column j releases j cycles after column 0
        m.d.sync += go_next.eq(Cat(go_first, go_next))
        go_stos = Signal()
        m.d.sync += go_stos.eq(together)
        go = Signal(cols)
        m.d.comb += go.eq(Cat(go_first, go_next) | (go_stos | self.flush).replicate(cols))

        # --- entering ST-OS: lines follow the last GEMM step down the rows, a row per cycle; the rows before them still
        # shift in every cycle.  The PEs multiply by taps from the first capture on.
        windows = Signal()  # are multiplied
        shifting = Signal(rows)  # bit i: row i's `v` moves whether a line comes or not
        if config.stos:
            captured = Signal()
            entered = Signal(max(rows - 1, 1))  # bit i: mode of row i + 1
            m.d.sync += [captured.eq(stos & (captured | self.capture)), entered.eq(Cat(stos, entered))]
            m.d.comb += [windows.eq(stos & captured), shifting.eq(~Cat(stos, entered))]

        # --- halo: register k runs halo - k cycles behind the columns
        halo_en, halo_out = Signal(halo), Signal(halo)
        if halo:
            entering = Signal(halo)  # bit k: register k's pixel enters column 0, unless the mode has changed
            m.d.sync += [
                halo_en.eq(Cat(halo_en[1:], self.v_en)),
                entering.eq(Cat(entering[1:] & ~self.capture.replicate(halo - 1), self.capture)),
            ]
            m.d.comb += halo_out.eq(entering & windows.replicate(halo))

        # --- leaving ST-OS: column j's window still holds pixels until zeros have moved in from the left edge.  Its PEs
        # go on multiplying by the tap wire, then 0, for these j + 1 cycles; a GEMM step reaches them no earlier.
        left_stos = Signal(cols)  # bit j: windows were multiplied within the last j + 1 cycles
        use_taps = left_stos | windows.replicate(cols)
        if config.stos:
            m.d.sync += left_stos.eq(Cat(windows, use_taps))

        # --- rows
        m.submodules.skew_a = skew_a = shared(platform, Skew, max(cols, halo + 1), PIXEL)
        m.submodules.skew_w = skew_w = shared(platform, Skew, rows, PIXEL)
        vector, tap = self.a.as_value(), self.w.as_value()
        top = Signal(PIXEL * config.read_lanes)
        halo_lanes = [skew_a.o.word_select(distance, PIXEL) for distance in range(1, halo + 1)]
        taps_n = Signal(PIXEL * rows)  # complements, see hw.pe
        cleared = Signal(rows + cols - 1)  # per diagonal: its PEs start a new tile
        m.d.comb += [
            # Taps must not come out again behind a change of mode.  Lines may: the weights that meet them are zeros.
            skew_a.i.eq(Cat(_skewed(lane, stos, vector, halo) for lane in range(max(cols, halo + 1)))),
            skew_w.i.eq(Mux(stos, 0, tap)),
            top.eq(Cat(reversed(halo_lanes), Mux(stos, vector[PIXEL * halo :], skew_a.o[: PIXEL * cols]))),
            taps_n.eq(~Mux(windows, tap, 0)),
            cleared.eq(diagonal | (together | self.flush).replicate(rows + cols - 1)),
        ]
        above: ValueLike = to_rows(top, "v")
        weights, taps_n = to_rows(skew_w.o, "h"), to_rows(taps_n, "taps")
        row_clear, row_used, row_go = to_rows(cleared, "clear"), to_rows(used, "used"), to_rows(go, "go")
        if config.stos:
            row_halo_en, row_halo_out = to_rows(halo_en, "halo_en"), to_rows(halo_out, "halo_out")
            row_use_taps, row_capture = to_rows(use_taps, "use_taps"), to_rows(self.capture, "capture")
            row_v_en, row_shifting = to_rows(self.v_en, "v_en"), to_rows(shifting, "shifting")
        results: Value | None = None
        first = 0
        for number, size in enumerate(block_sizes(rows)):
            block = shared(platform, RowBlock, size, cols, halo, stos=config.stos, pipeline_mac=config.pipeline_mac)
            m.submodules[f"rows{number}"] = block
            pixel_span = slice(PIXEL * first, PIXEL * (first + size))
            m.d.comb += [
                block.h_in.eq(weights[pixel_span]),
                block.clear.eq(Cat(row_clear[index : index + cols] for index in range(first, first + size))),
            ]
            m.d.comb += [block.v_in.eq(above), block.used.eq(row_used[first : first + size]), block.go.eq(row_go)]
            if results is not None:
                m.d.comb += block.d_in.eq(results)
            if config.stos:
                m.d.comb += [
                    block.halo_en.eq(row_halo_en),
                    block.halo_out.eq(row_halo_out),
                    block.w_row_n.eq(taps_n[pixel_span]),
                    block.use_taps.eq(row_use_taps),
                    block.capture.eq(row_capture),
                    block.v_en.eq(row_v_en.replicate(size) | row_shifting[first : first + size]),
                ]
            above, results = block.v, Value.cast(block.d)
            first += size
        assert results is not None

        # --- valid: one bit per row that moves exactly as column 0's results do, and one that says which they are
        valid, held, take, keep = Signal(rows), Signal(rows), Signal(rows), Signal(rows)
        of_stos = Signal(rows)
        m.d.comb += [
            take.eq((diagonal[:rows] | together.replicate(rows)) & used),
            keep.eq(held & ~go[0].replicate(rows)),
        ]
        m.d.sync += [
            held.eq(take | keep),
            valid.eq(take | (keep & valid) | (~keep & Cat(Const(0, 1), valid)[:rows])),
        ]
        if config.stos:
            moved = (keep & of_stos) | (~keep & Cat(Const(0, 1), of_stos)[:rows])
            m.d.sync += of_stos.eq((take & together.replicate(rows)) | (~take & moved))

        # --- deskew: column j of a GEMM row arrives j cycles after column 0
        gemm_valid, stos_valid = Signal(), Signal()
        aligned_valid = Signal(cols - 1)
        leaves, leaves_stos = to_rows(valid[-1], "valid"), to_rows(of_stos[-1], "of_stos")
        m.d.comb += [gemm_valid.eq(leaves & ~leaves_stos), stos_valid.eq(leaves & leaves_stos)]
        m.d.sync += aligned_valid.eq(Cat(gemm_valid, aligned_valid))
        m.submodules.deskew = deskew = shared(platform, Skew, cols, NUMERICS.acc_width)
        m.d.comb += [
            deskew.i.eq(_reversed(results, NUMERICS.acc_width)),
            self.out_valid.eq(stos_valid | aligned_valid[-1] | self.bypass_valid),
        ]
        past, aligned = Signal(sums(cols)), Signal(sums(cols))
        m.d.comb += [aligned.eq(_reversed(deskew.o, NUMERICS.acc_width)), *map(Value.eq, past, self.bypass)]
        if config.stos:  # one gate that chooses among three, by what is valid, is smaller than two multiplexers
            choices = [(past, self.bypass_valid), (aligned, aligned_valid[-1]), (results, stos_valid)]
            chosen = [Value.cast(row) & valid.replicate(len(results)) for row, valid in choices]
            m.d.comb += self.out.eq(chosen[0] | chosen[1] | chosen[2])
        else:
            m.d.comb += self.out.eq(Mux(self.bypass_valid, past, aligned))
        return m


def _skewed(lane: int, stos: Value, vector: Value, halo: int) -> ValueLike:
    """Return what comes `lane` cycles late: GEMM's column `lane`, or the pixel that far left of ST-OS's columns."""
    left = vector.word_select(halo - lane, PIXEL) if 1 <= lane <= halo else None
    if PIXEL * (halo + lane) >= len(vector):
        assert left is not None
        return left
    column = vector.word_select(halo + lane, PIXEL)
    return column if left is None else Mux(stos, left, column)


def _reversed(vector: Value, width: int) -> Value:
    """Return a vector's lanes, of `width` bits, last one first."""
    return Cat(vector[start : start + width] for start in reversed(range(0, len(vector), width)))
