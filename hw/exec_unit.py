"""The execute unit: checks EXEC instructions and runs them on the array."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, ValueLike, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from hw.array import Array
from hw.delay import delayed
from hw.gemm_sequencer import GemmSequencer
from hw.layouts import PARAM_LAYOUT, PC_WIDTH, pixels, table_layout
from hw.maximum import Maximum
from hw.operand_request import WEIGHT_POINTER_WIDTH, OperandRequest
from hw.ports import UnitSignature, operand_signature, read_signature, write_signature
from hw.result_writer import ResultWriter
from hw.select import select
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import EXEC, EXEC_LIMITS, Mode, ResidualOp
from hw.stos_sequencer import StosSequencer
from hw.tile_walk import TileWalk
from hw.token_queue import IN_FLIGHT_DEPTH

__all__ = ["EXEC_EVENTS", "ExecUnit", "operand_latency"]

EXEC_EVENTS = data.StructLayout({"gemm": 1, "stos": 1, "vec": 1, "port": 1, "drain": 1})
"""Per-cycle events for the performance counters of the same names."""


def operand_latency(config: AcceleratorConfig) -> int:
    """Return the cycles from a sequencer's command to the array: an operand read, or a weight read and registers."""
    return operand_signature(config).READ_LATENCY


class ExecUnit(Component):
    """Runs EXEC instructions: a sequencer feeds the array, the result writer takes its rows.

    Two instructions are under way: the *front*, checked and walked by its sequencer, and the *back*, whose rows the
    writer takes.  The front moves on to the back as soon as the writer has taken the last row of the one before; the
    next one is accepted when the front's sequencer has issued its last step and the back has taken it over.

    * Without ``overlap`` an instruction asks for its first operand in the cycle in which the last byte of the one
      before can be read, so program order alone protects the scratchpad.  With ``overlap`` it may begin at once (if all
      but the one before have been written): its steps follow those of the one before as tiles of one instruction do.
    * Its first tile may end when the rows will meet neither those of the one before nor its configuration in the
      writer.  A pooling instruction must have left the writer altogether.
    * Between GEMM and ST-OS the array changes its mode while rows drain: ST-OS loads lines behind the last activations
      of GEMM, and captures the first one when the last PE has multiplied; GEMM starts behind the last tap.
    * VEC and MAX, which use a running maximum per column (of one pixel: VEC) in place of the array, wait only for their
      turn in the writer.

    If nothing of this is in the way the first operand is asked for 5 cycles after acceptance (ST-OS: 6), with
    ``pipeline_mac`` 2 more (ST-OS: 3).  ``done`` comes in order.

    Errors (``info``): BAD_FIELD, a field's value is illegal (that value); MEM_RANGE, a byte, weight word or parameter
    entry in use lies beyond its memory (its address; of a vector, byte 0's).  What was written before stays.
    Instructions before the faulty one are finished before its error is reported.

    Parameters
    ----------
    config : AcceleratorConfig

    Attributes
    ----------
    unit : UnitSignature, out
    operand : operand_signature, out
    residual : ReadSignature, out
        Of ``cols`` lanes, always granted.
    result : WriteSignature, out
        Always granted.
    weight_en, weight_addr, weight_data
        Weight memory; ``rows`` lanes, answers in the next cycle.
    param_en, param_addr, param_data
        Parameter memory; answers in the next cycle.
    events : EXEC_EVENTS, out
        ``port`` a cycle late.
    flush : in
        Clear the array, which has no reset; high for :func:`hw.control.flush_cycles` after every reset.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "unit": Out(UnitSignature()),
                "operand": Out(operand_signature(config)),
                "residual": Out(read_signature(config, config.cols)),
                "result": Out(write_signature(config, config.cols)),
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
        packed = cfg.seg != 0
        masked = packed & ((cfg.seg_gap != 0) | (cfg.seg_missing != 0))
        faults += [(~packed & (cfg[name] != 0), cfg[name]) for name in ("fold", "seg_gap", "seg_missing")]
        faults += [
            (cfg.fold & ~stos, cfg.fold),
            (masked & (cfg.sx != 1), cfg.sx),
            (masked & (cfg.out_w > self.config.cols), cfg.out_w),
            (masked & (cfg.seg > cfg.out_w), cfg.seg),
            (packed & (cfg.seg_gap >= cfg.seg), cfg.seg_gap),
            (cfg.seg_missing > cfg.out_h, cfg.seg_missing),
            ((cfg.res == ResidualOp.POOL) & ~cfg.gap, cfg.res),
        ]
        return faults

    def elaborate(self, platform: object) -> Module:
        """Build control, operand alignment and error reporting around the sequencers, the array and the writer."""
        m = Module()
        config, unit = self.config, self.unit
        layout = table_layout(EXEC)
        latency = operand_latency(config)
        m.submodules.array = array = Array(config)
        m.submodules.gemm = gemm = GemmSequencer(config)
        m.submodules.writer = writer = ResultWriter(config)

        # --- front: the instruction whose steps are issued, the newest one
        cfg, pc = Signal(layout), Signal(PC_WIDTH)
        direct, is_stos = Signal(), Signal()  # direct: past the array
        m.d.comb += [gemm.cfg.eq(cfg), writer.cfg.eq(cfg)]
        accept, start, running, active = Signal(), Signal(), Signal(), Signal()
        idle, checking = Signal(), Signal()
        illegal, illegal_value = Signal(), Signal(32)
        handed = Signal()  # the front is the back too
        failing = Signal()  # an error has been found
        ready = Signal()
        free = idle | (running & ~active & handed)
        if config.pipeline_mac:
            m.d.sync += ready.eq(free & ~accept)
        else:
            m.d.comb += ready.eq(free)
        m.d.comb += [
            unit.instr.ready.eq(ready & ~failing & ~unit.abort),
            accept.eq(unit.instr.valid & unit.instr.ready),
        ]
        # What is to be known of an instruction in its first cycle is found while it is still offered.
        new = data.View(layout, unit.instr.payload.word[: layout.size])
        faults = self._faults(cfg)
        found = Signal(len(faults))  # bit i: fault i
        for index, (_, value) in reversed(list(enumerate(faults))):
            with m.If(found[index]):
                m.d.comb += illegal_value.eq(value)
        forbidden = Cat(condition for condition, _ in self._faults(new))
        with m.If(accept):
            m.d.sync += [
                cfg.eq(new),
                pc.eq(unit.instr.payload.pc),
                found.eq(forbidden),
                illegal.eq(forbidden.any()),
                direct.eq((new.mode == Mode.VEC) | (new.mode == Mode.MAX)),
                is_stos.eq((new.mode == Mode.STOS_CH) | (new.mode == Mode.STOS_LN)),
            ]
        with m.FSM(name="front"):
            with m.State("IDLE"):
                m.d.comb += idle.eq(1)
                with m.If(accept):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += [checking.eq(1), start.eq(~illegal)]
                m.next = "RUN"
                with m.If(illegal):
                    m.next = "FAILED"
            with m.State("RUN"):
                m.d.comb += running.eq(1)
                with m.If(~active & handed):
                    m.next = "IDLE"
                with m.If(accept):
                    m.next = "CHECK"
            with m.State("FAILED"):
                pass

        # --- back: the instruction whose rows the writer takes
        back_pc = Signal(PC_WIDTH)
        m.d.comb += writer.start.eq((start | running) & ~handed & ~failing & writer.ready)
        with m.If(accept):
            m.d.sync += handed.eq(0)
        with m.Elif(writer.start):
            m.d.sync += [handed.eq(1), back_pc.eq(pc)]

        # --- unfinished instructions: the newest, and how many before it
        busy, older = Signal(), Signal(range(IN_FLIGHT_DEPTH))
        reported, done = Signal(), Signal()
        m.d.comb += done.eq(writer.done & ~reported)
        with m.If(accept):
            m.d.sync += [busy.eq(1), older.eq(older + busy - done)]
        with m.Elif(done & (older != 0)):
            m.d.sync += older.eq(older - 1)
        with m.Elif(done):
            m.d.sync += busy.eq(0)

        # --- when the front may begin, and end its first tile
        fresh = Signal()  # no tile has ended
        registered = int(config.pipeline_mac)  # rows reach the writer by a register
        due = Signal(range(array.LATENCY_GEMM + config.rows + latency + writer.NEXT_INSTRUCTION + registered))
        array_stos = Signal()  # the array's mode, for steps issued now
        passing = Signal(range(config.rows + config.cols))  # cycles until the last GEMM step has passed all PEs
        moving = Signal()  # these are not 0
        unfinished = Signal.like(older)  # EXECs before the front whose bytes cannot be read in the next cycle
        turned, waits = Signal(), Signal()  # the array takes the front's mode; will not have it in the next cycle
        hold, hold_end = Signal(), Signal()
        m.d.comb += [
            unfinished.eq(older - done - writer.done_next),
            turned.eq(running & ~direct & (~is_stos | (passing <= config.rows))),
            waits.eq(~direct & ~turned & (array_stos != is_stos)),
        ]
        # Registered: the first step comes some cycles after acceptance.
        m.d.sync += hold.eq(Mux(cfg.overlap, unfinished > 1, unfinished != 0) | waits)
        m.d.comb += [
            gemm.hold.eq(hold),
            gemm.hold_end.eq(hold_end),
        ]
        m.d.comb += [
            unit.idle.eq(~busy | unit.abort | reported),
            unit.done.eq(done),
            gemm.start.eq(start & ~is_stos),
        ]

        # --- sequencer of the mode
        weight_en, weight_addr = Signal(), Signal(WEIGHT_POINTER_WIDTH)
        weight_asked = Signal()  # high with weight_en, if not before: whether the step is granted is left out
        lane, one_lane = Signal(range(config.rows)), Signal()
        last, tile_rows = Signal(), Signal(range(config.rows + 1))
        drain_wait = Signal()
        m.submodules.requests = requests = OperandRequest(config)
        m.submodules.tiles = tiles = TileWalk(config)
        connect(m, requests.operand, flipped(self.operand))
        m.d.comb += [
            requests.in_w.eq(cfg.in_w),
            requests.in_zp.eq(cfg.in_zp),
            requests.window.eq(is_stos),
            tiles.cfg.eq(cfg),
            gemm.place.eq(tiles.place),
            gemm.answer.eq(tiles.answer),
            gemm.port.step.eq(requests.port.step),
            gemm.steps.ready.eq(requests.steps.ready),
        ]
        request = self.operand.req

        def use(sequencer: GemmSequencer | StosSequencer, weights: ValueLike, asked: ValueLike) -> None:
            m.d.comb += [
                tiles.walk.eq(sequencer.walk),
                requests.steps.valid.eq(sequencer.steps.valid),
                requests.steps.payload.eq(sequencer.steps.payload),
                requests.strided.eq(sequencer.strided),
                requests.admit.eq(sequencer.admit),
                sequencer.port.waiting.eq(requests.port.waiting),
                sequencer.port.issued.eq(requests.port.issued),
                sequencer.port.busy.eq(requests.port.busy),
                weight_en.eq(weights),
                weight_asked.eq(asked),
                weight_addr.eq(sequencer.weight_addr),
                lane.eq(sequencer.lane),
                one_lane.eq(sequencer.one_lane),
                last.eq(sequencer.last & weights),
                tile_rows.eq(sequencer.tile_rows),
                active.eq(sequencer.active),
                drain_wait.eq(sequencer.drain_wait),
            ]

        if config.stos:
            m.submodules.stos_sequencer = stos = StosSequencer(config)
            m.d.comb += [
                stos.cfg.eq(cfg),
                stos.place.eq(tiles.place),
                stos.answer.eq(tiles.answer),
                stos.port.step.eq(requests.port.step),
                stos.steps.ready.eq(requests.steps.ready),
                stos.start.eq(start & is_stos),
                stos.hold.eq(hold),
                stos.hold_end.eq(hold_end),
                stos.hold_capture.eq(moving),
            ]
            with m.If(is_stos):
                use(stos, stos.tap, stos.tap)
            with m.Else():
                use(gemm, gemm.issue & ~direct, requests.port.waiting & ~direct)
            m.d.comb += [
                array.stos.eq(delayed(m, array_stos, latency, name="array_stos", reset_less=False)[-1]),
                array.v_en.eq(delayed(m, stos.load, latency, name="v_en", reset_less=False)[-1]),
                array.capture.eq(delayed(m, stos.capture, latency, name="capture", reset_less=False)[-1]),
            ]
        else:
            use(gemm, gemm.issue & ~direct, requests.port.waiting & ~direct)

        # --- rows under way: `due` counts the cycles until a row of another instruction may enter the writer.  Counted
        # from the issue of its last step a tile's rows come there from cycle `first` (ST-OS: that of a full tile, and
        # counted from the capture) to cycle `final`.
        gemm_first = latency + array.LATENCY_GEMM + registered
        stos_final = latency + array.LATENCY_STOS + registered
        direct_first = latency + Maximum.LATENCY + registered
        tile_first, tile_final = Signal(range(gemm_first + config.max_kernel + 3)), Signal.like(due)
        with m.If(direct):
            m.d.comb += [tile_first.eq(direct_first), tile_final.eq(direct_first)]
        with m.Elif(is_stos):
            m.d.comb += [tile_first.eq(stos_final - (config.rows - 1) + cfg.kw), tile_final.eq(stos_final)]
        with m.Else():
            m.d.comb += [tile_first.eq(gemm_first), tile_final.eq(gemm_first - 1 + tile_rows)]
        tile_ends = Signal()
        m.d.comb += tile_ends.eq(last | (gemm.issue & gemm.last & direct))
        # Registered: the first step comes some cycles after `start`, and until the first tile ends `due` counts down.
        m.d.sync += hold_end.eq(fresh & ((due > tile_first + 1) | (writer.pooling & ~handed)))
        with m.If(tile_ends):
            m.d.sync += [due.eq(tile_final + (writer.NEXT_INSTRUCTION - 1)), fresh.eq(0)]
        with m.Elif(due != 0):
            m.d.sync += due.eq(due - 1)
        with m.If(start):
            m.d.sync += fresh.eq(1)
        # The array's mode: a GEMM step passes column 0's first PE at once, the last PE rows + cols - 2 cycles later.
        with m.If(gemm.issue & ~direct):
            m.d.sync += [passing.eq(config.rows + config.cols - 2), moving.eq(config.rows + config.cols > 2)]
        with m.Elif(moving):
            m.d.sync += [passing.eq(passing - 1), moving.eq(passing != 1)]
        with m.If(turned):
            m.d.sync += array_stos.eq(is_stos)

        # --- weights: memory, then a register that is zero when no step is under way
        # A word read in vain is not waited for; with ``pipeline_mac`` the grant comes too late for the memory.
        weight_read = weight_asked if config.pipeline_mac else weight_en
        m.d.comb += [self.weight_en.eq(weight_read), self.weight_addr.eq(weight_addr)]
        waited = latency - 1  # cycles from the command to the word
        word = delayed(m, self.weight_data, waited - 1, name="word")[-1]
        word_there = delayed(m, weight_en, waited, name="word_there", reset_less=False)[-1]
        word_lane = delayed(m, lane, waited, name="word_lane")[-1]
        word_one = delayed(m, one_lane, waited, name="word_one")[-1]
        word_stos = delayed(m, array_stos, waited, name="word_stos")[-1]
        one = Signal(signed(8))
        m.d.comb += one.eq(select(word_lane, [word[row] for row in range(config.rows)]))
        selected = Signal(pixels(config.rows))
        m.d.comb += selected.eq(word)
        with m.If(word_one):
            m.d.comb += selected[0].eq(one)  # depthwise GEMM needs its lane in row 0 only
            if config.stos:
                with m.If(word_stos):
                    m.d.comb += selected.eq(one.replicate(config.rows))
        weights = Signal(pixels(config.rows))
        with m.If(word_there):
            m.d.sync += weights.eq(selected)
        with m.Else():
            m.d.sync += weights.eq(0)
        m.d.comb += [
            array.w.eq(weights),
            array.a.eq(self.operand.data),
            array.last.eq(delayed(m, last, latency, name="last", reset_less=False)[-1]),
            array.tile_rows.eq(delayed(m, tile_rows, latency, name="tile_rows")[-1]),
            array.flush.eq(self.flush),
        ]

        # --- rows: from the array, or past it
        m.submodules.maximum = maximum = Maximum(config.cols)
        m.d.comb += [
            maximum.valid.eq(delayed(m, gemm.issue & direct, latency, name="taken", reset_less=False)[-1]),
            maximum.last.eq(delayed(m, gemm.last, latency, name="ends")[-1]),
        ]
        # Rows of two instructions are apart, so at most one of the two is there.
        domain = m.d.sync if registered else m.d.comb
        m.d.comb += [array.bypass.eq(maximum.out), array.bypass_valid.eq(maximum.out_valid)]
        domain += [writer.row_valid.eq(array.out_valid), writer.row.eq(array.out)]
        for column in range(config.cols):
            m.d.comb += maximum.pixels[column].eq(self.operand.data[config.halo + column])
        connect(m, writer.residual, flipped(self.residual))
        connect(m, writer.result, flipped(self.result))
        m.d.comb += [
            self.param_en.eq(writer.param_en),
            self.param_addr.eq(writer.param_addr),
            writer.param_data.eq(self.param_data),
        ]

        # --- errors: one of the back counts more than one of the front, if that is a later instruction
        older_fails = Signal()  # the error is the back's, and the front is a later instruction
        halted = Signal()
        m.d.comb += halted.eq(unit.abort | (failing & (handed | older_fails)))
        beyond = running & requests.range_error
        weight_beyond = weight_en & (weight_addr >= config.weight_words)
        error = data.StructLayout({"valid": 1, "cause": ErrorCause, "pc": PC_WIDTH, "info": 32})
        front_error, back_error = Signal(error), Signal(error)
        later = Signal()  # the front is a later instruction than the back
        # With ``pipeline_mac`` a cycle late.  In that cycle rows are dropped already, and no instruction is accepted so
        # soon behind the front's last step; but an instruction may be accepted, or handed on, behind the back's row.
        found_in = m.d.sync if config.pipeline_mac else m.d.comb
        m.d.comb += writer.halt.eq(halted | back_error.valid if config.pipeline_mac else halted)
        found_in += [
            back_error.valid.eq(writer.range_error),
            back_error.cause.eq(ErrorCause.MEM_RANGE),
            back_error.pc.eq(back_pc),
            back_error.info.eq(writer.range_info),
            later.eq(~handed | accept),
            front_error.valid.eq((checking & illegal) | beyond | weight_beyond),
            front_error.cause.eq(Mux(checking, ErrorCause.BAD_FIELD, ErrorCause.MEM_RANGE)),
            front_error.pc.eq(pc),
            front_error.info.eq(Mux(checking, illegal_value, Mux(beyond, request.payload.addr, weight_addr))),
        ]
        with m.If(back_error.valid & ~halted):
            m.d.sync += [
                failing.eq(1),
                older_fails.eq(later | accept),
                unit.error.cause.eq(back_error.cause),
                unit.error.pc.eq(back_error.pc),
                unit.error.info.eq(back_error.info),
            ]
        with m.Elif(~failing):
            m.d.sync += [
                failing.eq(front_error.valid),
                unit.error.cause.eq(front_error.cause),
                unit.error.pc.eq(front_error.pc),
                unit.error.info.eq(front_error.info),
            ]
        m.d.comb += [
            reported.eq(failing & (older == older_fails)),
            unit.error.valid.eq(reported),
        ]

        refused = Signal()
        m.d.comb += [
            self.events.gemm.eq(busy & ~is_stos & ~direct),
            self.events.stos.eq(busy & is_stos),
            self.events.vec.eq(busy & direct),
            self.events.port.eq(refused),
            self.events.drain.eq(busy & ~checking & (drain_wait | ~active)),
        ]
        # A cycle late, so that the scratchpad's grant ends here.
        m.d.sync += [
            refused.eq(request.valid & ~request.ready),
            unit.progress.eq((request.valid & request.ready) | weight_en | writer.row_valid | start | unit.done),
        ]
        return m
