"""Prefetch: loads take the place in the program at which the bus is free for them, constants far ahead of their use.

The load queue runs in order and holds few instructions, so a load that stands behind another one that waits for room
or data waits too.  A run of the steps is estimated; whenever the bus is free it takes the next constants if there is
time for them before the next activations can start, or if they would come late otherwise, as far as the rings in
:mod:`sw.compiler.constants` have room.  Each load then stands
behind the steps that have begun when it does, and some that wait in their queues.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Mode, Opcode, Queue
from sw.compiler.cost import Extent, exec_cycles
from sw.compiler.steps import Step
from sw.compiler.tokens import dependencies

__all__ = ["place_loads"]

_LATENCY = 80
"""Cycles from a transfer's start until its first beat has an effect, or from its last beat to its response.

The simulated DRAM's latency and the load unit's own cycles (:mod:`sw.model.channels`), and a little more: a load that
comes early costs nothing, one that comes late holds an EXEC up."""

_QUEUED = 3
"""Steps handed to their queues ahead of a load: less than a queue holds, or the load would come late; with none, the
EXECs behind it would, because the load queue is full of loads whose turn has not come."""


def place_loads(steps: Sequence[Step], config: AcceleratorConfig) -> list[Step]:
    """Return the steps in another valid sequential order.

    EXECs and STOREs keep their order, and so do loads of constants and loads of activations each; no two steps that
    touch the same bytes change sides.
    """
    needs = dependencies(steps)
    free = _Run(steps, needs, config, {})
    free.run()
    run = _Run(steps, needs, config, free.start)
    run.run()
    return run.program()


class _Run:
    """An estimated run, load by load.

    Parameters
    ----------
    target
        When each step begins if constants take no time; empty to find out.
    """

    def __init__(
        self, steps: Sequence[Step], needs: Sequence[set[int]], config: AcceleratorConfig, target: Mapping[int, int]
    ) -> None:
        self.steps, self.needs, self.config, self.target = steps, needs, config, target
        self.anchors = [index for index, step in enumerate(steps) if step.opcode != Opcode.LOAD]
        loads = [index for index, step in enumerate(steps) if step.opcode == Opcode.LOAD]
        self.activations = deque(index for index in loads if steps[index].blob is None)
        self.constants = deque(index for index in loads if steps[index].blob is not None)
        self.done: dict[int, int] = {}
        self.start: dict[int, int] = {}
        self.order: list[int] = []  # loads
        self.next_anchor = 0
        self.free = dict.fromkeys(Queue, 0)  # when each queue's unit is
        self.first_use = dict.fromkeys(loads, len(self.anchors))
        for number in reversed(range(len(self.anchors))):
            self.first_use |= dict.fromkeys(needs[self.anchors[number]] & self.first_use.keys(), number)
        self.latest = self._latest() if target else {}

    def run(self) -> None:
        """Run all steps."""
        while self._advance():
            pass

    def _latest(self) -> dict[int, int]:
        """Return when each constant must be asked for to be there in time, and those behind it too."""
        latest: dict[int, int] = {}
        after = 1 << 62
        for index in reversed(self.constants):
            use = self.first_use[index]
            begin = self.target[self.anchors[use]] - _LATENCY if use < len(self.anchors) else after
            after = latest[index] = min(begin, after) - self._beats(index)
        return latest

    def _advance(self) -> bool:
        """Run what waits for no load, then one load; return whether there was one."""
        while self.next_anchor < len(self.anchors) and self._known(self.anchors[self.next_anchor]):
            self._begin(self.anchors[self.next_anchor])
            self.next_anchor += 1
        if not self.activations and not self.constants:
            return False
        taken = self._choose()
        index = taken.popleft()
        self.order.append(index)
        self._begin(index)
        return True

    def _known(self, index: int) -> bool:
        return all(earlier in self.done for earlier in self.needs[index])

    def _choose(self) -> deque[int]:
        """Return the queue of loads whose first one is next."""
        if not self.activations or not self._known(self.activations[0]):
            return self.constants
        if not self.constants or not self._known(self.constants[0]):
            return self.activations
        data, constant = self.activations[0], self.constants[0]
        if not self.target:
            return self.constants
        begin, other = self._earliest(constant), self._earliest(data)
        in_time = max(begin, other + self._beats(data)) <= self.latest[constant] + self._delay()
        return self.activations if in_time and begin + self._beats(constant) > other else self.constants

    def _delay(self) -> int:
        """Return how far the run is behind one in which constants take no time."""
        last = self.anchors[self.next_anchor - 1]
        return self.start[last] - self.target[last] if self.next_anchor else 0

    def _earliest(self, index: int) -> int:
        unit = self.free[self.steps[index].queue]
        return max(unit, *(self.done[earlier] for earlier in self.needs[index]), 0)

    def _begin(self, index: int) -> None:
        step = self.steps[index]
        begin = self._earliest(index)
        busy = _exec_cycles(step, self.config) if step.opcode == Opcode.EXEC else self._beats(index)
        self.start[index], self.free[step.queue] = begin, begin + busy
        self.done[index] = begin + busy + (0 if step.opcode == Opcode.EXEC else _LATENCY)

    def _beats(self, index: int) -> int:
        if self.steps[index].blob is not None and not self.target:
            return 0
        values, size = self.steps[index].values, self.config.axi_bytes
        return values["rows"] * -(-values["row_bytes"] // size)

    def program(self) -> list[Step]:
        """Return the steps in order: every load behind those begun by then or queued, as far as that is valid."""
        number = {index: position for position, index in enumerate(self.anchors)}
        lowest, highest = self._bounds(number)
        begun = [self.start[index] for index in self.anchors]
        for position in range(1, len(begun)):
            begun[position] = max(begun[position], begun[position - 1])
        result: list[Step] = []
        written = 0
        for index, low, high in zip(self.order, lowest, highest, strict=True):
            place = min(max(bisect_right(begun, self.start[index]) + _QUEUED, low), high)
            result += [self.steps[anchor] for anchor in self.anchors[written:place]]
            written = max(written, place)
            result.append(self.steps[index])
        return result + [self.steps[anchor] for anchor in self.anchors[written:]]

    def _bounds(self, number: dict[int, int]) -> tuple[list[int], list[int]]:
        """Return, for each load in the new order, the least and the largest number of other steps before it."""
        lowest, highest = [], []
        low, high = 0, len(self.anchors)
        for index in self.order:
            low = max(low, *(number[earlier] + 1 for earlier in self.needs[index] if earlier in number), 0)
            lowest.append(low)
        for index in reversed(self.order):
            high = min(high, self.first_use[index])
            highest.append(high)
        return lowest, highest[::-1]


def _exec_cycles(step: Step, config: AcceleratorConfig) -> int:
    values = step.values
    names = ("cin", "cout", "out_h", "out_w", "kh", "kw", "sy", "sx")
    return exec_cycles(
        config, Mode(values["mode"]), bool(values["depthwise"]), Extent(*(values[name] for name in names))
    )
