"""Control: registers, fetch, token queues, counters, and the state machine that starts, stops and recovers."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.axi import AXI4LiteSignature, AXI4ReadSignature
from hw.counters import EVENTS, PerformanceCounters
from hw.csr_block import DATA_WIDTH, CSRBlock
from hw.delay import delayed
from hw.fetch import Fetcher
from hw.layouts import PC_WIDTH, REGIONS_LAYOUT, table_layout
from hw.ports import ErrorSignature, UnitSignature
from hw.shared import shared
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import CSR_ADDR_WIDTH, REGISTERS, Counter, ErrorCause
from hw.spec.isa import Queue
from hw.token_queue import TokenCounters, TokenQueue

__all__ = ["UNITS", "Control", "flush_cycles"]

UNITS = {queue: queue.name.lower() for queue in Queue}
"""Queue to the name of its unit in members and ports."""

_STATUS = table_layout(REGISTERS["STATUS"].fields)


def flush_cycles(config: AcceleratorConfig) -> int:
    """Cycles of reset after which nothing old is left in the array, whose PEs have no reset of their own."""
    return config.rows + config.cols + 16


class Control(wiring.Component):
    """Everything but the units and the memories.

    States: *flush* (after hard reset, and at the end of a soft reset, for :func:`flush_cycles` cycles: units, queues
    and fetcher are held in reset), *idle*, *run*, *error* (units are told to abort; left by soft reset only), *drain*
    (soft reset: waits until no bus transfer is open).  STATUS.resetting is 1 in drain and flush.  A start is ignored
    except in idle; a soft reset is accepted in every state but drain and flush.  A bus that never answers an open
    transfer keeps the accelerator in drain, since AXI allows no way to withdraw one.

    The first error of a run is kept: in one cycle the fetcher's comes before load's, execute's, store's, then
    TOKEN_OVERFLOW (pc of the instruction that gave the token; info: receiving queue), DEADLOCK (pc of the first
    waiting instruction in queue order; info: bits 3q+2..3q are the tokens that queue q's head misses) and WATCHDOG
    (pc of the oldest instruction in flight in the first busy queue, else of the fetcher; info: mask of busy queues).

    Parameters
    ----------
    config
        The accelerator's configuration.

    Members
    -------
    axil : In(AXI4LiteSignature)
    irq : Out(1)
    axi : Out(AXI4ReadSignature)
        Instruction fetch.
    regions : Out(REGIONS_LAYOUT)
        For the load and store units; constant while they work.
    load, exec, store : In(UnitSignature)
        To the units.
    load_events, exec_events, store_events : In(struct)
        Their counter events.
    unit_reset : Out(1)
        Synchronous reset of the units; also high in the first cycles after a hard reset.
    trace_load_start, trace_load_pc, trace_load_done, ... : Out
        One cycle after the fact: an instruction was handed to the unit, its index, the oldest one was finished.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        members = {
            "axil": In(AXI4LiteSignature(CSR_ADDR_WIDTH, DATA_WIDTH)),
            "irq": Out(1),
            "axi": Out(AXI4ReadSignature(config.axi_addr_width, config.axi_data_width)),
            "regions": Out(REGIONS_LAYOUT),
            "unit_reset": Out(1),
        }
        for queue, name in UNITS.items():
            members |= {
                name: In(UnitSignature()),
                f"{name}_events": In(EVENTS[queue]),
                f"trace_{name}_start": Out(1),
                f"trace_{name}_pc": Out(PC_WIDTH),
                f"trace_{name}_done": Out(1),
            }
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        soft = ResetInserter(self.unit_reset)
        m.submodules.csr = self._csr = CSRBlock(self.config)
        m.submodules.counter_bank = self._counters = PerformanceCounters()
        self._fetch, self._tokens = Fetcher(self.config), TokenCounters()
        self._queues = {queue: shared(platform, TokenQueue, pipeline=self.config.pipeline_mac) for queue in Queue}
        m.submodules.fetch = soft(self._fetch)
        m.submodules.tokens = soft(self._tokens)
        for queue, name in UNITS.items():
            m.submodules[f"{name}_queue"] = self._queues[queue]
            m.d.comb += self._queues[queue].clear.eq(self.unit_reset)

        run, begin, abort, finished = Signal(), Signal(), Signal(), Signal()
        quiet, empty, units_idle, failing = Signal(), Signal(), Signal(), Signal()
        failure = ErrorSignature().create()
        m.d.comb += [
            quiet.eq(self._fetch.idle & units_idle),
            empty.eq(Cat(queue.empty & ~queue.busy for queue in self._queues.values()).all()),
            # A unit without an instruction in flight is idle.
            finished.eq(run & self._fetch.idle & empty & self._fetch.halted & ~failing),
            self.irq.eq(self._csr.irq),
        ]
        # A cycle late: what is accepted in the cycle before an abort begins no transfer.
        m.d.sync += units_idle.eq(Cat(getattr(self, name).idle for name in UNITS.values()).all())
        m.d.sync += self._csr.locked.eq(begin | run | ~quiet)
        self._connect(m, begin, abort)
        self._detect(m, run, failure, failing)
        self._sequence(m, run, begin, abort, finished, quiet, failure)
        self._count(m, run, begin, finished)
        return m

    def _connect(self, m: Module, begin: Signal, abort: Signal) -> None:
        """Wire registers, fetcher, queues, token counters and unit ports together."""
        csr, fetch, tokens = self._csr, self._fetch, self._tokens
        connect(m, flipped(self.axil), csr.axil)
        connect(m, fetch.axi, flipped(self.axi))
        m.d.comb += [
            self.regions.eq(csr.regions),
            fetch.regions.eq(csr.regions),
            fetch.offset.eq(csr.values.PROG_OFFSET),
            fetch.count.eq(csr.values.PROG_COUNT),
            fetch.start.eq(begin),
            fetch.abort.eq(abort),
            tokens.clear.eq(begin),
        ]
        for queue, name in UNITS.items():
            unit, port = getattr(self, name), self._queues[queue]
            connect(m, getattr(fetch, name), port.enq)
            started = unit.instr.valid & unit.instr.ready
            m.d.comb += [
                unit.instr.payload.eq(port.issue.payload),
                unit.instr.valid.eq(port.issue.valid),
                port.issue.ready.eq(unit.instr.ready),
                unit.abort.eq(abort),
                port.done.eq(unit.done),
                port.hold.eq(abort),
                port.available.eq(tokens.available[queue]),
                tokens.take[queue].eq(port.take),
                tokens.give[queue].eq(port.give),
            ]
            m.d.sync += [
                getattr(self, f"trace_{name}_start").eq(started),
                getattr(self, f"trace_{name}_pc").eq(port.issue.payload.pc),
                getattr(self, f"trace_{name}_done").eq(unit.done),
            ]

    def _detect(self, m: Module, run: Signal, failure: wiring.PureInterface, failing: Signal) -> None:
        """Gather the errors of all parts into `failure`, first in the documented order.

        With ``pipeline_mac`` it is a cycle late.  `failing` is not: it tells that a run in which nothing is left to do
        has failed.  No part that reports an error itself has then finished, so only what control finds is in it.
        """
        queues = list(self._queues.values())
        units = [getattr(self, name) for name in UNITS.values()]
        busy = Cat(queue.busy for queue in queues)
        missing = Cat(queue.missing for queue in queues)

        stuck = Signal()
        no_way_on = Cat(
            ~queue.busy & unit.idle & (queue.empty | queue.missing.any())
            for queue, unit in zip(queues, units, strict=True)
        ).all()
        awaited, waiting = Signal.like(missing), Signal(len(queues))  # when that was seen
        m.d.sync += [
            stuck.eq(run & self._fetch.stalled & missing.any() & no_way_on),
            awaited.eq(missing),
            waiting.eq(Cat(queue.missing.any() for queue in queues)),
        ]

        quiet_cycles, limit = Signal(32), self._csr.values.WATCHDOG
        moved = Signal()
        m.d.sync += moved.eq(~run | self._fetch.progress | Cat(unit.progress | unit.done for unit in units).any())
        with m.If(moved):
            m.d.sync += quiet_cycles.eq(0)
        with m.Else():
            m.d.sync += quiet_cycles.eq(quiet_cycles + 1)
        expired: Value = (limit != 0) & (quiet_cycles >= limit)
        if self.config.pipeline_mac:
            expired_before = Signal()
            m.d.sync += expired_before.eq(run & ~moved & expired)
            expired = expired_before

        sources = [self._fetch.error, *(unit.error for unit in units)]
        reports: list[tuple[Value, Value | ErrorCause, Value, Value]] = [
            (error.valid, error.cause, error.pc, error.info) for error in sources
        ]
        # A cycle late, which is still in time for the run's end: the giving queue is busy until then.
        lost, giver_pc, receiver = Signal(), Signal(PC_WIDTH), Signal(Queue)
        overflow: Any = self._tokens.overflow
        givers = {queue: port.oldest_pc for queue, port in self._queues.items()}
        domain = m.d.sync
        if self.config.pipeline_mac:
            # The way from the units' `ready` to here is long, so the choice comes behind the register.
            overflow = delayed(m, overflow, 1, name="overflow", reset_less=False)[1]
            givers = {queue: delayed(m, pc, 1, name=f"giver_{UNITS[queue]}")[1] for queue, pc in givers.items()}
            domain = m.d.comb
        domain += lost.eq(overflow.as_value().any())
        for queue in reversed(self._queues):
            over = overflow[queue]
            # No enable if none is lost, for the same reason.
            with m.If(over.any() | (queue == len(self._queues) - 1)):
                domain += [
                    giver_pc.eq(givers[queue]),
                    receiver.eq(Mux(over[Queue.LOAD], Queue.LOAD, Mux(over[Queue.EXEC], Queue.EXEC, Queue.STORE))),
                ]
        reports.append((lost, ErrorCause.TOKEN_OVERFLOW, giver_pc, receiver))
        for index, port in enumerate(queues):
            reports.append((stuck & waiting[index], ErrorCause.DEADLOCK, port.oldest_pc, awaited))
        for port in queues:
            reports.append((expired & port.busy, ErrorCause.WATCHDOG, port.oldest_pc, busy))
        reports.append((expired, ErrorCause.WATCHDOG, self._fetch.pc, busy))

        found = Cat(condition for condition, *_ in reports).any()
        if self.config.pipeline_mac:
            domain, found = m.d.sync, found & run
            m.d.comb += failing.eq(failure.valid | lost | expired)
        else:
            domain = m.d.comb
            m.d.comb += failing.eq(failure.valid)
        domain += failure.valid.eq(found)
        for condition, cause, pc, info in reversed(reports):
            with m.If(condition):
                domain += [failure.cause.eq(cause), failure.pc.eq(pc), failure.info.eq(info)]

    def _sequence(
        self,
        m: Module,
        run: Signal,
        begin: Signal,
        abort: Signal,
        finished: Signal,
        quiet: Signal,
        failure: wiring.PureInterface,
    ) -> None:
        """Build the state machine; it alone drives the state registers.  `abort` is one: high in error and drain."""
        csr = self._csr
        cycles = flush_cycles(self.config)
        flush = Signal(range(cycles), init=cycles - 1)
        done = Signal()
        start, soft_reset = Signal(), Signal()  # a cycle late: the decoder's way ends here
        m.d.sync += [start.eq(csr.start), soft_reset.eq(csr.soft_reset)]
        cause, pc, info = Signal.like(failure.cause), Signal.like(failure.pc), Signal.like(failure.info)
        status = data.View(_STATUS, csr.state.STATUS)
        m.d.comb += [
            csr.state.ERR_CAUSE.eq(cause),
            csr.state.ERR_PC.eq(pc),
            csr.state.ERR_INFO.eq(info),
            status.done.eq(done),
        ]
        with m.FSM(init="FLUSH"):
            with m.State("FLUSH"):
                m.d.comb += [self.unit_reset.eq(1), status.resetting.eq(1)]
                m.d.sync += flush.eq(flush - 1)
                with m.If(flush == 0):
                    m.d.sync += flush.eq(cycles - 1)
                    m.next = "IDLE"
            with m.State("IDLE"):
                with m.If(soft_reset):
                    m.d.sync += abort.eq(1)
                    m.next = "DRAIN"
                with m.Elif(start):
                    m.d.comb += begin.eq(1)
                    m.d.sync += done.eq(0)
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [run.eq(1), status.busy.eq(1)]
                with m.If(soft_reset):
                    m.d.sync += abort.eq(1)
                    m.next = "DRAIN"
                with m.Elif(failure.valid):
                    m.d.comb += csr.irq_set.error.eq(1)
                    m.d.sync += [cause.eq(failure.cause), pc.eq(failure.pc), info.eq(failure.info), abort.eq(1)]
                    m.next = "ERROR"
                with m.Elif(finished):
                    m.d.comb += csr.irq_set.done.eq(1)
                    m.d.sync += done.eq(1)
                    m.next = "IDLE"
            with m.State("ERROR"):
                m.d.comb += status.error.eq(1)
                with m.If(soft_reset):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += status.resetting.eq(1)
                m.d.sync += [done.eq(0), cause.eq(0), pc.eq(0), info.eq(0)]
                with m.If(quiet):
                    m.d.sync += abort.eq(0)
                    m.next = "FLUSH"

    def _count(self, m: Module, run: Signal, begin: Signal, finished: Signal) -> None:
        """Feed the counters: UNIT_EVENT counts event `event` of unit `unit`."""
        fetch, counters, csr = self._fetch, self._counters, self._csr
        dones = [getattr(self, name).done for name in UNITS.values()]
        sources: dict[str, Value] = {
            Counter.CYCLES.name: Const(1),
            Counter.INSTRUCTIONS.name: sum(dones, fetch.header + finished),
            Counter.FETCH_DRAM.name: fetch.starved & Cat(queue.empty for queue in self._queues.values()).any(),
        }
        for queue, name in UNITS.items():
            port = self._queues[queue]
            sources[f"{queue.name}_TOKEN"] = port.missing.any() & ~port.busy
            events = getattr(self, f"{name}_events")
            sources |= {f"{queue.name}_{event.upper()}": events[event] for event, _ in EVENTS[queue]}
        m.d.comb += [
            counters.clear.eq(begin),
            counters.enable.eq(run),
            csr.counters.eq(counters.values),
            *(counters.increments[counter.name].eq(sources.pop(counter.name)) for counter in Counter),
        ]
        assert not sources, f"events without a counter: {', '.join(sources)}"
