"""Line-window fusion: which consecutive kernels run strip by strip, with all tensors between them on chip.

Where tensors do not fit, a shortest path over the kernels around them decides: every step of it is one kernel as it is,
or a group of kernels; every stop is a place between two kernels where all tensors that live across are on chip, or in
DRAM.  Cycles are estimates; whether the bytes really find room shows when everything is placed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Opcode, Region, ResidualOp
from hw.spec.program import PARAM_DTYPE
from sw.compiler.cost import drain_cycles
from sw.compiler.lower import Kernel
from sw.compiler.spread import kernel_cycles
from sw.compiler.storage import Storage, views_of
from sw.compiler.tiling import MAX_WIDTH, TRANSFER_START, Residency, Tiling, param_ring, weight_ring
from sw.compiler.windows import Item, Schedule, line_views, progress, schedule

__all__ = ["Choice", "Fuser", "Path", "constant_bytes", "single_cost", "window_shapes"]

Shape = tuple[int, int, int]

_LONGEST = 24
"""Kernels in a group at most, for the compiler's time."""

_LOST = 0.03
"""Share of a transfer's cycles that execution beside it loses, as both use the scratchpad's ports; near a tie it
decides for fewer bytes."""

_ENOUGH = 4
"""Ways to run a group among which the cheapest is taken: higher strips are tried first, and are mostly cheaper."""

_FULL = 0.95
"""Share of the scratchpad that a group may fill by estimate; the rest is lost between tensors."""


@dataclass(frozen=True)
class Choice:
    """A way to run a group: its steps and windows, and estimated cycles."""

    schedule: Schedule
    cost: float

    @cached_property
    def buffers(self) -> list[int]:
        """Bytes of every buffer of every window."""
        return [window.size for window in self.schedule.windows.values() for _ in range(window.copies)]


@dataclass(frozen=True)
class Path:
    """Groups as kernel ranges, tensors in DRAM at some stop between, and estimated cycles of all kernels passed."""

    groups: tuple[tuple[int, int], ...]
    spilled: frozenset[str]
    cost: float


