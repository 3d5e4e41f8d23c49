"""Walks the tiles and steps of GEMM, VEC and MAX instructions: one operand vector and one weight word per cycle."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from hw.layouts import table_layout
from hw.operand_request import WEIGHT_POINTER_WIDTH, PortSignature, step_layout
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC, Mode
from hw.tile_walk import answer_layout, place_layout, walk_layout

__all__ = ["GemmSequencer"]


class GemmSequencer(Component):
    """Issues the steps of one GEMM, depthwise-GEMM, VEC or MAX instruction.

    Order: channel block, output line, tile along the line, then input channel, ky, kx (isa.EXEC).  A tile has `cols`
    pixels of an output line; with stride 2 it reads every second pixel.  Depthwise GEMM, VEC and MAX have blocks of one
    channel, whose input is the channel itself.  A step is issued when its operand read is
    granted; a tile's last step also waits until the previous tile's rows have room to drain (not VEC and MAX, which
    do not use the array), of this instruction or an earlier one.  Pipeline stages lie between the counters and the
    operand port (:func:`~hw.operand_request.request_stages`).

    Parameters
    ----------
    config : AcceleratorConfig

    Attributes
    ----------
    cfg : struct of isa.EXEC, in
        The instruction; stable from ``start`` until ``active`` falls.
    start : in
        One cycle, while not active.
    hold : in
        Issue no step; may rise only while not active.
    hold_end : in
        Issue no last step of a tile; may rise only while not active.
    active : out
        From the cycle after ``start`` until the last step has been issued.
    steps : stream of step_layout, out
        To :class:`~hw.operand_request.OperandRequest`; lane ``halo + j`` of the operand reads column j's pixel.
    strided, admit, port
        Also to and from it.
    walk : walk_layout, out; place : place_layout, in; answer : answer_layout, in
        To and from :class:`~hw.tile_walk.TileWalk`, which has the outer loops.
    issue : out
        A step is issued in this cycle; the members below belong to it.
    weight_addr, lane, one_lane : out
        Weight word; depthwise: the lane of it that feeds row 0.
    last, tile_rows : out
        Last step of a tile, and the rows in use.
    drain_wait : out
        The next step is held, or waits for the drain (performance counter).
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "cfg": In(table_layout(EXEC)),
                "start": In(1),
                "hold": In(1),
                "hold_end": In(1),
                "active": Out(1),
                "steps": Out(stream.Signature(step_layout(config))),
                "strided": Out(1),
                "admit": Out(1),
                "port": In(PortSignature(config)),
                "walk": Out(walk_layout(config)),
                "place": In(place_layout(config)),
                "answer": In(answer_layout(config)),
                "issue": Out(1),
                "weight_addr": Out(WEIGHT_POINTER_WIDTH),
                "lane": Out(range(config.rows)),
                "one_lane": Out(1),
                "last": Out(1),
                "tile_rows": Out(range(config.rows + 1)),
                "drain_wait": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the counters within a tile, and when it may end."""
        m = Module()
        config, cfg = self.config, self.cfg
        rows, cols, halo = config.rows, config.cols, config.halo
        register = partial(Signal, reset_less=True)  # for what is set before it is used

        strided, walk, place, answer = self.strided, self.walk, self.place, self.answer
        direct, single = register(), register()  # past the array; blocks of one channel
        past = (cfg.mode == Mode.VEC) | (cfg.mode == Mode.MAX)
        m.d.comb += strided.eq(cfg.sx == 2)
        m.d.sync += [direct.eq(past), single.eq(past | cfg.depthwise)]  # a cycle behind `cfg`: from setup on

        # --- counters of a tile's steps
        run, setup = Signal(), Signal()
        begun = Signal()  # setup or run; and a cycle more
        channel_left = register(16)
        ky, kx = register(4), register(4)
        weight = register(WEIGHT_POINTER_WIDTH)
        tap_x = register(4)  # position of tap kx: depthwise weights are stored last tap of a line first, as ST-OS's are
        # Comparisons of the counters with their ends are kept one step ahead, so that none follows an adder.
        last_kx, last_ky, last_channel = register(), register(), register()
        one_kx, one_ky, one_channel = cfg.kw == 1, cfg.kh == 1, single | (cfg.cin == 1)
        before_last_kx, before_last_ky = register(4), register(4)
        line_taken, last_step, advance = Signal(), Signal(), Signal()
        m.d.comb += [
            line_taken.eq(last_kx & last_ky),
            last_step.eq(line_taken & last_channel),
            advance.eq(run & self.steps.ready),
            walk.begin.eq(setup),
            walk.advance.eq(advance),
            walk.moves.eq(last_kx),
            walk.inner.eq(line_taken),
            walk.tile.eq(last_step),
            walk.by_pitch.eq(~last_ky),
            walk.by_channel.eq(last_ky),
            walk.first_x.eq(-cfg.pad_x),
            walk.factor.eq(Mux(begun, cfg.sy, cfg.pad_y)),
            walk.next_weight.eq(weight + 1),
            walk.offset.eq(ky),
            walk.single.eq(single),
            walk.own_inputs.eq(single),
        ]
        m.d.sync += [
            setup.eq(self.start),
            begun.eq(self.start | setup | run),
            # `cfg` is stable while these are used, so they need not be held
            before_last_kx.eq(cfg.kw - 2),
            before_last_ky.eq(cfg.kh - 2),
        ]
        with m.If(setup):
            m.d.sync += [
                run.eq(1),
                tap_x.eq(Mux(single, cfg.kw - 1, 0)),
                channel_left.eq(cfg.cin),
                ky.eq(0),
                kx.eq(0),
                last_kx.eq(one_kx),
                last_ky.eq(one_ky),
                last_channel.eq(one_channel),
                weight.eq(cfg.w_base),
            ]

        step, c = self.steps.payload, self.port.step
        held = Signal()
        m.d.comb += [
            self.steps.valid.eq(run),
            step.addr.eq(place.base + place.x + tap_x - Mux(strided, 0, halo)),
            step.x.eq(place.x + tap_x),
            step.line_valid.eq(answer.inside),
            step.weight.eq(weight),
            step.lane.eq(place.lane),
            step.last.eq(last_step),
            step.rows.eq(place.rows),
        ]
        with m.If(advance):
            m.d.sync += [
                kx.eq(kx + 1),
                last_kx.eq(kx == before_last_kx),
                tap_x.eq(Mux(single, tap_x - 1, tap_x + 1)),
                weight.eq(weight + 1),
            ]
            with m.If(last_kx):
                m.d.sync += [
                    kx.eq(0),
                    last_kx.eq(one_kx),
                    tap_x.eq(Mux(single, cfg.kw - 1, 0)),
                    ky.eq(ky + 1),
                    last_ky.eq(ky == before_last_ky),
                ]
                with m.If(last_ky):
                    m.d.sync += [
                        ky.eq(0),
                        last_ky.eq(one_ky),
                        channel_left.eq(channel_left - 1),
                        last_channel.eq(single | (channel_left == 2)),
                    ]
            with m.If(last_step):
                m.d.sync += [channel_left.eq(cfg.cin), last_channel.eq(one_channel)]
                with m.If(~answer.weights_end):
                    m.d.sync += weight.eq(place.weight)
                with m.If(answer.finish):
                    m.d.sync += run.eq(0)

        # --- when a tile may end: the previous tile's rows leave at one a cycle, and a change of the number of used
        # rows must not reach PEs that still finish earlier tiles, the last one rows + cols - 2 cycles after the first
        drain = Signal(range(rows + 1))
        settle_cycles = rows + cols - 2
        settle = Signal(range(settle_cycles + 1))
        used_rows = Signal(range(rows + 1))
        drained, settled, may_end = Signal(init=1), Signal(init=1), Signal()
        m.d.comb += may_end.eq(drained & (settled | (c.rows == used_rows)))
        m.d.comb += [
            self.admit.eq(~held),
            held.eq(self.hold | (c.last & (self.hold_end | (~direct & ~may_end)))),
            self.issue.eq(self.port.issued),
            self.weight_addr.eq(c.weight),
            self.lane.eq(c.lane),
            self.one_lane.eq(cfg.depthwise),
            self.last.eq(c.last),
            self.tile_rows.eq(c.rows),
            self.drain_wait.eq(self.port.waiting & held),
            self.active.eq(setup | run | self.port.busy),
        ]
        with m.If(self.issue & c.last & ~direct):
            m.d.sync += [drain.eq(c.rows - 1), settle.eq(settle_cycles), used_rows.eq(c.rows)]
            m.d.sync += [drained.eq(c.rows == 1), settled.eq(settle_cycles == 0)]
        with m.Else():
            m.d.sync += [drained.eq(drain <= 1), settled.eq(settle <= 1)]
            with m.If(~drained):
                m.d.sync += drain.eq(drain - 1)
            with m.If(~settled):
                m.d.sync += settle.eq(settle - 1)
        return m
