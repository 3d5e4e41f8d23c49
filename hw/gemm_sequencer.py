"""Walks the tiles and steps of GEMM, VEC and MAX instructions: one operand vector and one weight word per cycle."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from hw.layouts import table_layout
from hw.operand_request import POINTER_WIDTH, WEIGHT_POINTER_WIDTH, PortSignature, step_layout
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC, Mode
from hw.window import X_WIDTH

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
        """Build the counters and the request stages."""
        m = Module()
        config, cfg = self.config, self.cfg
        rows, cols, halo = config.rows, config.cols, config.halo
        pointer = signed(POINTER_WIDTH)
        position = signed(X_WIDTH)

        strided = self.strided
        direct, single = Signal(), Signal()  # past the array; blocks of one channel
        past = (cfg.mode == Mode.VEC) | (cfg.mode == Mode.MAX)
        m.d.comb += strided.eq(cfg.sx == 2)
        m.d.sync += [direct.eq(past), single.eq(past | cfg.depthwise)]  # a cycle behind `cfg`: from setup on

        # --- stage A: counters
        run = Signal()
        line_step = Signal(pointer)  # bytes from output line to output line; during setup those above line 0
        first_line = Signal(pointer)  # pointer of the line under tap ky = 0 of output line 0
        last_x = Signal(position)  # input position of the last output pixel, without padding
        left = Signal(signed(8))  # bytes from a read's byte 0 to the input position of its tile and tap
        outer_base = Signal(pointer)
        line_left = Signal(16)
        line_base = Signal(pointer)
        line_index = Signal(position)  # input line under tap ky = 0
        tile_x = Signal(position)
        channel_left = Signal(16)
        channel_base = Signal(pointer)
        tap_base = Signal(pointer)
        ky, kx = Signal(4), Signal(4)
        block_weight = Signal(WEIGHT_POINTER_WIDTH)
        weight = Signal(WEIGHT_POINTER_WIDTH)
        lane = Signal(range(rows))

        # What the next step depends on is kept one step ahead, so that no comparison follows an adder.
        next_x = Signal(position)  # position of the next tile of the line
        limit_x = Signal(position)  # from here on the next tile is the line's last one
        last_tile, one_tile = Signal(), Signal()  # no tile follows on the line; a line is one tile
        next_left = Signal(signed(18))  # channels behind this block
        block_rows = Signal(range(rows + 1))
        last_outer = Signal()
        tap_x = Signal(4)  # position of tap kx: depthwise weights are stored last tap of a line first, as ST-OS's are
        tile_step = Mux(strided, 2 * cols, cols)
        block = Mux(single, 1, rows)

        def begin_block(left: Value) -> None:
            """Take the next block, when `left` channels are still to come."""
            m.d.sync += [
                next_left.eq(left - block),
                last_outer.eq(left <= block),
                block_rows.eq(Mux(left < block, left, block)),
            ]

        # So are the comparisons of the counters with their ends.
        last_kx, last_ky, last_channel, last_line = Signal(), Signal(), Signal(), Signal()
        one_kx, one_ky, one_channel, one_line = cfg.kw == 1, cfg.kh == 1, single | (cfg.cin == 1), cfg.out_h == 1
        before_last_kx, before_last_ky = Signal(4), Signal(4)
        m.d.sync += [before_last_kx.eq(cfg.kw - 2), before_last_ky.eq(cfg.kh - 2)]
        block_used = Signal()  # with this block of channels a block of weights is used up
        last_step = Signal()
        line_ends, block_ends = Signal(), Signal()  # not nested below: conditions side by side make shorter paths
        weights_end = Signal()
        m.d.comb += [
            last_step.eq(last_kx & last_ky & last_channel),
            line_ends.eq(last_step & last_tile),
            block_ends.eq(line_ends & last_line),
            weights_end.eq(block_ends & block_used),
        ]

        setup = Signal()
        begun = Signal()  # setup or run; and a cycle more
        m.d.comb += first_line.eq(cfg.in_base - line_step)
        m.d.sync += [
            setup.eq(self.start),
            begun.eq(self.start | setup | run),
            # `cfg` is stable while these are used, so they need not be held
            line_step.eq(Mux(begun, cfg.sy, cfg.pad_y) * cfg.in_pitch),
            last_x.eq(Mux(strided, (cfg.out_w - 1) << 1, cfg.out_w - 1)),
            left.eq(cfg.pad_x + Mux(strided, 0, halo)),
        ]
        with m.If(setup):
            begin_block(cfg.cout)
            m.d.sync += [
                run.eq(1),
                outer_base.eq(first_line),
                line_left.eq(cfg.out_h),
                line_base.eq(first_line),
                line_index.eq(-cfg.pad_y),
                tile_x.eq(0),
                next_x.eq(tile_step),
                limit_x.eq(last_x - tile_step),
                last_tile.eq(last_x < tile_step),
                one_tile.eq(last_x < tile_step),
                tap_x.eq(Mux(single, cfg.kw - 1, 0)),
                channel_left.eq(cfg.cin),
                channel_base.eq(first_line),
                tap_base.eq(first_line),
                ky.eq(0),
                kx.eq(0),
                last_kx.eq(one_kx),
                last_ky.eq(one_ky),
                last_channel.eq(one_channel),
                last_line.eq(one_line),
                block_weight.eq(cfg.w_base),
                weight.eq(cfg.w_base),
                lane.eq(Mux(cfg.cout < rows, cfg.cout - 1, rows - 1)),
                block_used.eq(~single | (rows == 1) | (cfg.cout == 1)),
            ]

        input_line = Signal(position)
        m.d.comb += input_line.eq(line_index + ky)
        held = Signal()
        step, c = self.steps.payload, self.port.step
        m.d.comb += [
            self.steps.valid.eq(run),
            step.addr.eq(tap_base + tile_x + tap_x - left),
            step.x.eq(tile_x + tap_x - cfg.pad_x),
            step.line_valid.eq((input_line >= 0) & (input_line < cfg.in_h)),
            step.weight.eq(weight),
            step.lane.eq(lane),
            step.last.eq(last_step),
            step.rows.eq(block_rows),
        ]
        with m.If(run & self.steps.ready):
            m.d.sync += [
                kx.eq(kx + 1),
                last_kx.eq(kx == before_last_kx),
                tap_x.eq(Mux(single, tap_x - 1, tap_x + 1)),
                weight.eq(weight + 1),
            ]
            with m.If(last_kx):
                next_tap_base = tap_base + cfg.in_pitch
                m.d.sync += [
                    kx.eq(0),
                    last_kx.eq(one_kx),
                    tap_x.eq(Mux(single, cfg.kw - 1, 0)),
                    ky.eq(ky + 1),
                    last_ky.eq(ky == before_last_ky),
                    tap_base.eq(next_tap_base),
                ]
                with m.If(last_ky):
                    next_channel = channel_base + cfg.in_cs
                    m.d.sync += [
                        ky.eq(0),
                        last_ky.eq(one_ky),
                        channel_left.eq(channel_left - 1),
                        last_channel.eq(single | (channel_left == 2)),
                        channel_base.eq(next_channel),
                        tap_base.eq(next_channel),
                    ]
            with m.If(last_step):
                m.d.sync += [
                    channel_left.eq(cfg.cin),
                    last_channel.eq(one_channel),
                    channel_base.eq(line_base),
                    tap_base.eq(line_base),
                    weight.eq(block_weight),
                    tile_x.eq(next_x),
                    next_x.eq(next_x + tile_step),
                    last_tile.eq(next_x > limit_x),
                ]
            with m.If(line_ends):
                next_line = line_base + line_step
                m.d.sync += [
                    tile_x.eq(0),
                    next_x.eq(tile_step),
                    last_tile.eq(one_tile),
                    line_left.eq(line_left - 1),
                    last_line.eq(line_left == 2),
                    line_base.eq(next_line),
                    line_index.eq(line_index + cfg.sy),
                    channel_base.eq(next_line),
                    tap_base.eq(next_line),
                ]
            with m.If(block_ends):
                next_outer = outer_base + Mux(single, cfg.in_cs, 0)
                begin_block(next_left)
                m.d.sync += [
                    line_left.eq(cfg.out_h),
                    last_line.eq(one_line),
                    line_index.eq(-cfg.pad_y),
                    outer_base.eq(next_outer),
                    line_base.eq(next_outer),
                    channel_base.eq(next_outer),
                    tap_base.eq(next_outer),
                    lane.eq(lane - 1),
                    block_used.eq(~single | (lane == 1)),
                ]
            with m.If(weights_end):
                m.d.sync += [
                    block_weight.eq(weight + 1),
                    weight.eq(weight + 1),
                    lane.eq(Mux(next_left < rows, next_left - 1, rows - 1)),
                    block_used.eq(~single | (rows == 1) | (next_left == 1)),
                ]
            with m.If(block_ends & last_outer):
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
