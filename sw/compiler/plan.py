"""Planning: which tensors stay on chip, where everything lies, and how each kernel is cut."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Region
from sw.compiler.errors import CompileError
from sw.compiler.ir import Graph
from sw.compiler.lower import Kernel
from sw.compiler.memory import Arena
from sw.compiler.tiling import Residency, Tiling, tilings
from sw.compiler.views import View

__all__ = ["KernelPlan", "Plan", "Storage", "plan"]

DRAM_ALIGN = 64


@dataclass
class Storage:
    """A tensor that is no view: its life (kernel indices, both included) and its places.

    Parameters
    ----------
    resident
        Lies in the scratchpad, at `base`, as long as it lives.
    region, offset
        Home in DRAM (`offset` is -1 until one is given).
    stored
        Every part is also written to its home.
    """

    name: str
    size: int
    first: int
    last: int
    region: Region
    stored: bool
    resident: bool = True
    base: int = -1
    offset: int = -1


@dataclass(frozen=True)
class KernelPlan:
    """A kernel, how it is cut, and the first bytes of its strip buffers (empty where the tensor is resident)."""

    kernel: Kernel
    tiling: Tiling
    source: tuple[int, ...]
    target: tuple[int, ...]
    residual: tuple[int, ...]


@dataclass
class Plan:
    """Everything placed."""

    kernels: list[KernelPlan]
    storages: dict[str, Storage]
    views: dict[str, View]
    region_sizes: dict[Region, int] = field(default_factory=dict)


class _DoesNotFit(Exception):
    """A kernel at which memory ran out."""

    def __init__(self, index: int, need: int) -> None:
        self.index, self.need = index, need
        super().__init__(index)


def plan(
    graph: Graph, kernels: list[Kernel], views: dict[str, View], config: AcceleratorConfig, *, store_all: bool = False
) -> Plan:
    """Keep every tensor on chip from its first to its last use, and send the largest to DRAM until all fits.

    Parameters
    ----------
    store_all
        Write every tensor to DRAM, also those that stay on chip.

    Raises
    ------
    CompileError
        If a kernel does not fit even with all its tensors in DRAM: names the layer, bytes needed and available.
    """
    storages = _storages(graph, kernels, views, store_all)
    cache: dict[tuple[int, Residency], list[Tiling]] = {}
    while True:
        try:
            plans = _place(kernels, storages, config, cache)
            break
        except _DoesNotFit as failure:
            victim = _victim(failure.index, kernels, storages)
            if victim is None:
                kernel = kernels[failure.index]
                raise CompileError(
                    kernel.name,
                    f"needs {failure.need} bytes of activation scratchpad for its smallest strip, {config.act_bytes} "
                    f"are there: raise act_kib"
                    + (" (global average pooling sums whole planes)" if kernel.pool is not None else ""),
                ) from None
            victim.resident = False
    return Plan(plans, storages, views, _place_dram(storages))


def _storages(graph: Graph, kernels: list[Kernel], views: dict[str, View], store_all: bool) -> dict[str, Storage]:
    storages: dict[str, Storage] = {}

    def touch(name: str, index: int) -> None:
        storage = storages.get(name)
        if storage is None:
            storages[name] = Storage(name, graph[name].size, index, index, Region.WORK, stored=store_all)
        else:
            storage.last = index

    for index, kernel in enumerate(kernels):
        for view in _views(kernel):
            touch(view.storage, index)
    for name in graph.inputs:
        if name not in storages:
            raise CompileError(graph.name, f"input {name} is used by no layer")
        storages[name].region, storages[name].stored = Region.INPUT, False
    for name in graph.outputs:
        storage = storages[views[name].storage]
        storage.region, storage.stored = Region.OUTPUT, True
    return storages


def _victim(index: int, kernels: list[Kernel], storages: dict[str, Storage]) -> Storage | None:
    """Return the tensor to send to DRAM: the largest that the kernel does not touch, else the largest it touches."""
    kernel = kernels[index]
    touched = {view.storage for view in _views(kernel)}
    live = [storage for storage in storages.values() if storage.resident and storage.first <= index <= storage.last]
    return max(live, key=lambda s: (s.name not in touched, s.size), default=None)


def _place(
    kernels: list[Kernel],
    storages: dict[str, Storage],
    config: AcceleratorConfig,
    cache: dict[tuple[int, Residency], list[Tiling]],
) -> list[KernelPlan]:
    arena = Arena(config.act_bytes, config.act_bank_bytes, config.axi_bytes)
    plans = []
    # a tensor should lie apart from all that some kernel reads or writes together with it, later ones included
    met: dict[str, list[View]] = {name: [] for name in storages}
    for storage in storages.values():
        storage.base = -1
    for kernel in kernels:
        for view in _views(kernel):
            met[view.storage] += [other for other in _views(kernel) if other.storage != view.storage]
    for index, kernel in enumerate(kernels):
        views = _views(kernel)
        for view in views:
            storage = storages[view.storage]
            if storage.resident and storage.first == index:
                alive = [other for other in met[storage.name] if storages[other.storage].last >= index]
                place = arena.allocate(storage.size, _ranges(alive, storages))
                if place is None:
                    raise _DoesNotFit(index, storage.size)
                storage.base = place
        residency = Residency(
            storages[kernel.source.storage].resident,
            storages[kernel.target.storage].resident,
            kernel.residual is not None and storages[kernel.residual.storage].resident,
        )
        if (index, residency) not in cache:
            cache[index, residency] = tilings(kernel, config, residency)
        plans.append(_fit(index, kernel, cache[index, residency], storages, arena))
        for storage in storages.values():
            if storage.resident and storage.last == index:
                arena.free(storage.base)
    return plans


def _views(kernel: Kernel) -> list[View]:
    return [view for view in (kernel.source, kernel.residual, kernel.target) if view is not None]


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
        apart = _ranges(_views(kernel), storages)
        places: list[tuple[int, ...]] = []
        for count, size in (tiling.source, tiling.target, tiling.residual):
            bases = [trial.allocate(size, apart) for _ in range(count)]
            if any(base is None for base in bases):
                break
            places.append(tuple(base for base in bases if base is not None))
            apart += [(base, base + size) for base in places[-1]]
        else:
            return KernelPlan(kernel, tiling, *places)
    raise _DoesNotFit(index, min(sum(map(arena.room, tiling.buffers)) for tiling in choices))


def _place_dram(storages: dict[str, Storage]) -> dict[Region, int]:
    """Give every tensor that needs one a home; return the bytes used in each region."""
    used = dict.fromkeys(Region, 0)
    for storage in _needing_home(storages.values()):
        storage.offset = -(-used[storage.region] // DRAM_ALIGN) * DRAM_ALIGN
        used[storage.region] = storage.offset + storage.size
    return used


def _needing_home(storages: Iterable[Storage]) -> list[Storage]:
    return [s for s in storages if not s.resident or s.stored or s.region == Region.INPUT]
