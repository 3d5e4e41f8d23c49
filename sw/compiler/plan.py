"""Planning: which tensors stay on chip, where everything lies, and how each kernel is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Region
from sw.compiler.errors import CompileError
from sw.compiler.fusion import Choice, Fuser, single_cost
from sw.compiler.ir import Graph
from sw.compiler.lower import Kernel
from sw.compiler.memory import Arena, Fit
from sw.compiler.storage import Storage, reads_of, views_of
from sw.compiler.tiling import Residency, Tiling, tilings
from sw.compiler.views import View

__all__ = ["GroupPlan", "KernelPlan", "Plan", "plan"]

DRAM_ALIGN = 64

_HARDEST = max(Fit)
"""Until which tensors are placed in harder ways before one goes to DRAM."""


@dataclass(frozen=True)
class KernelPlan:
    """A kernel, how it is cut, and the first bytes of its strip buffers (empty where the tensor is resident)."""

    kernel: Kernel
    tiling: Tiling
    source: tuple[int, ...]
    target: tuple[int, ...]
    residual: tuple[int, ...]


@dataclass(frozen=True)
class GroupPlan:
    """Kernels `first` and following that run strip by strip, and the first bytes of the buffers of their windows."""

    first: int
    kernels: tuple[Kernel, ...]
    choice: Choice
    windows: dict[str, tuple[int, ...]]


@dataclass
class Plan:
    """Everything placed: kernels one by one or in groups, in order."""

    kernels: list[KernelPlan | GroupPlan]
    storages: dict[str, Storage]
    views: dict[str, View]
    region_sizes: dict[Region, int] = field(default_factory=dict)

    @property
    def whole(self) -> set[int]:
        """Indices of the kernels that run by themselves, with all lines of a channel in one EXEC."""
        found: set[int] = set()
        index = 0
        for item in self.kernels:
            if isinstance(item, GroupPlan):
                index += len(item.kernels)
                continue
            if item.tiling.lines >= item.kernel.map_shape[1]:
                found.add(index)
            index += 1
        return found

    @property
    def cost(self) -> float:
        """Estimated cycles."""
        return sum(plan.choice.cost if isinstance(plan, GroupPlan) else plan.tiling.cost for plan in self.kernels)


class _DoesNotFit(Exception):
    """A kernel at which memory ran out; `live` are the tensors then on chip."""

    def __init__(self, index: int, need: int, live: Iterable[str]) -> None:
        self.index, self.need, self.live = index, need, frozenset(live)
        super().__init__(index)


def plan(
    graph: Graph,
    kernels: list[Kernel],
    views: dict[str, View],
    config: AcceleratorConfig,
    *,
    store_all: bool = False,
    fusion: bool = True,
) -> Plan:
    """Keep every tensor on chip from its first to its last use, and send the largest to DRAM until all fits.

    Around what does not fit, kernels run in groups, strip by strip, where that is estimated to take fewer cycles.

    Parameters
    ----------
    store_all
        Write every tensor to DRAM, also those that stay on chip.
    fusion
        Form groups.

    Raises
    ------
    CompileError
        If a kernel does not fit even with all its tensors in DRAM: names the layer, bytes needed and available.
    """
    planner = _Planner(kernels, config, lambda: _storages(graph, kernels, views, store_all))
    storages, plans = planner.one_by_one()
    if fusion:
        storages, plans = planner.in_groups(storages, plans)
    return Plan(plans, storages, views, _place_dram(storages))


def _storages(graph: Graph, kernels: list[Kernel], views: dict[str, View], store_all: bool) -> dict[str, Storage]:
    storages: dict[str, Storage] = {}

    def touch(name: str, index: int) -> None:
        storage = storages.get(name)
        if storage is None:
            # copies for other layouts are no tensors of the network
            stored = store_all and name in views
            storages[name] = Storage(name, graph[name].size, index, index, Region.WORK, stored)
        else:
            storage.last = index

    for index, kernel in enumerate(kernels):
        for view in views_of(kernel):
            touch(view.storage, index)
        if kernel.beside is not None:
            storages[kernel.beside.storage].pinned = True
    for name in graph.inputs:
        if name not in storages:
            raise CompileError(graph.name, f"input {name} is used by no layer")
        storages[name].region, storages[name].stored = Region.INPUT, False
    for name in graph.outputs:
        storage = storages[views[name].storage]
        storage.region, storage.stored = Region.OUTPUT, True
    return storages


Plans = list[KernelPlan | GroupPlan]
Groups = tuple[tuple[int, int], ...]


class _Planner:
    def __init__(
        self, kernels: list[Kernel], config: AcceleratorConfig, fresh: Callable[[], dict[str, Storage]]
    ) -> None:
        self.kernels, self.config, self.fresh = kernels, config, fresh
        self._tilings: dict[tuple[int, Residency], list[Tiling]] = {}

    def tilings(self, index: int, residency: Residency) -> list[Tiling]:
        """Return the ways to cut a kernel."""
        if (index, residency) not in self._tilings:
            self._tilings[index, residency] = tilings(self.kernels[index], self.config, residency)
        return self._tilings[index, residency]

    def one_by_one(self) -> tuple[dict[str, Storage], Plans]:
        """Place everything without groups.

        Raises
        ------
        CompileError
            If a kernel does not fit.
        """
        storages, fits = self.fresh(), dict[str, Fit]()
        while True:
            try:
                return storages, self._place(storages, (), fits)
            except _DoesNotFit as failure:
                if _harder(fits, failure.live):
                    continue
                victim = self._victim(range(failure.index, failure.index + 1), storages)
                if victim is None:
                    kernel = self.kernels[failure.index]
                    raise CompileError(
                        kernel.name,
                        f"needs {failure.need} bytes of activation scratchpad for its smallest strip, "
                        f"{self.config.act_bytes} are there: raise act_kib"
                        + (" (global average pooling sums whole planes)" if kernel.pool is not None else ""),
                    ) from None
                victim.resident = False

    def in_groups(self, storages: dict[str, Storage], plans: Plans) -> tuple[dict[str, Storage], Plans]:
        """Return what was placed one by one, or a cheaper way with groups around the tensors that are in DRAM."""
        fuser = Fuser(self.kernels, storages, self.config, self.tilings)
        paths = [fuser.path(low, high) for low, high in fuser.regions()]
        groups = tuple(group for path in paths for group in path.groups)
        spilled, fits = {name for path in paths for name in path.spilled}, dict[str, Fit]()
        while groups:
            trial = self.fresh()
            for name, storage in trial.items():
                storage.windowed = any(low <= storage.first and storage.last < high for low, high in groups)
                storage.resident = name not in spilled and not storage.windowed
            try:
                found = self._place(trial, groups, fits)
            except _DoesNotFit as failure:
                if _harder(fits, failure.live):
                    continue
                group = next((g for g in groups if g[0] <= failure.index < g[1]), None)
                victim = self._victim(range(*group or (failure.index, failure.index + 1)), trial)
                if victim is not None:
                    spilled.add(victim.name)
                elif group is not None:
                    groups = tuple(other for other in groups if other != group)
                else:  # a kernel between groups, which fits as long as its tensors are on chip
                    return storages, plans
                continue
            cheaper = self._cost(trial, found) < self._cost(storages, plans)
            return (trial, found) if cheaper else (storages, plans)
        return storages, plans

    def _cost(self, storages: dict[str, Storage], plans: Plans) -> float:
        cycles = sum(storage.first_load(self.config) for storage in storages.values())
        for item in plans:
            if isinstance(item, GroupPlan):
                cycles += item.choice.cost
            else:
                cycles += single_cost(item.kernel, item.tiling, self.config, lambda name: storages[name].resident)
        return cycles

    def _victim(self, indices: range, storages: dict[str, Storage]) -> Storage | None:
        """Return the tensor to send to DRAM: the largest that the kernels do not touch, else the largest they touch."""
        touched = {view.storage for index in indices for view in views_of(self.kernels[index])}
        live = [storages[name] for name in _live(storages, indices[0], indices[-1] + 1)]
        live = [storage for storage in live if not storage.pinned]
        return max(live, key=lambda s: (s.name not in touched, s.size), default=None)

    def _place(self, storages: dict[str, Storage], groups: Groups, fits: dict[str, Fit]) -> Plans:
        """Place tensors and buffers, those not in `fits` the easiest way.

        Raises
        ------
        _DoesNotFit
            If memory runs out.
        """
        config = self.config
        arena = Arena(config.act_bytes, config.act_bank_bytes, config.axi_bytes)
        fuser = Fuser(self.kernels, storages, config, self.tilings)
        plans: Plans = []
        # a tensor should lie apart from all that some kernel reads together with it, later ones included: a bank has
        # one port to read and one to write
        met: dict[str, list[View]] = {name: [] for name in storages}
        for storage in storages.values():
            storage.base = -1
        for kernel in self.kernels:
            for view in reads_of(kernel):
                met[view.storage] += [other for other in reads_of(kernel) if other.storage != view.storage]
        stops = dict(groups)
        index = 0
        while index < len(self.kernels):
            stop = stops.get(index, index + 1)
            for view in (view for kernel in self.kernels[index:stop] for view in views_of(kernel)):
                storage = storages[view.storage]
                if storage.resident and storage.base < 0:
                    alive = [other for other in met[storage.name] if storages[other.storage].last >= index]
                    fit = fits.get(storage.name, Fit.LOW)
                    place = arena.allocate(storage.size, _ranges(alive, storages), until=storage.last, fit=fit)
                    if place is None:
                        raise _DoesNotFit(index, storage.size, _live(storages, index, stop))
                    storage.base = place
            if index in stops:
                plans.append(self._fit_group(index, stop, fuser, storages, arena, fits))
            else:
                plans.append(_fit(index, self.kernels[index], self._choices(index, storages), storages, arena))
            for storage in storages.values():
                if storage.resident and index <= storage.last < stop:
                    arena.free(storage.base)
            index = stop
        return plans

    def _choices(self, index: int, storages: dict[str, Storage]) -> list[Tiling]:
        kernel = self.kernels[index]
        residency = Residency(
            storages[kernel.source.storage].resident,
            storages[kernel.target.storage].resident,
            kernel.residual is not None and storages[kernel.residual.storage].resident,
        )
        return self.tilings(index, residency)

    def _fit_group(
        self, first: int, stop: int, fuser: Fuser, storages: dict[str, Storage], arena: Arena, fits: dict[str, Fit]
    ) -> GroupPlan:
        """Take the cheapest way to run a group whose windows find room."""
        kernels = tuple(self.kernels[first:stop])
        resident = frozenset(name for name, storage in storages.items() if storage.resident)
        live = _live(storages, first, stop)
        for percent in (100, 90, 80, 65, 50):
            for choice in fuser.choices(first, stop, resident, arena.free_bytes * percent // 100):
                for fit in (Fit.LOW, Fit.TIGHT):
                    placed = _windows(kernels, choice, storages, arena.copy(), fit)
                    if placed is not None:
                        return GroupPlan(first, kernels, choice, placed)
            if any(fits.get(name) != Fit.TIGHT for name in live):
                break
        raise _DoesNotFit(first, arena.size, live)


def _windows(
    kernels: Sequence[Kernel], choice: Choice, storages: dict[str, Storage], arena: Arena, fit: Fit
) -> dict[str, tuple[int, ...]] | None:
    """Return places for a group's windows, the largest first, beside each other or in different banks; None if none."""
    met: dict[str, dict[str, None]] = {}
    for kernel in kernels:
        names = [view.storage for view in reads_of(kernel)]
        for name in names:
            met.setdefault(name, {}).update(dict.fromkeys(names))
    windows, placed = choice.schedule.windows, dict[str, tuple[int, ...]]()
    for name, window in sorted(windows.items(), key=lambda item: -item[1].size):
        others = [(s.base, s.base + s.size) for other in met.get(name, ()) if (s := storages[other]).resident]
        others += [(base, base + windows[n].size) for n in met.get(name, ()) if n in placed for base in placed[n]]
        bases = [arena.allocate(window.size, others, fit=fit) for _ in range(window.copies)]
        if None in bases:
            return None
        placed[name] = tuple(base for base in bases if base is not None)
    return placed


