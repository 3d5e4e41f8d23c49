"""The systolic array: skewed edges, rows, drain chain and deskew."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, ValueLike
from amaranth.lib.data import View
from amaranth.lib.wiring import Component, In, Out

from hw.delay import delayed
from hw.layouts import pixels
from hw.pe import mac_latency
from hw.row import sums
from hw.row_block import RowBlock, block_sizes
from hw.shared import shared
from hw.skew import skewed
from hw.spec.config import AcceleratorConfig

__all__ = ["Array"]


class Array(Component):
    """`rows` x `cols` PEs, GEMM and (optionally) ST-OS mode; timing as in ``array_timing`` of the architecture.

    Every cycle takes one step.  All inputs of a step are given in the same cycle, T below; the array skews what
    needs skewing.  A step without work is all zeros (``w`` = 0).  The mode may change only while nothing is in
    flight, and in GEMM mode so may `tile_rows`.

    GEMM: ``w[i]`` times ``a[halo + j]`` is accumulated in PE (i, j); ``last`` marks a tile's last step.  Tiles may
    follow each other when the last steps are at least `tile_rows` cycles apart.

    ST-OS: ``v_en`` shifts line ``a`` into the top row; ``capture`` (a cycle after the last shift at the earliest)
    copies the lines into the windows; each following cycle multiplies window and tap ``w[i]`` and moves the window
    one place right; ``last`` marks a tile's last tap.  Last taps are at least the later tile's `tile_rows` apart.

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
        Clear the PEs, which have no reset: hold for rows + cols + 8 cycles with ``w`` = 0.
    out : sums(cols), out
    out_valid : out
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        rows, cols = config.rows, config.cols
        mac = mac_latency(config.pipeline_mac)
        self.LATENCY_GEMM = 1 + mac + rows + cols - 1
        self.LATENCY_STOS = mac + rows
        ports = {
            "w": In(pixels(rows)),
            "a": In(pixels(config.read_lanes)),
            "last": In(1),
            "tile_rows": In(range(rows + 1)),
            "flush": In(1),
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
        stos: ValueLike = self.stos if config.stos else 0

        # --- tile boundaries: `clear` reaches PE (i, j) i + j cycles after PE (0, 0) in GEMM, all at once in ST-OS
        finish = Signal()  # PE (0, 0)'s accumulator is complete in the next cycle (GEMM) or this one (ST-OS)
        m.d.comb += finish.eq(delayed(m, self.last, mac, name="finish", reset_less=False)[-1])
        tile_rows = delayed(m, self.tile_rows, mac, name="tile_rows")[-1]
        diagonal = [Signal(name=f"clear_d{index}") for index in range(rows + cols - 1)]
        m.d.sync += [diagonal[0].eq(finish & ~stos)]
        m.d.sync += [after.eq(before) for before, after in zip(diagonal, diagonal[1:], strict=False)]
        together = Signal()
        m.d.comb += together.eq(finish & stos)

        gemm_rows = Signal(range(rows + 1))  # held: GEMM rows use it up to rows + cols cycles later
        with m.If(finish):
            m.d.sync += gemm_rows.eq(tile_rows)
        active_rows = Signal(range(rows + 1))
        m.d.comb += active_rows.eq(Mux(stos, tile_rows, gemm_rows))
        used = Signal(rows)
        m.d.comb += used.eq(Cat((index < active_rows) & ~self.flush for index in range(rows)))

        # --- release of held results: when the last used row of a column has its own
        countdown = Signal(range(rows + 1))
        with m.If(diagonal[0]):
            m.d.sync += countdown.eq(gemm_rows)
        with m.Elif(countdown != 0):
            m.d.sync += countdown.eq(countdown - 1)
        go_first = Signal()
        m.d.comb += go_first.eq(countdown == 1)
        go_gemm = delayed(m, go_first, cols - 1, name="go", reset_less=False)
        go_stos = Signal()
        m.d.sync += go_stos.eq(together)
        go = Signal(cols)
        m.d.comb += go.eq(Cat(bit | go_stos | self.flush for bit in go_gemm))

        # --- leaving ST-OS: column j's window still holds pixels until zeros have moved in from the left edge.  Its PEs
        # go on multiplying by the tap wire, then 0, for these j + 1 cycles; a GEMM step reaches them no earlier.
        use_taps: list[ValueLike] = []
        for column in range(cols if config.stos else 0):
            before = Signal(name=f"use_taps{column}")
            m.d.sync += before.eq(use_taps[-1] if use_taps else stos)
            use_taps.append(stos | before)

        # --- rows
        top = Signal(pixels(config.read_lanes))
        lanes = skewed(m, [self.a[halo + column] for column in range(cols)], name="skew_a")
        for lane in range(config.read_lanes):
            late = lanes[lane - halo] if lane >= halo else 0  # halo lanes carry nothing in GEMM mode
            m.d.comb += top[lane].eq(Mux(stos, self.a[lane], late))
        weights = skewed(m, [self.w[index] for index in range(rows)], name="skew_w")
        cleared = Signal(rows + cols - 1)  # per diagonal: its PEs start a new tile
        m.d.comb += cleared.eq(Cat(bit | together | self.flush for bit in diagonal))
        above: View | Signal = top
        results: View | None = None
        first = 0
        for number, size in enumerate(block_sizes(rows)):
            block = shared(platform, RowBlock, size, cols, halo, stos=config.stos, pipeline_mac=config.pipeline_mac)
            m.submodules[f"rows{number}"] = block
            for within, index in enumerate(range(first, first + size)):
                m.d.comb += [
                    block.h_in[within].eq(weights[index]),
                    block.clear[within].eq(cleared[index : index + cols]),
                ]
                if config.stos:
                    m.d.comb += block.w_row[within].eq(Mux(self.stos, self.w[index], 0))
            m.d.comb += [block.v_in.eq(above), block.used.eq(used[first : first + size]), block.go.eq(go)]
            if results is not None:
                m.d.comb += block.d_in.eq(results)
            if config.stos:
                m.d.comb += [
                    block.stos.eq(self.stos),
                    block.use_taps.eq(Cat(use_taps)),
                    block.capture.eq(self.capture),
                    block.v_en.eq(self.v_en | ~self.stos),
                ]
            above, results = block.v, block.d
            first += size
        assert results is not None

        # --- valid: one bit per row that moves exactly as column 0's results do
        moving: ValueLike = 0
        for index in range(rows):
            valid, held = Signal(name=f"valid{index}"), Signal(name=f"held{index}")
            take, keep = Signal(name=f"take{index}"), Signal(name=f"keep{index}")
            m.d.comb += [
                take.eq((diagonal[index] | together) & used[index]),
                keep.eq(held & ~go[0]),
            ]
            m.d.sync += held.eq(take | keep)
            with m.If(take):
                m.d.sync += valid.eq(1)
            with m.Elif(~keep):
                m.d.sync += valid.eq(moving)
            moving = valid
        bottom_valid = Signal()
        m.d.comb += bottom_valid.eq(moving)

        # --- deskew: column j of a GEMM row arrives j cycles after column 0
        gemm_valid = Signal()  # rows of ST-OS tiles must not come out again when the mode changes behind them
        m.d.comb += gemm_valid.eq(bottom_valid & ~stos)
        aligned_valid = delayed(m, gemm_valid, cols - 1, name="valid_deskew", reset_less=False)[-1]
        m.d.comb += self.out_valid.eq(Mux(stos, bottom_valid, aligned_valid))
        aligned = skewed(m, [results[column] for column in reversed(range(cols))], name="deskew")[::-1]
        for column in range(cols):
            m.d.comb += self.out[column].eq(Mux(stos, results[column].as_unsigned(), aligned[column]))
        return m