def window_shapes(kernels: Sequence[Kernel], storages: Mapping[str, Storage]) -> dict[str, Shape] | None:
    """Return the shapes of all tensors that the kernels touch line by line; None if one is touched in two shapes."""
    planes: dict[str, tuple[int, int]] = {}
    for kernel in kernels:
        for view in (*line_views(kernel), kernel.target):
            plane = planes.setdefault(view.storage, view.shape[1:])
            if plane != view.shape[1:] or view.offset % view.plane or storages[view.storage].size % view.plane:
                return None
    return {name: (storages[name].size // math.prod(plane), *plane) for name, plane in planes.items()}


def _can_join(kernel: Kernel) -> bool:
    return kernel.pool is None and not kernel.whole and kernel.map_shape[1] > 1


def constant_bytes(kernels: Sequence[Kernel], config: AcceleratorConfig) -> tuple[int, int]:
    """Return the bytes of all kernels' weights and parameters on chip."""
    words, entries = weight_ring(config), param_ring(config)
    weights = sum(words.room(k.words(k.map_shape[0], config.rows) * config.weight_word_bytes) for k in kernels)
    return weights, sum(entries.room(k.map_shape[0] * PARAM_DTYPE.itemsize) for k in kernels)


class Fuser:
    """Finds groups for one network."""

    def __init__(
        self,
        kernels: Sequence[Kernel],
        storages: Mapping[str, Storage],
        config: AcceleratorConfig,
        tilings: Callable[[int, Residency], list[Tiling]],
    ) -> None:
        self.kernels, self.storages, self.config, self.tilings = kernels, storages, config, tilings
        self._pieces: dict[tuple[int, int], list[list[list[tuple[int, int]]]]] = {}

    # --- one group -------------------------------------------------------------------------------------------------

    def choices(self, first: int, stop: int, resident: frozenset[str], room: int) -> list[Choice]:
        """Return ways to run kernels `first` to `stop` - 1 as a group, cheapest first; none if they cannot be one.

        Parameters
        ----------
        resident
            Tensors on chip as a whole.
        room
            Bytes for windows.
        """
        group = self.kernels[first:stop]
        weights, params = constant_bytes(group, self.config)
        if weights > self.config.weight_bytes or params > self.config.param_bytes or not all(map(_can_join, group)):
            return []
        shapes = window_shapes(group, self.storages)
        if shapes is None:
            return []
        gates = [k.residual.storage for k in group if k.residual and k.residual_op == ResidualOp.SCALE]
        if any(name not in resident for name in gates):
            return []
        made = dict.fromkeys(k.target.storage for k in group)
        loaded, stored = [], {name for name in made if self.storages[name].stored}
        for name in shapes:
            storage = self.storages[name]
            if name in resident:
                continue
            if storage.first < first or storage.region == Region.INPUT:
                if name in made:
                    return []
                loaded.append(name)
            elif storage.last >= stop:
                stored.add(name)
        windows = {name: shape for name, shape in shapes.items() if name not in resident}
        found = []
        for pieces in self._cuts(first, stop):
            if _least(windows, group, pieces) > room:
                continue
            for early in (0, 1):
                made_schedule = schedule(group, windows, loaded, stored, pieces, early=early)
                choice = Choice(made_schedule, self._cost(group, windows, made_schedule))
                if sum(-(-size // self.config.axi_bytes) * self.config.axi_bytes for size in choice.buffers) <= room:
                    found.append(choice)
            if len(found) >= _ENOUGH:
                break
        return sorted(found, key=lambda choice: (choice.cost, sum(choice.buffers)))

    def _cuts(self, first: int, stop: int) -> list[list[list[tuple[int, int]]]]:
        """Return the ways to cut a group into strips, high ones first."""
        if (first, stop) not in self._pieces:
            group = self.kernels[first:stop]
            height = group[-1].map_shape[1]
            heights = sorted({-(-height // parts) for parts in range(1, height + 1)}, reverse=True)
            # a short first strip is loaded, a short last one stored in less time, in which nothing runs
            cuts = [progress(group, lines, short_first=first) for lines in heights for first in _shorts(height, lines)]
            self._pieces[first, stop] = [pieces for pieces in cuts if _expressible(group, pieces)]
        return self._pieces[first, stop]

    def _cost(self, group: Sequence[Kernel], windows: Mapping[str, Shape], plan: Schedule) -> float:
        config = self.config
        cycles = 0
        moved = {Opcode.LOAD: 0.0, Opcode.STORE: 0.0}
        ends = {Opcode.LOAD: 0.0, Opcode.STORE: 0.0}
        before: Kernel | None = None
        for item in plan.items:
            kernel = group[item.kernel]
            if item.opcode == Opcode.EXEC:
                cycles += kernel_cycles(config, kernel, kernel.map_shape[0], item.lines[1] - item.lines[0])
                if before is not None and _reads(kernel, before):
                    cycles += drain_cycles(config, before.mode, before.map_shape[0])
                before = kernel
                continue
            cost = self._transfer(item, kernel, windows)
            moved[item.opcode] += cost
            # nothing runs beside the first load and the last store
            ends[item.opcode] = cost if item.opcode == Opcode.STORE else ends[item.opcode] or cost
        cycles += drain_cycles(config, group[-1].mode, group[-1].map_shape[0])
        return max(cycles + sum(ends.values()) + _LOST * sum(moved.values()), *moved.values())

    def _transfer(self, item: Item, kernel: Kernel, windows: Mapping[str, Shape]) -> float:
        shape = windows[item.storage] if item.opcode == Opcode.LOAD else kernel.target.shape
        row = (item.lines[1] - item.lines[0]) * shape[2]
        return TRANSFER_START + shape[0] * (row / self.config.axi_bytes + 1)

    # --- the path --------------------------------------------------------------------------------------------------

    def regions(self) -> list[tuple[int, int]]:
        """Return the ranges of kernels around tensors in DRAM and network inputs, from narrow stop to narrow stop."""
        last = len(self.kernels)
        narrow = self._narrow(0, last)
        found: list[tuple[int, int]] = []
        for storage in sorted(self.storages.values(), key=lambda storage: storage.first):
            if storage.region != Region.INPUT and (storage.resident or storage.first == storage.last):
                continue
            low = max(stop for stop in narrow if stop <= storage.first)
            high = min(stop for stop in narrow if stop > storage.last)
            if found and low <= found[-1][1]:
                low, high = found[-1][0], max(high, found.pop()[1])
            found.append((low, high))
        return found

    def _narrow(self, low: int, high: int) -> set[int]:
        """Return the stops from `low` to `high` at which no more is alive than at those beside them; and both ends."""
        alive = [
            sum(self.storages[name].size for name in self._crossing(stop)) for stop in range(len(self.kernels) + 1)
        ]
        inner = {stop for stop in range(low + 1, high) if alive[stop] <= min(alive[stop - 1], alive[stop + 1])}
        return inner | {low, high}

    def path(self, low: int, high: int) -> Path:
        """Return the cheapest way through kernels `low` to `high` - 1.

        What lives on beyond either end stays where it is; all else is on chip or in DRAM, stop by stop.
        """
        live = {stop: self._crossing(stop) for stop in range(low, high + 1)}
        narrow = self._narrow(low, high)
        inner = {name for names in live.values() for name in names} - {*live[low], *live[high]}
        pinned = {name for name in inner if self.storages[name].pinned}
        fixed = pinned | {name for name in (*live[low], *live[high]) if self.storages[name].resident}
        free = inner - pinned
        best: dict[tuple[int, frozenset[str]], Path] = {(low, live[low] & fixed): Path((), frozenset(), 0)}
        for start in range(low, high):
            for kept, path in [(kept, path) for (stop, kept), path in best.items() if stop == start]:
                longest = min(high, start + _LONGEST) if start in narrow else start + 1
                for stop in range(start + 1, longest + 1):
                    if stop > start + 1 and stop not in narrow:
                        continue
                    for after in dict.fromkeys((live[stop] & fixed, live[stop] & (fixed | free))):
                        if (live[start] & live[stop] & kept) != (live[start] & live[stop] & after):
                            continue
                        cost = self._step(start, stop, kept, after)
                        total = path.cost + cost
                        if total < best[stop, after].cost if (stop, after) in best else total < math.inf:
                            groups = path.groups + (((start, stop),) if stop > start + 1 else ())
                            spilled = path.spilled | (live[stop] - after)
                            best[stop, after] = Path(groups, spilled, total)
        ends = [path for (stop, _), path in best.items() if stop == high]
        return min(ends, key=lambda path: path.cost, default=Path((), frozenset(), math.inf))

    def _crossing(self, stop: int) -> frozenset[str]:
        return frozenset(name for name, item in self.storages.items() if item.first < stop <= item.last)

    def _step(self, start: int, stop: int, before: frozenset[str], after: frozenset[str]) -> float:
        """Return the cycles of one kernel, or of several as a group."""
        resident = before | after
        room = self.config.act_bytes - sum(self.storages[name].size for name in resident)
        if room < 0:
            return math.inf
        if stop > start + 1:
            found = self.choices(start, stop, resident, round(room - (1 - _FULL) * self.config.act_bytes))
            return found[0].cost if found else math.inf
        kernel = self.kernels[start]

        def on_chip(name: str) -> bool:
            storage = self.storages[name]
            return name in resident or (storage.first == storage.last and storage.resident)

        residency = Residency(
            on_chip(kernel.source.storage),
            on_chip(kernel.target.storage),
            kernel.residual is not None and on_chip(kernel.residual.storage),
        )
        alone = [view.storage for view in views_of(kernel) if view.storage not in resident and on_chip(view.storage)]
        room -= sum(self.storages[name].size for name in alone)
        tiling = next((tiling for tiling in self.tilings(start, residency) if tiling.buffer_bytes <= room), None)
        if tiling is None:
            return math.inf
        wait = sum(self.storages[name].first_load(self.config) for name in alone)
        return wait + single_cost(kernel, tiling, self.config, on_chip)


def single_cost(kernel: Kernel, tiling: Tiling, config: AcceleratorConfig, on_chip: Callable[[str], bool]) -> float:
    """Return the cycles of a kernel by itself, comparable with those of a group."""
    moved = sum(view.size for view in views_of(kernel) if not on_chip(view.storage)) / config.axi_bytes
    return tiling.cost + _LOST * moved + drain_cycles(config, kernel.mode, kernel.map_shape[0])


def _shorts(height: int, lines: int) -> tuple[bool, ...]:
    """Return whether the first of the strips may be shorter than the others, and whether it may not."""
    return (True, False) if height % lines else (False,)


def _reads(kernel: Kernel, before: Kernel) -> bool:
    return any(view.storage == before.target.storage for view in line_views(kernel))


def _least(windows: Mapping[str, Shape], group: Sequence[Kernel], pieces: Sequence[Sequence[tuple[int, int]]]) -> int:
    """Return a lower bound of the bytes of windows: each holds what its kernel makes in a strip."""
    most: dict[str, int] = {}
    for kernel, mine in zip(group, pieces, strict=True):
        name = kernel.target.storage
        most[name] = max(most.get(name, 0), *(stop - start for start, stop in mine))
    return sum(shape[0] * most.get(name, 0) * shape[2] for name, shape in windows.items())


def _expressible(group: Sequence[Kernel], pieces: Sequence[Sequence[tuple[int, int]]]) -> bool:
    """Whether the pixels of every strip fit the instruction format where lines are joined."""
    return all(
        not kernel.pointwise or all((stop - start) * kernel.map_shape[2] <= MAX_WIDTH for start, stop in mine)
        for kernel, mine in zip(group, pieces, strict=True)
    )
