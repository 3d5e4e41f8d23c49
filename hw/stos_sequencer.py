"""Walks the tiles of ST-OS instructions: line loads, captures and taps."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from hw.layouts import table_layout
from hw.operand_request import (
    POINTER_WIDTH,
    WEIGHT_POINTER_WIDTH,
    PortSignature,
    issue_layout,
    step_layout,
)
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC, Mode
from hw.tile_walk import answer_layout, place_layout, walk_layout

__all__ = ["StosSequencer"]

_BEYOND = 1 << 26
"""More than any scratchpad, by more than a pointer can lie below 0; a larger plane's size might wrap around."""


class StosSequencer(Component):
    """Issues the loads, captures and taps of one STOS_CH or STOS_LN instruction (architecture B5).

    A tile is one or more phases; a phase shifts lines down the rows, captures them into the windows and multiplies
    ``kw`` taps after each capture.

    * STOS_CH, rows = channels: ``kh`` phases of n lines, one per channel, and one capture; lane i feeds row i.
    * STOS_LN, rows = output lines of one channel: ``min(sy, kh)`` phases; from the n-th line on every line is
      captured, each capture serving the next ky of the phase (ky = phase, phase + sy, ...); one lane feeds all rows.

    With ``sx = 2`` and ``kw = 1`` every second pixel of a line is loaded.  A window of more taps needs all pixels: its
    tiles are computed at stride 1, and the result writer keeps every second column.

    Loads run ahead of the taps by one window: line n+1 may shift in when line n has been captured, and a capture may
    fall into the last tap's cycle.  So a one-phase, one-capture tile costs max(n, kw) cycles.  Results need no further
    care: a tile's n lines are loaded after the capture before, so tiles end n cycles apart and drain in time.

    With ``fold`` the lines above line 0 and below the last one are the last and the first ones of the neighbouring
    segments: the same lines again, a plane further and a segment to the side.  The segments behind those follow.

    Parameters
    ----------
    config : AcceleratorConfig

    Attributes
    ----------
    cfg, start, hold, active, steps, strided, admit, port, walk, place, answer, drain_wait
        As for :class:`~hw.gemm_sequencer.GemmSequencer`; lane p of the operand reads window register p.
    hold_end : in
        Capture no line whose taps end a tile; may rise only while not active.
    hold_capture : in
        Capture no line; may rise only while not active.
    load : out
        A line's read is granted in this cycle.
    capture : out
        Windows take the line loaded last; at the earliest one cycle after its ``load``.
    tap : out
        A tap is issued in this cycle; the members below belong to it.
    weight_addr, lane, one_lane, last, tile_rows : out
        Weight word, the lane for all rows (STOS_LN), last tap of the tile, rows in use.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "cfg": In(table_layout(EXEC)),
                "start": In(1),
                "hold": In(1),
                "hold_end": In(1),
                "hold_capture": In(1),
                "active": Out(1),
                "steps": Out(stream.Signature(step_layout(config))),
                "strided": Out(1),
                "admit": Out(1),
                "port": In(PortSignature(config)),
                "walk": Out(walk_layout(config)),
                "place": In(place_layout(config)),
                "answer": In(answer_layout(config)),
                "load": Out(1),
                "capture": Out(1),
                "tap": Out(1),
                "weight_addr": Out(WEIGHT_POINTER_WIDTH),
                "lane": Out(range(config.rows)),
                "one_lane": Out(1),
                "last": Out(1),
                "tile_rows": Out(range(config.rows + 1)),
                "drain_wait": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the load walk and the tap walk."""
        m = Module()
        config, cfg = self.config, self.cfg
        rows, halo = config.rows, config.halo
        pointer = signed(POINTER_WIDTH)
        walk, place, answer = self.walk, self.place, self.answer

        strided = self.strided  # every second pixel is read
        register = partial(Signal, reset_less=True)  # for what is set before it is used
        lines = register()  # rows are lines, not channels
        # A cycle behind `cfg`: right from the first cycle of setup on.
        m.d.sync += [lines.eq(cfg.mode == Mode.STOS_LN), strided.eq((cfg.sx == 2) & (cfg.kw == 1))]

        # --- constants of the instruction: `cfg` is stable while they are used, so few need to be held
        run = Signal()
        setup = Signal(2)
        begun = Signal()  # setup, run, or a step is to be folded; and a cycle more
        counted_valid = Signal()  # with `pipeline_mac` only: a step waits for its fold
        # in_pitch times bits 0-7 of in_h, in the first cycle of setup; times pad_y; then times the rest of in_h
        product = place.product
        taps_words = register(8)  # weight words per channel block
        capture_words = register(8)  # weight words from capture to capture within a phase
        before_last_phase, one_phase = register(4), register()
        # The first ky behind which, one or two strides on, no other one of the phase follows; phase 0 has only ky = 0.
        ky_end, ky_next_end, one_ky = cfg.kh - cfg.sy, cfg.kh - (cfg.sy << 1), register()
        low_part = register(signed(POINTER_WIDTH + 1))
        fold_step = Signal(signed(POINTER_WIDTH + 9))
        above_bytes = register(pointer)  # from lines above to what they repeat; from those below it is as far back
        beyond = register()  # that is more than any scratchpad holds
        m.d.comb += fold_step.eq(low_part + (product << 8))
        fold = m.d.sync if config.pipeline_mac else m.d.comb
        fold += [above_bytes.eq(fold_step), beyond.eq(fold_step >= _BEYOND)]
        m.d.sync += [
            setup.eq(Cat(self.start, setup[0])),
            begun.eq(Cat(self.start, setup, run, counted_valid).any()),
            taps_words.eq(cfg.kh * cfg.kw),
            capture_words.eq(cfg.sy * cfg.kw),
            before_last_phase.eq(Mux(lines & (cfg.sy < cfg.kh), cfg.sy, cfg.kh) - 2),
            one_phase.eq(~lines & (cfg.kh == 1) | lines & ((cfg.kh == 1) | (cfg.sy == 1))),
            one_ky.eq(~lines | (cfg.sy >= cfg.kh)),
        ]
        with m.If(setup[0]):
            m.d.sync += low_part.eq(product - cfg.seg)
        # --- stage A: counters of the load walk
        # Pixel in the leftmost window register when the last tap (kw - 1) is multiplied; strided: in column 0.
        window_x = place.x
        phase = register(4)
        phase_weight = register(8)  # both from the block's first word
        offset = register(walk["offset"].shape())  # of the line to load, behind the tile's first one
        loaded = register(range(rows + 1))  # lines loaded in this phase, saturating at n - 1
        ky = register(4)
        weight = register(8)

        # What the next load depends on is kept one load ahead, so that no comparison follows an adder.
        last_capture = register()  # of a phase
        capture, last_phase, last_load, advance = register(), register(), Signal(), Signal()
        m.d.comb += [
            last_load.eq(capture & last_capture),
            advance.eq(run & self.steps.ready),
            walk.begin.eq(setup[1]),
            walk.advance.eq(advance),
            walk.moves.eq(1),
            walk.inner.eq(last_load),
            walk.tile.eq(last_load & last_phase),
            walk.by_pitch.eq(last_load),
            walk.by_channel.eq(~last_load & ~lines),
            walk.by_line.eq(~last_load & lines),
            walk.first_x.eq(cfg.kw - 1 - cfg.pad_x - Mux(strided, 0, halo)),  # input position of a read's byte 0
            # in_h's bits 0-7 in the first cycle, pad_y in the one before `begin`, then the rest of in_h
            walk.factor.eq(Mux(begun, Mux(setup[0], cfg.pad_y, cfg.in_h[8:]), cfg.in_h[:8])),
            walk.next_weight.eq(place.weight + taps_words),
            walk.offset.eq(offset),
            walk.single.eq(lines),
            walk.lines.eq(lines),
            walk.own_inputs.eq(1),
            walk.halved.eq((cfg.sx == 2) & ~strided),
        ]

        with m.If(setup[1]):
            m.d.sync += [
                run.eq(1),
                phase.eq(0),
                phase_weight.eq(0),
                offset.eq(0),
                loaded.eq(0),
                capture.eq(answer.next_one_row),
                ky.eq(0),
                last_phase.eq(one_phase),
                last_capture.eq(one_ky),
                weight.eq(0),
            ]

        # Beyond the plane's first and last line, lines go on one segment to the side, or two.
        in_h, load_line = cfg.in_h, answer.line
        above, below, far = Signal(), Signal(), Signal()
        before = ~load_line[:5]  # lines between a line above and line 0: padding is less than 32 lines
        fold_bytes, fold_x = Signal(pointer), Signal(signed(len(cfg.seg) + 2))
        folded = Mux(beyond, above_bytes[:25] | _BEYOND, above_bytes)
        fold_end = Signal(len(in_h) + 2)  # behind the last line of two segments below
        m.d.sync += fold_end.eq(in_h + (in_h << 1))
        m.d.comb += [
            above.eq(cfg.fold & (load_line < 0) & (before < in_h << 1)),
            below.eq(cfg.fold & (load_line >= in_h) & (load_line < fold_end)),
            far.eq(Mux(load_line < 0, before >= in_h, load_line >= in_h << 1)),
        ]
        counted = {
            "base": place.base + window_x,
            "x": window_x,
            "inside": answer.inside,
            "above": above,
            "below": below,
            "far": far,
            "capture": capture,
            "weight": (place.weight + weight)[:WEIGHT_POINTER_WIDTH],
            "lane": place.lane,
            "last": last_load & last_phase,
            "rows": place.rows,
        }
        if config.pipeline_mac:  # the fold in a cycle of its own
            counters = {name: Value.cast(value) for name, value in counted.items()}
            counted = {name: Signal(value.shape(), name=f"counted_{name}") for name, value in counters.items()}
            with m.If(self.steps.ready):
                m.d.sync += [counted_valid.eq(run), *(counted[name].eq(value) for name, value in counters.items())]
        above, below, far = counted["above"], counted["below"], counted["far"]
        # Padding is no more than 32 lines, so a plane that lies above twice fits a pointer.
        two_planes = (above_bytes << 1)[: len(above_bytes)]
        segments = Signal.like(fold_x)
        m.d.comb += [
            segments.eq(Mux(far, cfg.seg << 1, cfg.seg)),
            fold_bytes.eq(Mux(above, Mux(far, two_planes, folded), Mux(below, ~Mux(far, two_planes, above_bytes), 0))),
            fold_x.eq(Mux(above, ~segments, Mux(below, segments, 0))),
        ]
        step = self.steps.payload
        m.d.comb += [
            self.steps.valid.eq(counted_valid if config.pipeline_mac else run),
            step.addr.eq(counted["base"] + fold_bytes + below),
            step.x.eq(counted["x"] + fold_x + above),
            step.line_valid.eq(counted["inside"] | above | below),
            *(step[name].eq(counted[name]) for name in issue_layout(config).members),
        ]
        with m.If(advance):
            m.d.sync += offset.eq(offset + Mux(lines, cfg.sy, 0))
            with m.If(capture):
                m.d.sync += [
                    ky.eq(ky + cfg.sy),
                    last_capture.eq(~lines | (ky >= ky_next_end)),
                    weight.eq(weight + capture_words),
                ]
            with m.Else():
                m.d.sync += [loaded.eq(loaded + 1), capture.eq(loaded + 2 == place.rows)]
            with m.If(last_load):
                m.d.sync += [
                    phase.eq(phase + 1),
                    last_phase.eq(phase == before_last_phase),
                    ky.eq(phase + 1),
                    last_capture.eq(~lines | (phase + 1 >= ky_end)),
                    phase_weight.eq(phase_weight + cfg.kw),
                    weight.eq(phase_weight + cfg.kw),
                    offset.eq(phase + 1),
                    loaded.eq(0),
                    capture.eq(answer.next_one_row),
                ]
                with m.If(last_phase):
                    m.d.sync += [
                        phase.eq(0),
                        last_phase.eq(one_phase),
                        ky.eq(0),
                        last_capture.eq(one_ky),
                        phase_weight.eq(0),
                        weight.eq(0),
                        offset.eq(0),
                    ]
                    with m.If(answer.finish):
                        m.d.sync += run.eq(0)

        # --- taps
        full = Signal()  # the vertical chain holds lines that wait to be captured
        waiting = register(issue_layout(config))  # what they are
        taps_left = register(4)
        final_tap = Signal(init=1)  # of a window, or none is issued
        tap_weight = register(WEIGHT_POINTER_WIDTH)
        tap = register(issue_layout(config))
        held = Signal()
        m.d.comb += [
            held.eq((waiting.last & self.hold_end) | self.hold_capture),
            self.weight_addr.eq(tap_weight),
            self.lane.eq(tap.lane),
            self.one_lane.eq(lines),
            self.last.eq(tap.last & final_tap & self.tap),
            self.tile_rows.eq(tap.rows),
            self.capture.eq(full & final_tap & ~held),
        ]
        with m.If(self.capture):
            m.d.sync += [taps_left.eq(cfg.kw), tap_weight.eq(waiting.weight), tap.eq(waiting)]
            m.d.sync += [self.tap.eq(1), final_tap.eq(cfg.kw == 1)]
        with m.Elif(self.tap):
            m.d.sync += [taps_left.eq(taps_left - 1), tap_weight.eq(tap_weight + 1)]
            m.d.sync += [self.tap.eq(~final_tap), final_tap.eq(taps_left <= 2)]

        m.d.comb += [
            self.admit.eq((~full | self.capture) & ~self.hold),
            self.drain_wait.eq((self.port.waiting & self.hold) | (full & held & ~self.tap)),
            self.load.eq(self.port.issued),
            self.active.eq(Cat(setup, run, counted_valid, self.port.busy, full, self.tap).any()),
        ]
        with m.If(self.load & self.port.step.capture):
            m.d.sync += [full.eq(1), waiting.eq(self.port.step)]
        with m.Elif(self.capture):
            m.d.sync += full.eq(0)
        return m
