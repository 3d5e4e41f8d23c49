"""From drained rows to the scratchpad: walks the output addresses around output stage and pooling."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from hw.delay import delayed
from hw.layouts import PARAM_LAYOUT, act_addr_width, range_width, table_layout
from hw.operand_request import POINTER_WIDTH
from hw.output_stage import OutputStage, output_config
from hw.pooling import Pooling
from hw.ports import ReadSignature, WriteSignature
from hw.row import sums
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC, Mode, ResidualOp
from hw.window import X_WIDTH

__all__ = ["ResultWriter"]


class ResultWriter(Component):
    """Requantise rows in the order the array drains them and write them where the instruction says.

    Rows arrive as tiles do: STOS_LN by channel, block of lines, tile along the line, line; all others by block of
    channels, line, tile, channel.  Never stalls: result writes and residual reads have the highest priority.

    Parameters
    ----------
    config : AcceleratorConfig

    Attributes
    ----------
    cfg : struct of isa.EXEC, in
        The instruction; stable from ``start`` until ``done``.
    start : in
        One cycle; the first row comes two cycles later at the earliest.
    row_valid : in
        A row of accumulators is on ``row``.
    row : sums(cols), in
    param_en, param_addr, param_data
        Parameter memory, answers in the next cycle.
    residual : ReadSignature, out
    result : WriteSignature, out
    done : out
        One cycle, when the instruction's last write is visible.
    range_error : out
        An address in use lies beyond its memory.
    range_info : out
        That address.
    halt : in
        Suppress writes (an error has been found).
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        addr_width = act_addr_width(config)
        super().__init__(
            {
                "cfg": In(table_layout(EXEC)),
                "start": In(1),
                "row_valid": In(1),
                "row": In(sums(config.cols)),
                "param_en": Out(1),
                "param_addr": Out(range(config.param_entries)),
                "param_data": In(PARAM_LAYOUT),
                "residual": Out(ReadSignature(addr_width, config.cols)),
                "result": Out(WriteSignature(addr_width, config.cols)),
                "done": Out(1),
                "range_error": Out(1),
                "range_info": Out(32),
                "halt": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the walk, the pipeline behind it, and the write mux."""
        m = Module()
        config, cfg = self.config, self.cfg
        rows, cols = config.rows, config.cols
        pointer = signed(POINTER_WIDTH)

        lines, single, gated = Signal(), Signal(), Signal()
        m.d.comb += [
            lines.eq(cfg.mode == Mode.STOS_LN),
            single.eq((cfg.mode == Mode.VEC) | (cfg.mode == Mode.MAX) | cfg.depthwise),
            gated.eq(cfg.res == ResidualOp.SCALE),
        ]
        kept_lanes = Mux(cfg.sx == 2, cols // 2, cols)

        # --- walk: the registers describe the row that arrives next
        row_step, middle_step, outer_step = Signal(pointer), Signal(pointer), Signal(pointer)
        to_residual = Signal(pointer)
        outer_left, middle_left = Signal(17), Signal(16)
        outer_base, middle_base, row_base, pooled_base = (
            Signal(pointer, name=name) for name in ("outer_base", "middle_base", "row_base", "pooled_base")
        )
        tile_x = Signal(X_WIDTH)
        row_index = Signal(range(rows))
        param, param_row = Signal(17), Signal(17)
        first_map = Signal()  # no pixel of this block has been seen

        tile_rows = Signal(range(rows + 1))
        left = Signal(17)
        m.d.comb += [
            left.eq(Mux(lines, middle_left, outer_left)),
            tile_rows.eq(Mux(single, 1, Mux(left < rows, left, rows))),
        ]
        next_x = Signal(X_WIDTH)
        last_row, last_tile, last_middle, last_outer = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            next_x.eq(tile_x + kept_lanes),
            last_row.eq(row_index == tile_rows - 1),
            last_tile.eq(next_x >= cfg.out_w),
            last_middle.eq(Mux(lines, middle_left == tile_rows, middle_left == 1)),
            last_outer.eq(Mux(lines, outer_left == 1, outer_left == tile_rows)),
        ]
        setup = Signal()
        m.d.sync += setup.eq(self.start)
        with m.If(self.start):
            m.d.sync += [
                row_step.eq(Mux(lines, cfg.out_pitch, cfg.out_cs)),
                middle_step.eq(Mux(lines, rows * cfg.out_pitch, cfg.out_pitch)),
                outer_step.eq(Mux(lines | single, cfg.out_cs, rows * cfg.out_cs)),
                to_residual.eq(cfg.res_base - Mux(gated, cfg.p_base, cfg.out_base)),
                outer_left.eq(cfg.cout),
                middle_left.eq(cfg.out_h),
                tile_x.eq(0),
                row_index.eq(0),
                param.eq(cfg.p_base),
                param_row.eq(cfg.p_base),
                first_map.eq(1),
            ]
            m.d.sync += [base.eq(cfg.out_base) for base in (outer_base, middle_base, row_base, pooled_base)]
        with m.If(self.row_valid):
            m.d.sync += [
                row_index.eq(row_index + 1),
                row_base.eq(row_base + row_step),
                pooled_base.eq(pooled_base + Mux(lines, 0, row_step)),
                param_row.eq(param_row + ~lines),
            ]
            with m.If(lines):
                m.d.sync += first_map.eq(0)
            with m.If(last_row):
                m.d.sync += [
                    row_index.eq(0),
                    tile_x.eq(next_x),
                    row_base.eq(middle_base + next_x),
                    pooled_base.eq(outer_base),
                    param_row.eq(param),
                    first_map.eq(0),
                ]
                with m.If(last_tile):
                    next_middle = middle_base + middle_step
                    m.d.sync += [
                        tile_x.eq(0),
                        middle_left.eq(middle_left - Mux(lines, tile_rows, 1)),
                        middle_base.eq(next_middle),
                        row_base.eq(next_middle),
                    ]
                    with m.If(last_middle):
                        next_outer = outer_base + outer_step
                        next_param = param + Mux(lines, 1, tile_rows)
                        m.d.sync += [
                            outer_left.eq(outer_left - Mux(lines, 1, tile_rows)),
                            outer_base.eq(next_outer),
                            middle_left.eq(cfg.out_h),
                            middle_base.eq(next_outer),
                            row_base.eq(next_outer),
                            pooled_base.eq(next_outer),
                            param.eq(next_param),
                            param_row.eq(next_param),
                            first_map.eq(1),
                        ]

        remaining = Signal(X_WIDTH)
        place = data.StructLayout(
            {
                "map": pointer,
                "pooled": pointer,
                "count": range_width(cols),
                "slot": range(rows),
                "first": 1,
                "last": 1,
                "final": 1,
            }
        )
        now = Signal(place)
        m.d.comb += [
            remaining.eq(cfg.out_w - tile_x),
            now.map.eq(row_base),
            now.pooled.eq(pooled_base),
            now.count.eq(Mux(remaining < kept_lanes, remaining, kept_lanes)),
            now.slot.eq(Mux(lines, 0, row_index)),
            now.first.eq(first_map),
            now.last.eq(last_tile & last_middle & (~lines | last_row)),
            now.final.eq(last_row & last_tile & last_middle & last_outer),
            self.param_en.eq(self.row_valid),
            self.param_addr.eq(param_row),
        ]

        # --- cycle 1: parameters answer; every second column is kept for stride 2
        m.submodules.output = output = OutputStage(cols, pipeline=config.pipeline_mac)
        m.submodules.pool = pool = Pooling(cols, rows, pipeline=config.pipeline_mac)
        valid = delayed(m, self.row_valid, 1 + output.LATENCY, name="valid", reset_less=False)
        places = delayed(m, now, 1 + output.LATENCY + pool.latency, name="place")
        row = Signal(sums(cols), reset_less=True)
        for lane in range(cols):
            even = self.row[2 * lane] if 2 * lane < cols else self.row[lane]
            m.d.sync += row[lane].eq(Mux(cfg.sx == 2, even, self.row[lane]))
        m.d.comb += [
            output.valid.eq(valid[1]),
            output.acc.eq(row),
            output.param.eq(self.param_data),
            *(output.cfg[name].eq(cfg[name]) for name, _ in output_config()),
        ]

        # --- residual: requested so that it answers when the output stage samples it.  Its address is at a constant
        # distance from the output's, or for a gate from the number of the channel's parameter entry.
        ask = 1 + output.RESIDUAL_STAGE - ReadSignature.READ_LATENCY
        entry = delayed(m, param_row, ask, name="entry")[ask]
        residual_addr = Signal(pointer)
        request = self.residual.req
        m.d.comb += [
            residual_addr.eq(Mux(gated, entry, places[ask].map) + to_residual),
            request.valid.eq(valid[ask] & (cfg.res != ResidualOp.NONE)),
            request.payload.addr.eq(residual_addr),
            request.payload.hi.eq(Mux(gated, 1, places[ask].count)),
            request.payload.fill.eq(cfg.res_zp),
            output.residual.eq(self.residual.data),
        ]

        # --- write, or pool and write one byte
        finished = 1 + output.LATENCY
        pooled = places[finished + pool.latency]
        mapped = places[finished]
        m.d.comb += [
            pool.valid.eq(output.out_valid & cfg.gap),
            pool.q.eq(output.q),
            pool.count.eq(mapped.count),
            pool.slot.eq(mapped.slot),
            pool.first.eq(mapped.first),
            pool.last.eq(mapped.last),
        ]
        m.d.comb += [
            getattr(pool.cfg, name).eq(getattr(cfg, name)) for name in ("gap_bias", "gap_mult", "gap_shift", "gap_zp")
        ]
        write = self.result.req
        address, wanted, final = Signal(pointer), Signal(), Signal()
        with m.If(cfg.gap):
            m.d.comb += [
                wanted.eq(pool.out_valid),
                address.eq(pooled.pooled),
                write.payload.hi.eq(1),
                write.payload.data[0].eq(pool.out_q),
                final.eq(pooled.final),
            ]
        with m.Else():
            m.d.comb += [
                wanted.eq(output.out_valid),
                address.eq(mapped.map),
                write.payload.hi.eq(mapped.count),
                write.payload.data.eq(output.q),
                final.eq(mapped.final),
            ]
        ended = Signal()
        m.d.comb += [
            write.valid.eq(wanted & ~self.halt & ~self.range_error),
            write.payload.addr.eq(address),
            ended.eq(wanted & final),
            self.done.eq(delayed(m, ended, 1 + WriteSignature.WRITE_LATENCY, name="ended", reset_less=False)[-1]),
        ]

        # --- range checks (addresses count up from zero or more, so only the far end can be beyond)
        with m.If(self.param_en & (param_row >= config.param_entries)):
            m.d.comb += [self.range_error.eq(1), self.range_info.eq(param_row)]
        with m.If(request.valid & (residual_addr + request.payload.hi > config.act_bytes)):
            m.d.comb += [self.range_error.eq(1), self.range_info.eq(residual_addr)]
        with m.If(wanted & (address + write.payload.hi > config.act_bytes)):
            m.d.comb += [self.range_error.eq(1), self.range_info.eq(address)]
        return m
