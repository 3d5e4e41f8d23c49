"""Prefetch: loads take the place in the program at which the bus is free for them, constants far ahead of their use.

The load queue runs in order and holds few instructions, so a load that stands behind another one that waits for room
or data waits too.  A run of the steps is estimated; whenever the bus is free it takes the next activations if they can
start, else the next constants, as far as the rings in :mod:`sw.compiler.constants` have room.  Each load then stands
behind the steps that have begun when it does, and some that wait in their queues.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Mode, Opcode, Queue
from sw.compiler.cost import Extent, exec_cycles
from sw.compiler.steps import Step
from sw.compiler.tokens import dependencies

__all__ = ["place_loads"]

_LATENCY = 80
"""Cycles from a transfer's start until its first beat has an effect, or from its last beat to its response."""

_AHEAD = 2
"""Steps by which constants go before activations that are needed that much earlier."""

_QUEUED = 3
"""Steps handed to their queues ahead of a load: less than a queue holds, or the load would come late; with none, the
EXECs behind it would, because the load queue is full of loads whose turn has not come."""


def place_loads(steps: Sequence[Step], config: AcceleratorConfig) -> list[Step]:
    """Return the steps in another valid sequential order.

    EXECs and STOREs keep their order, and so do loads of constants and loads of activations each; no two steps that
    touch the same bytes change sides.
    """
    run = _Run(steps, config)
    while run.advance():
        pass
    return run.program()


class _Run:
    """An estimated run, load by load."""

    def __init__(self, steps: Sequence[Step], config: AcceleratorConfig) -> None:
        self.steps, self.config = steps, config
        self.needs = dependencies(steps)
        self.anchors = [index for index, step in enumerate(steps) if step.opcode != Opcode.LOAD]
        loads = [index for index, step in enumerate(steps) if step.opcode == Opcode.LOAD]
        self.activations = deque(index for index in loads if steps[index].blob is None)
        self.constants = deque(index for index in loads if steps[index].blob is not None)
        self.done: dict[int, int] = {}
        self.start: dict[int, int] = {}
        self.order: list[int] = []  # loads
        self.next_anchor = 0
        self.free = dict.fromkeys(Queue, 0)  # when each queue's unit is

    def advance(self) -> bool:
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
        begin = self._earliest(constant)
        if constant < data + _AHEAD or begin + self._beats(constant) <= self._earliest(data):
            return self.constants
        return self.activations

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
        first_use = dict.fromkeys(self.order, len(self.anchors))
        for anchor in reversed(self.anchors):
            for earlier in self.needs[anchor]:
                if earlier in first_use:
                    first_use[earlier] = number[anchor]
        lowest, highest = [], []
        low, high = 0, len(self.anchors)
        for index in self.order:
            low = max(low, *(number[earlier] + 1 for earlier in self.needs[index] if earlier in number), 0)
            lowest.append(low)
        for index in reversed(self.order):
            high = min(high, first_use[index])
            highest.append(high)
        return lowest, highest[::-1]


def _exec_cycles(step: Step, config: AcceleratorConfig) -> int:
    values = step.values
    names = ("cin", "cout", "out_h", "out_w", "kh", "kw", "sy", "sx")
    return exec_cycles(
        config, Mode(values["mode"]), bool(values["depthwise"]), Extent(*(values[name] for name in names))
    )
