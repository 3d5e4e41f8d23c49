"""When each instruction of a program starts and ends: fetch, three in-order queues, tokens and the memory.

Cycles count from the start command.  Transfers that wait for a scratchpad bank which EXECs use are followed cycle by
cycle, and so are an EXEC's first reads beside the last ones of the EXEC before.  What an EXEC's reads lose to its own
second operand is known on average only, but of a short GEMM.  Everything else is exact.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import INSTRUCTION_BYTES, QUEUE_OF, Instruction, Opcode, Queue
from hw.spec.program import Program
from sw.model.channels import LoadChannel, Memory, StoreChannel
from sw.model.exec_unit import ExecUnit
from sw.model.execute import ExecCycles, exec_costs
from sw.model.landing import FETCH, NEVER
from sw.model.trace import TraceEvent

__all__ = ["Timeline", "timeline"]

QUEUE_DEPTH = 4
"""Instructions a queue holds in front of its unit."""

IN_FLIGHT = 8
"""Instructions a unit has accepted and not finished."""

PREFETCH = 4
"""Instructions on their way or waiting to be decoded."""

_FIRST_FETCH = 5
"""From the start command to the first request: four regions are checked."""

_REQUEST = 3
"""From a request for an instruction to its address at the memory."""

_ARRIVE = 3
"""From an instruction's last beat on the bus until it can be taken up."""

_DECODE = 2
"""From its last beat taken up to its dispatch; and from there to the first beat of the next one."""

_ENQUEUE = 2
"""From dispatch to the unit; one more with ``pipeline_mac``."""


@dataclass(frozen=True)
class Timeline:
    """A program's run as predicted.

    Parameters
    ----------
    cycles
        From start to done.
    trace
        Every LOAD, EXEC and STORE, in order of start.
    """

    cycles: int
    trace: list[TraceEvent]


def timeline(
    program: Program, memory: Memory | None = None, costs: Mapping[int, ExecCycles] | None = None
) -> Timeline:
    """Predict a run of a program.

    Parameters
    ----------
    program
        What runs.
    memory
        Behind the bus.
    costs
        What its EXECs take on their own, by index, where that is known already.

    Raises
    ------
    ValueError
        If the program cannot end: a token is waited for that nobody gives.
    """
    stream = program.instructions()
    if costs is None:
        costs = exec_costs(program.config, stream)
    return _Machine(program.config, stream, memory or Memory(), costs).run()


class _Queue:
    """An instruction queue and its unit."""

    def __init__(self, pcs: list[int]) -> None:
        self.pcs = pcs
        self.dispatched: deque[int] = deque()  # when those that wait can reach the unit
        self.accepted: list[int] = []
        self.done: list[int] = []
        self.ready = 0  # when the unit can accept


