"""From drained rows to the scratchpad: walks the output addresses around output stage and pooling."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from hw.delay import delayed
from hw.layouts import PARAM_LAYOUT, act_addr_width, range_width, table_layout
from hw.operand_request import POINTER_WIDTH
from hw.output_stage import OutputStage, output_config
from hw.pooled_bytes import PooledBytes
from hw.pooling import Pooling
from hw.ports import WriteSignature, read_signature, write_signature
from hw.row import sums
from hw.scratchpad import VectorAddress
from hw.segments import SegmentMask
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC, Mode, ResidualOp
from hw.window import X_WIDTH

__all__ = ["ResultWriter"]


class ResultWriter(Component):
    """Requantise rows in the order the array drains them and write them where the instruction says.

    Rows arrive as tiles do: STOS_LN by channel, block of lines, tile along the line, line; all others by block of
    channels, line, tile, channel.  Never stalls: result writes and residual reads have the highest priority.

    Of packed lines, whose segments are image lines, the pixels between two of these become the output's zero point and
    are not pooled.  A line with segments is one tile, so its lanes are its pixels.

    The writer takes the next instruction when the last row has passed its first stages, while the later stages still
    work: they carry what they need along.  After global average pooling, which has the longest way and so would meet
    the next instruction's rows at the write port, it waits until the last byte is written.  Pooled bytes beside a map
    are written behind all of it (:class:`hw.pooled_bytes.PooledBytes`).

    Parameters
    ----------
    config : AcceleratorConfig

    Attributes
    ----------
    cfg : struct of isa.EXEC, in
        The next instruction; sampled with ``start``.
    start : in
        Take it; only while ``ready``.  The first row comes in the next cycle at the earliest.
    ready : out
        High again NEXT_INSTRUCTION - 1 cycles after an instruction's last row (with pooling: after its last write).
    pooling : out
        An instruction with global average pooling is under way.
    row_valid : in
        A row of accumulators is on ``row``; ignored if no instruction expects any.
    row : sums(cols), in
    param_en, param_addr, param_data
        Parameter memory, answers in the next cycle.
    residual : ReadSignature, out
    result : WriteSignature, out
    done : out
        One cycle per instruction, in order, when its last write is visible to a read accepted in this cycle.
    done_next : out
        ``done`` of the next cycle.
    range_error : out
        An address in use lies beyond its memory; reported before the next instruction is taken.
    range_info : out
        That address.
    halt : in
        Drop rows that come now (an error has been found); those that came before are written.
    """

    NEXT_INSTRUCTION = 3
    """Cycles from an instruction's last row to the next one's first, at least (without pooling)."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "cfg": In(table_layout(EXEC)),
                "start": In(1),
                "ready": Out(1),
                "pooling": Out(1),
                "row_valid": In(1),
                "row": In(sums(config.cols)),
                "param_en": Out(1),
                "param_addr": Out(range(config.param_entries)),
                "param_data": In(PARAM_LAYOUT),
                "residual": Out(read_signature(config, config.cols)),
                "result": Out(write_signature(config, config.cols)),
                "done": Out(1),
                "done_next": Out(1),
                "range_error": Out(1),
                "range_info": Out(32),
                "halt": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the walk, the pipeline behind it, and the write mux."""
        m = Module()
        config = self.config
        rows, cols = config.rows, config.cols
        pointer = signed(POINTER_WIDTH)

        cfg = Signal.like(self.cfg, name="current")
        with m.If(self.start):
            m.d.sync += cfg.eq(self.cfg)
        lines, single, gated = Signal(), Signal(), Signal()
        with_residual = Signal()
        halved = Signal()  # computed at stride 1, every second column is kept
        kept_lanes = Mux(halved, cols // 2, cols)
        beside = Signal()  # pooled, and the map is written as well
        m.d.comb += beside.eq(cfg.gap & (cfg.res == ResidualOp.POOL))

        # --- walk: the registers describe the row that arrives next
        row_step, middle_step, outer_step = Signal(pointer), Signal(pointer), Signal(pointer)
        to_residual = Signal(pointer)
        middle_left = Signal(16)
        outer_next, middle_next = Signal(signed(18)), Signal(signed(17))  # what is left behind this block
        outer_base, middle_base, row_base, pooled_base = (
            Signal(pointer, name=name) for name in ("outer_base", "middle_base", "row_base", "pooled_base")
        )
        next_x, remaining = Signal(X_WIDTH), Signal(X_WIDTH)  # pixels before the next tile, and from this one on
        row_index = Signal(range(rows))
        param, param_row = Signal(17), Signal(17)
        first_map = Signal()  # no pixel of this block has been seen

        last_index = Signal(range(rows))  # of a tile's rows
        # Kept one row ahead, so that no comparison follows an adder.
        last_row, last_tile, last_middle, last_outer = Signal(), Signal(), Signal(), Signal()
        one_row, one_tile = Signal(), Signal()  # a tile, a line has only one

        def begin_rows(left: Value, *, single: Value | int = 0) -> None:
            one = single | (rows == 1) | (left == 1)
            m.d.sync += last_index.eq(Mux(single, 0, Mux(left < rows, left - 1, rows - 1)))
            m.d.sync += [one_row.eq(one), last_row.eq(one)]

        def begin_middle(lines: Value, left: Value) -> None:
            """Take the next lines, when `left` are still to come."""
            unit = Mux(lines, rows, 1)
            m.d.sync += [middle_left.eq(left), middle_next.eq(left - unit), last_middle.eq(left <= unit)]
            with m.If(lines):
                begin_rows(left)

        def begin_outer(lines: Value, single: Value, left: Value) -> None:
            """Take the next channels, when `left` are still to come."""
            unit = Mux(lines | single, 1, rows)
            m.d.sync += [outer_next.eq(left - unit), last_outer.eq(left <= unit)]
            with m.If(~lines):
                begin_rows(left, single=single)

        # Side by side, not nested: shorter paths.
        line_ends, block_ends = Signal(), Signal()
        m.d.comb += [line_ends.eq(last_row & last_tile), block_ends.eq(line_ends & last_middle)]
        active, row_taken = Signal(), Signal()  # rows are still to come; one is taken
        m.d.comb += row_taken.eq(self.row_valid & active & ~self.halt)
        with m.If(self.start):
            new = self.cfg
            new_lines, new_single, new_gated = _traits(new)
            m.d.sync += [
                active.eq(1),
                lines.eq(new_lines),
                single.eq(new_single),
                gated.eq(new_gated),
                with_residual.eq(new_gated | (new.res == ResidualOp.ADD)),
                row_step.eq(Mux(new_lines, new.out_pitch, new.out_cs)),
                middle_step.eq(Mux(new_lines, rows * new.out_pitch, new.out_pitch)),
                outer_step.eq(Mux(new_lines | new_single, new.out_cs, rows * new.out_cs)),
                to_residual.eq(new.res_base - Mux(new_gated, new.p_base, new.out_base)),
                remaining.eq(new.out_w),
                row_index.eq(0),
                param.eq(new.p_base),
                param_row.eq(new.p_base),
                first_map.eq(1),
            ]
            new_halved = (new.sx == 2) & (new.kw != 1) & ((new.mode == Mode.STOS_CH) | new_lines)
            new_lanes = Mux(new_halved, cols // 2, cols)
            new_one = new.out_w <= new_lanes
            m.d.sync += [halved.eq(new_halved), next_x.eq(new_lanes), one_tile.eq(new_one), last_tile.eq(new_one)]
            begin_middle(new_lines, new.out_h)
            begin_outer(new_lines, new_single, new.cout)
            m.d.sync += [base.eq(new.out_base) for base in (outer_base, middle_base, row_base, pooled_base)]
        with m.If(row_taken):
            m.d.sync += [
                row_index.eq(row_index + 1),
                last_row.eq(row_index + 1 == last_index),
                row_base.eq(row_base + row_step),
                pooled_base.eq(pooled_base + Mux(lines, 0, row_step)),
                param_row.eq(param_row + ~lines),
            ]
            with m.If(lines):
                m.d.sync += first_map.eq(0)
            with m.If(last_row):
                m.d.sync += [
                    row_index.eq(0),
                    last_row.eq(one_row),
                    next_x.eq(next_x + kept_lanes),
                    remaining.eq(remaining - kept_lanes),
                    last_tile.eq(remaining <= 2 * kept_lanes),
                    row_base.eq(middle_base + next_x),
                    pooled_base.eq(outer_base),
                    param_row.eq(param),
                    first_map.eq(0),
                ]
            with m.If(line_ends):
                next_middle = middle_base + middle_step
                begin_middle(lines, middle_next)
                m.d.sync += [
                    next_x.eq(kept_lanes),
                    remaining.eq(cfg.out_w),
                    last_tile.eq(one_tile),
                    middle_base.eq(next_middle),
                    row_base.eq(next_middle),
                ]
            with m.If(block_ends):
                next_outer = outer_base + outer_step
                next_param = param + Mux(lines, 0, last_index) + 1
                begin_middle(lines, cfg.out_h)
                begin_outer(lines, single, outer_next)
                m.d.sync += [
                    outer_base.eq(next_outer),
                    middle_base.eq(next_outer),
                    row_base.eq(next_outer),
                    pooled_base.eq(next_outer),
                    param.eq(next_param),
                    param_row.eq(next_param),
                    first_map.eq(1),
                ]
            with m.If(block_ends & last_outer):
                m.d.sync += active.eq(0)

        lines_left = Signal(16)  # this row's included
        place = data.StructLayout(
            {
                "map": pointer,
                "pooled": pointer,
                "count": range_width(cols),
                "edge": range_width(cols),  # lanes from here on hold no pixel of an image line
                "slot": range(rows),
                "first": 1,
                "last": 1,
                "final": 1,
                "gap": 1,
                "kept": 1,  # the map is written
            }
        )
        now = Signal(place)
        m.d.comb += [
            now.map.eq(row_base),
            now.pooled.eq(pooled_base),
            now.count.eq(Mux(remaining < kept_lanes, remaining, kept_lanes)),
            lines_left.eq(middle_left - Mux(lines, row_index, 0)),
            now.edge.eq(Mux(lines_left <= cfg.seg_missing, cfg.out_w - cfg.seg, now.count)),
            now.slot.eq(Mux(lines, 0, row_index)),
            now.first.eq(first_map),
            now.last.eq(last_tile & last_middle & (~lines | last_row)),
            now.final.eq(last_row & last_tile & last_middle & last_outer),
            now.gap.eq(cfg.gap),
            now.kept.eq(~cfg.gap | beside),
            self.param_en.eq(row_taken),
            self.param_addr.eq(param_row),
        ]

        # --- cycle 1: parameters answer; every second column is kept
        m.submodules.output = output = OutputStage(cols, pipeline=config.pipeline_mac)
        m.submodules.pool = pool = Pooling(cols, rows, pipeline=config.pipeline_mac)
        ask = 1 + output.RESIDUAL_STAGE - self.residual.signature.READ_LATENCY  # when to request the residual
        valid = delayed(m, row_taken, 2, name="valid", reset_less=False)
        places = delayed(m, now, 1 + output.LATENCY + pool.latency, name="place")
        row = Signal(sums(cols), reset_less=True)
        for lane in range(cols):
            even = self.row[2 * lane] if 2 * lane < cols else self.row[lane]
            m.d.sync += row[lane].eq(Mux(halved, even, self.row[lane]))
        # Addresses count up from zero or more, so only the far end can be beyond.
        target, place_beyond = places[1], Signal()
        with m.If(target.kept):
            m.d.comb += place_beyond.eq(valid[1] & (target.map + target.count > config.act_bytes))
        with m.Else():
            m.d.comb += place_beyond.eq(valid[1] & target.last & (target.pooled >= config.act_bytes))
        m.d.comb += [
            output.valid.eq(valid[1] & ~place_beyond),
            output.acc.eq(row),
            output.param.eq(self.param_data),
            *(output.cfg[name].eq(cfg[name]) for name, _ in output_config()),
        ]

        # --- residual: requested so that it answers when the output stage samples it.  Its address is at a constant
        # distance from the output's, or for a gate from the number of the channel's parameter entry.
        # With ``pipeline_mac`` its banks are found in a cycle of their own.
        begin = ask - 1 - config.pipeline_mac
        entry = delayed(m, param_row, begin, name="entry")[-1]
        address, count = Signal(pointer), Signal(range_width(cols))
        m.d.comb += [
            address.eq(Mux(gated, entry, places[begin].map) + to_residual),
            count.eq(Mux(gated, 1, places[begin].count)),
        ]
        addresses = delayed(m, address, ask - begin, name="residual_addr")
        counts = delayed(m, count, ask - begin, name="residual_bytes")
        residual_addr, request = addresses[-1], self.residual.req
        residual_beyond = Signal()
        if config.pipeline_mac:
            m.d.sync += residual_beyond.eq(addresses[-2] + counts[-2] > config.act_bytes)
            m.submodules.residual_banks = needed = VectorAddress(config, cols)
            m.d.comb += [needed.addr.eq(addresses[-2]), needed.hi.eq(counts[-2])]
            m.d.sync += request.payload.banks.eq(needed.banks)
        else:
            m.d.comb += residual_beyond.eq(residual_addr + counts[-1] > config.act_bytes)
        m.d.sync += request.valid.eq(valid[ask - 1] & with_residual)
        m.d.comb += [
            request.payload.addr.eq(residual_addr),
            request.payload.hi.eq(counts[-1]),
            request.payload.fill.eq(cfg.res_zp),
            output.residual.eq(self.residual.data),
        ]

        # --- lanes between image lines, known when the row is finished
        finished = 1 + output.LATENCY
        m.submodules.segments = segments = SegmentMask(cols, finished)
        zero_point = delayed(m, cfg.out_zp, finished, name="zero_point")[finished]
        m.d.comb += [
            segments.seg.eq(cfg.seg),
            segments.seg_gap.eq(cfg.seg_gap),
            segments.edge.eq(now.edge),
        ]

        # --- write, or pool and write one byte, or both
        pooled = places[finished + pool.latency]
        mapped = places[finished]
        m.d.comb += [
            pool.valid.eq(output.out_valid & mapped.gap),
            pool.q.eq(output.q),
            pool.used.eq(~segments.dropped),
            pool.slot.eq(mapped.slot),
            pool.first.eq(mapped.first),
            pool.last.eq(mapped.last),
        ]
        m.d.comb += [
            getattr(pool.cfg, name).eq(getattr(cfg, name)) for name in ("gap_bias", "gap_mult", "gap_shift", "gap_zp")
        ]
        m.submodules.collected = collected = PooledBytes(config)
        m.d.comb += [
            collected.valid.eq(pool.out_valid & pooled.kept),
            collected.q.eq(pool.out_q),
            collected.last.eq(pooled.final),
            collected.base.eq(cfg.res_base),
        ]
        # The next instruction waits for the last pooled byte, so no two of the three want to write at once.
        write = WriteSignature(act_addr_width(config), cols).create().req
        ended, pool_ended = Signal(), Signal()
        with m.If(pool.out_valid & ~pooled.kept):
            m.d.comb += [
                write.valid.eq(1),
                write.payload.addr.eq(pooled.pooled),
                write.payload.hi.eq(1),
                write.payload.data[0].eq(pool.out_q),
                pool_ended.eq(pooled.final),
            ]
        with m.Elif(collected.out_valid):
            m.d.comb += [
                write.valid.eq(1),
                write.payload.addr.eq(collected.out_addr),
                write.payload.hi.eq(collected.out_count),
                write.payload.data.eq(collected.out_data),
                pool_ended.eq(collected.final),
            ]
        with m.Else():
            m.d.comb += [
                write.valid.eq(output.out_valid & mapped.kept),
                write.payload.addr.eq(mapped.map),
                write.payload.hi.eq(mapped.count),
                *(
                    write.payload.data[lane].eq(Mux(segments.dropped[lane], zero_point, output.q[lane]))
                    for lane in range(cols)
                ),
                ended.eq(write.valid & mapped.final & ~mapped.gap),
            ]
        port = self.result.req
        members = write.payload.shape().members
        if config.pipeline_mac:
            m.submodules.write_banks = places_written = VectorAddress(config, cols)
            m.d.comb += [places_written.addr.eq(write.payload.addr), places_written.hi.eq(write.payload.hi)]
            m.d.sync += [port.valid.eq(write.valid), port.payload.banks.eq(places_written.banks)]
            m.d.sync += [port.payload[name].eq(write.payload[name]) for name in members]
        else:
            m.d.comb += [port.valid.eq(write.valid), *(port.payload[name].eq(write.payload[name]) for name in members)]
        visible = 1 + WriteSignature.WRITE_LATENCY + config.pipeline_mac
        written = delayed(m, ended | pool_ended, visible, name="ended", reset_less=False)
        m.d.comb += [self.done_next.eq(written[-2]), self.done.eq(written[-1])]

        # --- the next instruction: when the last row no longer needs the current one, in stages up to `ask`
        assert ask + 1 <= self.NEXT_INSTRUCTION
        m.d.comb += self.ready.eq(~active & ~(valid[1] & places[1].final) & ~self.pooling)
        with m.If(self.start):
            m.d.sync += self.pooling.eq(self.cfg.gap)
        with m.Elif(pool_ended):
            m.d.sync += self.pooling.eq(0)

        # --- range errors, the oldest row's first
        with m.If(request.valid & residual_beyond):
            m.d.comb += [self.range_error.eq(1), self.range_info.eq(residual_addr)]
        with m.Elif(place_beyond):
            m.d.comb += [self.range_error.eq(1), self.range_info.eq(Mux(target.kept, target.map, target.pooled))]
        with m.Elif(collected.beyond):
            m.d.comb += [self.range_error.eq(1), self.range_info.eq(collected.out_addr)]
        with m.Elif(self.param_en & (param_row >= config.param_entries)):
            m.d.comb += [self.range_error.eq(1), self.range_info.eq(param_row)]
        return m


def _traits(cfg: data.View) -> tuple[Value, Value, Value]:
    """Return whether an instruction's rows are lines, its tiles have a single row, and its second operand is a gate."""
    lines = cfg.mode == Mode.STOS_LN
    single = (cfg.mode == Mode.VEC) | (cfg.mode == Mode.MAX) | cfg.depthwise
    return lines, single, cfg.res == ResidualOp.SCALE
