"""The execute unit: checks EXEC instructions and runs them on the array."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, ValueLike, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from hw.array import Array
from hw.delay import delayed
from hw.gemm_sequencer import GemmSequencer
from hw.layouts import PARAM_LAYOUT, PC_WIDTH, act_addr_width, pixels, table_layout
from hw.maximum import Maximum
from hw.operand_request import WEIGHT_POINTER_WIDTH
from hw.ports import ReadSignature, UnitSignature, WriteSignature
from hw.result_writer import ResultWriter
from hw.select import select
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import EXEC, EXEC_LIMITS, Activation, Mode, ResidualOp
from hw.stos_sequencer import StosSequencer

__all__ = ["EXEC_EVENTS", "ExecUnit"]

EXEC_EVENTS = data.StructLayout({"gemm": 1, "stos": 1, "vec": 1, "port": 1, "drain": 1})
"""Per-cycle events for the performance counters of the same names."""

OPERAND_LATENCY = ReadSignature.READ_LATENCY
"""Cycles from a sequencer's command to its effect at the array: an operand read, or a weight read and a register."""


class ExecUnit(Component):
    """Runs EXEC instructions one after another: a sequencer feeds the array, the result writer takes its rows.

    An instruction starts when the one before has written its last byte, so program order alone protects the
    scratchpad between EXECs.  Its first operand is asked for 5 cycles after it was accepted (ST-OS: 6).  VEC and MAX
    use a running maximum per column (of one pixel: VEC) in place of the array.

    Errors (``info``): BAD_FIELD, a field's value is illegal (that value); MEM_RANGE, a byte, weight word or parameter
    entry in use lies beyond its memory (its address; of a vector, lane 0's).  What was written before stays.

    Parameters
    ----------
    config : AcceleratorConfig

    Attributes
    ----------
    unit : UnitSignature, out
    operand, residual : ReadSignature, out
        Array operand (``read_lanes`` lanes) and residual (``cols`` lanes, always granted).
    result : WriteSignature, out
        Always granted.
    weight_en, weight_addr, weight_data
        Weight memory; ``rows`` lanes, answers in the next cycle.
    param_en, param_addr, param_data
        Parameter memory; answers in the next cycle.
    events : EXEC_EVENTS, out
    flush : in
        Clear the array, which has no reset; high for :func:`hw.control.flush_cycles` after every reset.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        addr_width = act_addr_width(config)
        super().__init__(
            {
                "unit": Out(UnitSignature()),
                "operand": Out(ReadSignature(addr_width, config.read_lanes)),
                "residual": Out(ReadSignature(addr_width, config.cols)),
                "result": Out(WriteSignature(addr_width, config.cols)),
                "weight_en": Out(1),
                "weight_addr": Out(range(config.weight_words)),
                "weight_data": In(pixels(config.rows)),
                "param_en": Out(1),
                "param_addr": Out(range(config.param_entries)),
                "param_data": In(PARAM_LAYOUT),
                "events": Out(EXEC_EVENTS),
                "flush": In(1),
            }
        )

    def _faults(self, cfg: data.View) -> list[tuple[ValueLike, ValueLike]]:
        """Return what isa.EXEC forbids on this configuration, in the order of report: (condition, offending value)."""
        stos = (cfg.mode == Mode.STOS_CH) | (cfg.mode == Mode.STOS_LN)
        gemm = cfg.mode == Mode.GEMM
        kernel = Mux(cfg.mode == Mode.VEC, 1, self.config.max_kernel)
        faults: list[tuple[ValueLike, ValueLike]] = [] if self.config.stos else [(stos, cfg.mode)]
        faults.append((cfg.depthwise & ~gemm, cfg.depthwise))
        faults += [((cfg[name] == 0) | (cfg[name] > kernel), cfg[name]) for name in ("kh", "kw")]
        for name, (low, high) in EXEC_LIMITS.items():
            below = (cfg[name] < low) if low else Const(0)
            faults.append((below if high is None else below | (cfg[name] > high), cfg[name]))
        faults.append((gemm & ~cfg.depthwise & (cfg.cin == 0), cfg.cin))
        faults.append(((cfg.act != Activation.NONE) & (cfg.res == ResidualOp.SCALE), cfg.act))
        return faults

    def elaborate(self, platform: object) -> Module:
        """Build control, operand alignment and error reporting around the sequencers, the array and the writer."""
        m = Module()
        config, unit = self.config, self.unit
        layout = table_layout(EXEC)
        m.submodules.array = array = Array(config)
        m.submodules.gemm = gemm = GemmSequencer(config)
        m.submodules.writer = writer = ResultWriter(config)

        # --- instruction
        cfg, pc = Signal(layout), Signal(PC_WIDTH)
        direct, is_stos = Signal(), Signal()  # direct: past the array
        m.d.comb += [
            direct.eq((cfg.mode == Mode.VEC) | (cfg.mode == Mode.MAX)),
            is_stos.eq((cfg.mode == Mode.STOS_CH) | (cfg.mode == Mode.STOS_LN)),
            gemm.cfg.eq(cfg),
            writer.cfg.eq(cfg),
        ]
        failed = Signal()
        start, idle, running = Signal(), Signal(), Signal()
        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.comb += [idle.eq(1), unit.instr.ready.eq(~unit.abort & ~failed)]
                with m.If(unit.instr.valid & unit.instr.ready):
                    m.d.sync += [cfg.eq(unit.instr.payload.word), pc.eq(unit.instr.payload.pc)]
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += start.eq(1)
                m.next = "RUN"
                for illegal, value in reversed(self._faults(cfg)):
                    with m.If(illegal):
                        m.d.comb += start.eq(0)
                        m.d.sync += [failed.eq(1), unit.error.cause.eq(ErrorCause.BAD_FIELD), unit.error.info.eq(value)]
                        m.next = "IDLE"
            with m.State("RUN"):
                m.d.comb += running.eq(1)
                with m.If(writer.done):
                    m.d.comb += unit.done.eq(~failed)
                    m.next = "IDLE"
                with m.If(failed):
                    m.next = "IDLE"
        m.d.comb += [
            unit.idle.eq(idle | unit.abort | failed),
            unit.error.valid.eq(failed),
            unit.error.pc.eq(pc),
            gemm.start.eq(start & ~is_stos),
            writer.start.eq(start),
            writer.halt.eq(failed | unit.abort),
        ]

        # --- sequencer of the mode
        weight_en, weight_addr = Signal(), Signal(WEIGHT_POINTER_WIDTH)
        lane, one_lane = Signal(range(config.rows)), Signal()
        last, tile_rows = Signal(), Signal(range(config.rows + 1))
        active, range_error = Signal(), Signal()
        request = self.operand.req

        def use(sequencer: GemmSequencer | StosSequencer, weights: ValueLike) -> None:
            m.d.comb += [
                request.valid.eq(sequencer.operand.req.valid),
                request.payload.eq(sequencer.operand.req.payload),
                sequencer.operand.req.ready.eq(request.ready),
                weight_en.eq(weights),
                weight_addr.eq(sequencer.weight_addr),
                lane.eq(sequencer.lane),
                one_lane.eq(sequencer.one_lane),
                last.eq(sequencer.last & weights),
                tile_rows.eq(sequencer.tile_rows),
                active.eq(sequencer.active),
                range_error.eq(sequencer.range_error),
            ]

        if config.stos:
            m.submodules.stos = stos = StosSequencer(config)
            m.d.comb += [stos.cfg.eq(cfg), stos.start.eq(start & is_stos)]
            with m.If(is_stos):
                use(stos, stos.tap)
            with m.Else():
                use(gemm, gemm.issue & ~direct)
            m.d.comb += [
                array.stos.eq(is_stos),
                array.v_en.eq(delayed(m, stos.load, OPERAND_LATENCY, name="v_en", reset_less=False)[-1]),
                array.capture.eq(delayed(m, stos.capture, OPERAND_LATENCY, name="capture", reset_less=False)[-1]),
            ]
        else:
            use(gemm, gemm.issue & ~direct)

        # --- weights: memory, then a register that is zero when no step is under way
        m.d.comb += [self.weight_en.eq(weight_en), self.weight_addr.eq(weight_addr)]
        word_there = delayed(m, weight_en, 1, name="word_there", reset_less=False)[1]
        word_lane = delayed(m, lane, 1, name="word_lane")[1]
        word_one = delayed(m, one_lane, 1, name="word_one")[1]
        one = Signal(signed(8))
        m.d.comb += one.eq(select(word_lane, [self.weight_data[row] for row in range(config.rows)]))
        selected = Signal(pixels(config.rows))
        m.d.comb += selected.eq(self.weight_data)
        with m.If(word_one):
            m.d.comb += selected[0].eq(one)  # depthwise GEMM needs its lane in row 0 only
            if config.stos:
                with m.If(is_stos):
                    m.d.comb += selected.eq(one.replicate(config.rows))
        weights = Signal(pixels(config.rows))
        with m.If(word_there):
            m.d.sync += weights.eq(selected)
        with m.Else():
            m.d.sync += weights.eq(0)
        m.d.comb += [
            array.w.eq(weights),
            array.a.eq(self.operand.data),
            array.last.eq(delayed(m, last, OPERAND_LATENCY, name="last", reset_less=False)[-1]),
            array.tile_rows.eq(delayed(m, tile_rows, OPERAND_LATENCY, name="tile_rows")[-1]),
            array.flush.eq(self.flush),
        ]

        # --- rows: from the array, or past it
        m.submodules.maximum = maximum = Maximum(config.cols)
        m.d.comb += [
            maximum.valid.eq(delayed(m, gemm.issue & direct, OPERAND_LATENCY, name="taken", reset_less=False)[-1]),
            maximum.last.eq(delayed(m, gemm.last, OPERAND_LATENCY, name="ends")[-1]),
            writer.row_valid.eq(Mux(direct, maximum.out_valid, array.out_valid)),
        ]
        for column in range(config.cols):
            m.d.comb += [
                maximum.pixels[column].eq(self.operand.data[config.halo + column]),
                writer.row[column].eq(Mux(direct, maximum.out[column], array.out[column])),
            ]
        connect(m, writer.residual, flipped(self.residual))
        connect(m, writer.result, flipped(self.result))
        m.d.comb += [
            self.param_en.eq(writer.param_en),
            self.param_addr.eq(writer.param_addr),
            writer.param_data.eq(self.param_data),
        ]

        # --- errors while running
        with m.If(running & ~failed):
            m.d.sync += unit.error.cause.eq(ErrorCause.MEM_RANGE)
            with m.If(range_error):
                m.d.sync += [failed.eq(1), unit.error.info.eq(request.payload.addr)]
            with m.Elif(weight_en & (weight_addr >= config.weight_words)):
                m.d.sync += [failed.eq(1), unit.error.info.eq(weight_addr)]
            with m.Elif(writer.range_error):
                m.d.sync += [failed.eq(1), unit.error.info.eq(writer.range_info)]

        m.d.comb += [
            self.events.gemm.eq(~idle & ~is_stos & ~direct),
            self.events.stos.eq(~idle & is_stos),
            self.events.vec.eq(~idle & direct),
            self.events.port.eq(request.valid & ~request.ready),
            self.events.drain.eq(running & (gemm.drain_wait | ~active)),
            unit.progress.eq((request.valid & request.ready) | weight_en | writer.row_valid | start | unit.done),
        ]
        return m