def _harder(fits: dict[str, Fit], live: Iterable[str]) -> bool:
    """Let tensors be placed the next harder way; return whether there was one for any of them."""
    least = min((fits.get(name, Fit.LOW) for name in live), default=_HARDEST)
    if least >= _HARDEST:
        return False
    fits |= {name: Fit(least + 1) for name in live if fits.get(name, Fit.LOW) == least}
    return True


def _live(storages: dict[str, Storage], first: int, stop: int) -> list[str]:
    return [s.name for s in storages.values() if s.resident and s.first < stop and s.last >= first]


def _ranges(views: list[View], storages: dict[str, Storage]) -> list[tuple[int, int]]:
    """Return the on-chip bytes of those of the views' storages that are placed already."""
    names = dict.fromkeys(view.storage for view in views)
    placed = [storage for name in names if (storage := storages[name]).resident and storage.base >= 0]
    return [(storage.base, storage.base + storage.size) for storage in placed]


def _fit(index: int, kernel: Kernel, choices: list[Tiling], storages: dict[str, Storage], arena: Arena) -> KernelPlan:
    """Take the cheapest tiling whose strip buffers find room."""
    free = arena.free_bytes
    for tiling in choices:
        if tiling.buffer_bytes > free:
            continue
        trial = arena.copy()
        apart = _ranges(views_of(kernel), storages)
        places: list[tuple[int, ...]] = []
        for count, size in (tiling.source, tiling.target, tiling.residual):
            bases = [trial.allocate(size, apart) for _ in range(count)]
            if any(base is None for base in bases):
                break
            places.append(tuple(base for base in bases if base is not None))
            apart += [(base, base + size) for base in places[-1]]
        else:
            return KernelPlan(kernel, tiling, *places)
    need = min(sum(map(arena.room, tiling.buffers)) for tiling in choices)
    raise _DoesNotFit(index, need, _live(storages, index, index + 1))


def _place_dram(storages: dict[str, Storage]) -> dict[Region, int]:
    """Give every tensor that needs one a home; return the bytes used in each region."""
    used = dict.fromkeys(Region, 0)
    for storage in (storage for storage in storages.values() if storage.at_home):
        storage.offset = -(-used[storage.region] // DRAM_ALIGN) * DRAM_ALIGN
        used[storage.region] = storage.offset + storage.size
    return used