class _Machine:
    """Event-driven: at each time in the heap a queue or the decoder looks whether it can go on."""

    def __init__(
        self,
        config: AcceleratorConfig,
        stream: Sequence[Instruction],
        memory: Memory,
        costs: Mapping[int, ExecCycles],
    ) -> None:
        self.config, self.stream, self.costs = config, stream, costs
        self.ahead = int(config.pipeline_mac)  # cycles from what allows an instruction to issue to its acceptance
        self.loads, self.stores = LoadChannel(config, memory), StoreChannel(config, memory)
        self.execs = ExecUnit(config)
        pcs: dict[Queue, list[int]] = {queue: [] for queue in Queue}
        for pc, instruction in enumerate(stream):
            if instruction.opcode in QUEUE_OF:
                pcs[QUEUE_OF[instruction.opcode]].append(pc)
        self.queues = {queue: _Queue(pcs[queue]) for queue in Queue}
        self.tokens: dict[tuple[Queue, Queue], deque[int]] = {(a, b): deque() for a in Queue for b in Queue}
        self.heap: list[tuple[int, int]] = []  # time, and a queue or DECODE
        self.fetch_beats = -(-INSTRUCTION_BYTES // config.axi_bytes)
        self.fetched: deque[int] = deque()  # when instructions not yet taken up are there
        self.requested = 0
        self.pc = 0  # at hand in the decoder
        self.free = _FIRST_FETCH + 1  # when the decoder takes its first beat
        self.decoded = NEVER  # when it can be dispatched
        self.awaited: dict[Queue, int] = {}  # bursts until a unit that transfers accepts again

    DECODE = len(Queue)

    def run(self) -> Timeline:
        """Run to the end."""
        for number in range(min(PREFETCH, len(self.stream))):
            self._request(_FIRST_FETCH + number)
        heap, loads, stores = self.heap, self.loads, self.stores
        end = 0
        while True:
            now = heap[0][0] if heap else NEVER
            load, store = loads.next_time(), stores.next_time()
            if load <= min(now, store) and load != NEVER:
                for what, when in loads.step():
                    if what == FETCH:
                        self.fetched.append(when + _ARRIVE)
                        self._take_up()
                    else:
                        self._finish(Queue.LOAD, what, when)
                self._transferred(Queue.LOAD)
            elif store <= now and store != NEVER:
                for what, when in stores.step():
                    self._finish(Queue.STORE, what, when)
                self._transferred(Queue.STORE)
            elif heap:
                now, actor = heapq.heappop(heap)
                if actor == self.DECODE:
                    end = self._dispatch(now) or end
                else:
                    self._issue(Queue(actor), now)
            else:
                break
        return self._result(end)

    def _result(self, halted: int) -> Timeline:
        stuck = [unit.pcs[len(unit.done)] for unit in self.queues.values() if len(unit.done) < len(unit.pcs)]
        if stuck:
            pc = min(stuck)
            raise ValueError(f"instruction {pc} ({self.stream[pc]}) waits for a token that never comes")
        trace = []
        for queue, unit in self.queues.items():
            events = zip(unit.pcs, unit.accepted, unit.done, strict=True)
            trace += [TraceEvent(queue, pc, start, done) for pc, start, done in events]
        cycles = max(halted, *(event.done + 1 for event in trace)) if trace else halted
        return Timeline(cycles, sorted(trace, key=lambda event: (event.start, event.queue)))

    # --- fetch

    def _request(self, now: int) -> None:
        self.loads.fetch(now + _REQUEST, self.fetch_beats)
        self.requested += 1

    def _take_up(self) -> None:
        """Let the decoder take the instruction at hand, if it is there and not under way yet."""
        if self.decoded != NEVER or not self.fetched:
            return
        taken = max(self.free + self.fetch_beats - 1, self.fetched.popleft())
        if self.requested < len(self.stream):
            self._request(taken + 1)
        self.decoded = taken + _DECODE
        heapq.heappush(self.heap, (self.decoded, self.DECODE))

    def _dispatch(self, now: int) -> int | None:
        """Hand the instruction at hand to its queue if there is room; return when all has halted if it is HALT."""
        if self.decoded > now:
            return None
        opcode = self.stream[self.pc].opcode
        if opcode == Opcode.HALT:
            return now + 2
        if opcode in QUEUE_OF:
            queue = QUEUE_OF[opcode]
            unit = self.queues[queue]
            if len(unit.dispatched) == QUEUE_DEPTH or (
                unit.accepted and unit.accepted[-1] == now and len(unit.dispatched) == QUEUE_DEPTH - 1
            ):
                return None  # until the unit accepts
            there = now + _ENQUEUE + self.ahead
            unit.dispatched.append(there)
            heapq.heappush(self.heap, (there, int(queue)))
        self.pc += 1
        self.free, self.decoded = now + _DECODE, NEVER
        self._take_up()
        return None

    # --- queues

    def _issue(self, queue: Queue, now: int) -> None:
        """Hand a queue's head to its unit if everything it needs is there."""
        unit = self.queues[queue]
        if not unit.dispatched or unit.dispatched[0] > now or unit.ready > now:
            return
        count = len(unit.accepted)
        if unit.accepted and unit.accepted[-1] + self.ahead >= now:
            return
        oldest = count - IN_FLIGHT
        if oldest >= 0 and not (len(unit.done) > oldest and unit.done[oldest] + self.ahead < now):
            return
        pc = unit.pcs[count]
        instruction = self.stream[pc]
        wait = instruction["wait"]
        taken = [self.tokens[giver, queue] for giver in Queue if wait >> giver & 1]
        if not all(tokens and tokens[0] <= now for tokens in taken):
            return
        for tokens in taken:
            tokens.popleft()
        unit.dispatched.popleft()
        unit.accepted.append(now)
        unit.ready = now + 1 + self.ahead
        if queue == Queue.EXEC:
            accesses, unit.ready = self.execs.accept(now, instruction, self.costs[pc])
            self.loads.accesses(accesses, unit.ready)
            self.stores.accesses(accesses, unit.ready)
            self._finish(queue, pc, accesses.done)
        else:
            channel = self.loads.load if queue == Queue.LOAD else self.stores.store
            self.awaited[queue] = channel(now, pc, instruction)
            unit.ready = NEVER
            self._transferred(queue)
        if unit.ready != NEVER:
            heapq.heappush(self.heap, (unit.ready, int(queue)))
        heapq.heappush(self.heap, (now + 1, self.DECODE))

    def _transferred(self, queue: Queue) -> None:
        """Let a unit that transfers accept again, if it is known when: its walk is near the end, a row per cycle."""
        if queue not in self.awaited:
            return
        if queue == Queue.LOAD:
            through = self.loads.sent(self.awaited[queue]) + 2
        else:
            through = self.stores.requested(self.awaited[queue]) + 1
        if through < NEVER:
            unit = self.queues[queue]
            rows = self.stream[unit.pcs[len(unit.accepted) - 1]]["rows"]
            unit.ready = max(unit.accepted[-1] + rows, through) + self.ahead
            del self.awaited[queue]
            heapq.heappush(self.heap, (unit.ready, int(queue)))

    def _finish(self, queue: Queue, pc: int, done: int) -> None:
        """Note the end of an instruction and give its tokens."""
        self.queues[queue].done.append(done)
        signal = self.stream[pc]["signal"]
        for taker in Queue:
            if signal >> taker & 1:
                self.tokens[queue, taker].append(done + 1 + self.ahead)
                heapq.heappush(self.heap, (done + 1 + self.ahead, int(taker)))
        heapq.heappush(self.heap, (done + 1 + self.ahead, int(queue)))
