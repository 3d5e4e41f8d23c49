"""Packed layouts: several lines of a small map side by side, where that saves cycles.

The lines of a 7x7 map leave most columns of a 32-wide array idle.  A packed tensor has few long lines instead
(:class:`hw.spec.packing.Packing`), with gaps that separate the lines of row convolutions; to everything behind this
pass it is a tensor of another shape.  Convolutions at stride 1 along y need no more than that; those along x need the
gap; column and two-dimensional ones find the lines above and below a segment by `fold`.

A kernel runs in the layout of its result.  An input in another layout is copied, once for all that need it, or the
kernel runs spread (:mod:`sw.compiler.spread`) if that is cheaper, and if no reader of its result minds what lies
between segments then.  What each tensor's own layout should be is decided for every region (tensors of one image size,
joined by kernels that could run packed) by estimated cycles, copies included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC, Mode, ResidualOp
from hw.spec.packing import Packing
from sw.compiler.cost import Extent, exec_cycles
from sw.compiler.ir import Graph
from sw.compiler.lower import Kernel
from sw.compiler.relayout import relayout_kernel
from sw.compiler.spread import kernel_cycles, spread_problem
from sw.compiler.views import View

__all__ = ["Packed", "pack"]

Layout = Packing | None
Labels = dict[str, Layout]
Size = tuple[int, int]

_LIMIT = {field.name: field.maximum for field in EXEC.fields}


@dataclass(frozen=True)
class Packed:
    """Kernels after packing.

    Parameters
    ----------
    graph
        The network with the shapes of packed planes, and with the copies among its tensors.
    kernels
        Relayouts included.
    views
        Places of the network's tensors.
    packings
        How they are packed, those that are.
    """

    graph: Graph
    kernels: list[Kernel]
    views: dict[str, View]
    packings: dict[str, Packing]


def pack(
    graph: Graph,
    kernels: Sequence[Kernel],
    views: dict[str, View],
    config: AcceleratorConfig,
    *,
    spread: bool = True,
) -> Packed:
    """Pack the tensors for which that saves cycles.

    Parameters
    ----------
    spread
        Let kernels run spread.
    """
    labels: Labels = {}
    users = _Users(graph, kernels, views)
    ways = _Ways(config, users, spread=spread)
    for size in dict.fromkeys(kernel.map_shape[1:] for kernel in kernels):
        found = _packings(size, kernels, config)
        if found:
            options = {name: ways.options(name, found) for name in users.packable(size)}
            for region in _regions({name: some for name, some in options.items() if some}, kernels):
                labels |= _Region(ways, users.of(region), {name: options[name] for name in region}, labels).best()
    return _Rewriter(graph, ways, labels).run(kernels, views)


# --- what can be packed ----------------------------------------------------------------------------------------------


def _reach(kernel: Kernel) -> Size:
    """Return how many lines and pixels outside the output's own a kernel reads, on the farther side."""
    return max(kernel.pad[0], kernel.kernel[0] - 1 - kernel.pad[0]), max(
        kernel.pad[1], kernel.kernel[1] - 1 - kernel.pad[1]
    )


def _packable(kernel: Kernel) -> bool:
    """Whether a kernel could run in some packed layout: it makes as many lines and pixels as it reads, at stride 1."""
    same = kernel.source.shape[1:] == kernel.map_shape[1:] and kernel.stride == (1, 1) and kernel.mode != Mode.MAX
    return same and (kernel.kernel[0] == 1 or kernel.mode in (Mode.STOS_CH, Mode.STOS_LN))


def _runs(kernel: Kernel, packing: Packing) -> bool:
    """Whether a kernel can run in a packed layout: it reaches no farther than the gap and two segments."""
    lines, pixels = _reach(kernel)
    size = packing.image_height, packing.image_width
    return _packable(kernel) and kernel.map_shape[1:] == size and lines <= 2 * packing.lines and pixels <= packing.gap


def _packings(size: Size, kernels: Iterable[Kernel], config: AcceleratorConfig) -> list[Packing]:
    """Return the layouts that the convolutions over maps of a size ask for: by the gap and the lines they reach."""
    reaches = [_reach(kernel) for kernel in kernels if kernel.map_shape[1:] == size and _packable(kernel)]
    # without gaps row filters may run segment by segment
    gaps = {0, *(gap for _, gap in reaches)}
    # lines that a filter reaches are in one segment beside, or in two
    needed = {lines for reach, _ in reaches for lines in (reach, -(-reach // 2))}
    wanted = {(lines, gap) for lines in needed for gap in gaps if any(map(any, reaches))}
    found = [_packing(size, lines, gap, config.cols) for lines, gap in sorted(wanted)]
    return list(dict.fromkeys(packing for packing in found if packing is not None))


def _packing(size: Size, reach: int, gap: int, cols: int) -> Layout:
    """Return the layout with the most segments, of at least `reach` lines each, or None if two do not fit."""
    height, width = size
    pitch = width + gap
    for segments in range(min((cols + gap) // pitch, height), 1, -1):
        lines = -(-height // segments)
        packing = Packing(height, width, pitch, -(-height // lines))
        legal = pitch <= _LIMIT["seg"] and gap <= _LIMIT["seg_gap"] and packing.missing <= _LIMIT["seg_missing"]
        if legal and lines >= max(reach, 1):
            return packing
    return None


def _operands(kernel: Kernel) -> list[View]:
    """Return the maps that a kernel reads."""
    residual = kernel.residual if kernel.residual_op == ResidualOp.ADD else None
    return [view for view in (kernel.source, residual) if view is not None]


def _wanted(kernel: Kernel, way: _Way) -> list[tuple[View, Layout]]:
    """Return the maps that a kernel reads, the input first, and the layouts it reads them in."""
    return list(zip(_operands(kernel), (way.source, way.layout), strict=False))


def _minds(kernel: Kernel, packing: Packing) -> bool:
    """Whether a kernel's windows over a packed plane may reach what lies between its segments."""
    kh, kw = kernel.kernel
    # spread, a row filter stays within the segment
    across = kw > 1 and packing.gap > 0 and (kh > 1 or _runs(kernel, packing))
    return across or (kh > 1 and packing.missing > 0)


class _Users:
    """Who writes and reads each tensor that is no view."""

    def __init__(self, graph: Graph, kernels: Sequence[Kernel], views: dict[str, View]) -> None:
        self.kernels, self.shapes = kernels, {name: tensor.shape for name, tensor in graph.tensors.items()}
        self.writers: dict[str, list[Kernel]] = {name: [] for name in graph.tensors}
        self.readers: dict[str, list[Kernel]] = {name: [] for name in graph.tensors}
        self.places: dict[str, list[View]] = {name: [] for name in graph.tensors}
        for view in views.values():
            self.places[view.storage].append(view)
        for kernel in kernels:
            self.writers[kernel.target.storage].append(kernel)
            self.readers[kernel.source.storage].append(kernel)
            # a linear layer reads a map of any shape as one of 1x1 pixels
            self.places[kernel.source.storage].append(kernel.source)
        self.outside = {views[name].storage for name in (*graph.inputs, *graph.outputs)}

    def packable(self, size: Size) -> list[str]:
        """Return the tensors of an image size that never leave the accelerator and have no views of another shape."""
        return [
            name
            for name, shape in self.shapes.items()
            if shape[1:] == size
            and self.writers[name]
            and name not in self.outside
            # a part that is no whole number of channels has another shape
            and all(view.shape[1:] == size for view in self.places[name])
        ]

    def of(self, names: Iterable[str]) -> list[Kernel]:
        """Return the kernels that touch one of some tensors."""
        wanted = set(names)
        return [k for k in self.kernels if wanted & {k.target.storage, *(view.storage for view in _operands(k))}]


def _regions(options: dict[str, list[Packing]], kernels: Iterable[Kernel]) -> list[list[str]]:
    """Return groups of tensors that kernels join which could run packed."""
    group = {name: [name] for name in options}
    for kernel in kernels:
        if not _packable(kernel):
            continue
        names = [view.storage for view in (kernel.target, *_operands(kernel)) if view.storage in group]
        for other in names[1:]:
            first, second = group[names[0]], group[other]
            if first is not second:
                first += second
                group |= dict.fromkeys(second, first)
    return list({id(names): names for names in group.values()}.values())


# --- what should be packed -------------------------------------------------------------------------------------------


def _layout(kernel: Kernel, labels: Labels) -> Layout:
    """Return the layout a kernel runs in: its result's, or its input's if it pools and can."""
    if kernel.pool is None:
        return labels.get(kernel.target.storage)
    layout = labels.get(kernel.source.storage)
    return layout if layout is not None and _runs(kernel, layout) else None


@dataclass(frozen=True)
class _Way:
    """How a kernel runs: its input's layout, its own, whether they may differ, and the cycles without copies."""

    source: Layout
    layout: Layout
    spread: bool
    cycles: int


class _Ways:
    """What kernels can do in some layouts, and what it costs."""

    def __init__(self, config: AcceleratorConfig, users: _Users, *, spread: bool) -> None:
        self.config, self.users, self.spread = config, users, spread
        self._shapes: dict[tuple[Kernel, Layout, Layout, bool], Kernel | None] = {}
        self._open: dict[tuple[str, Packing], bool] = {}
        self._best: dict[tuple[Kernel, Layout, Layout], _Way] = {}

    def options(self, name: str, packings: Iterable[Packing]) -> list[Packing]:
        """Return the layouts in which all that write a tensor can run."""
        return [
            packing
            for packing in packings
            if all(
                kernel.pool is None and (_runs(kernel, packing) or self.shape(kernel, None, packing, spread=True))
                for kernel in self.users.writers[name]
            )
        ]

    def best(self, kernel: Kernel, own: Layout, layout: Layout) -> _Way:
        """Return the cheapest way to make a result in a layout, from an input that lies in its own."""
        if (kernel, own, layout) not in self._best:
            self._best[kernel, own, layout] = self._cheapest(kernel, own, layout)
        return self._best[kernel, own, layout]

    def _cheapest(self, kernel: Kernel, own: Layout, layout: Layout) -> _Way:
        ways = []
        if layout is None or _runs(kernel, layout):
            ways.append(self._way(kernel, layout, layout, spread=False))
        for source in dict.fromkeys((own, None)):
            if source != layout or own == layout:
                ways.append(self._way(kernel, source, layout, spread=True))
        found = [way for way in ways if way is not None]
        return min(found, key=lambda way: way.cycles + self.copy_cycles(kernel.source.shape[0], own, way.source))

    def _way(self, kernel: Kernel, source: Layout, layout: Layout, *, spread: bool) -> _Way | None:
        shape = self.shape(kernel, source, layout, spread=spread)
        if shape is None:
            return None
        return _Way(source, layout, spread, kernel_cycles(self.config, shape, *shape.map_shape[:2]))

    def shape(self, kernel: Kernel, source: Layout, layout: Layout, *, spread: bool) -> Kernel | None:
        """Return a kernel in packed shape, or None; where its operands lie is not changed yet."""
        key = kernel, source, layout, spread
        if key not in self._shapes:
            self._shapes[key] = self._shaped(*key)
        return self._shapes[key]

    def _shaped(self, kernel: Kernel, source: Layout, layout: Layout, spread: bool) -> Kernel | None:
        if not spread and layout is None:
            return kernel
        if spread and (not self.spread or source is layout is None):
            return None
        view, (cout, *plane) = kernel.source, kernel.map_shape
        if source is not None:
            view = dataclasses.replace(view, shape=(view.shape[0], source.lines, source.width))
        if layout is not None:
            plane = [layout.lines, layout.width]
        shape = (cout, plane[0], plane[1])
        kernel = dataclasses.replace(kernel, source=view, map_shape=shape, packing=layout)
        if spread:
            kernel = dataclasses.replace(kernel, spread=True, source_packing=source)
            closed = layout is not None and not self._is_open(kernel.target.storage, layout)
            if closed or spread_problem(kernel) is not None:
                return None
        elif kernel.kernel == (1, 1) and kernel.pool is None and self._is_open(kernel.target.storage, layout):
            kernel = dataclasses.replace(kernel, open=True)
        if kernel.mode in (Mode.STOS_CH, Mode.STOS_LN):
            modes = (dataclasses.replace(kernel, mode=mode) for mode in (Mode.STOS_CH, Mode.STOS_LN))
            return min(modes, key=lambda one: kernel_cycles(self.config, one, *shape[:2]))
        return kernel

    def _is_open(self, name: str, packing: Packing) -> bool:
        """Whether no reader of a tensor minds what lies between the segments."""
        if (name, packing) not in self._open:
            self._open[name, packing] = not any(_minds(kernel, packing) for kernel in self.users.readers[name])
        return self._open[name, packing]

    def copy_cycles(self, channels: int, source: Layout, layout: Layout) -> int:
        """Estimate the cycles of copying a tensor from one layout into another."""
        if source == layout:
            return 0
        packing = layout or source
        assert packing is not None
        extent = Extent(channels, channels, packing.lines, packing.image_width, 1, 1, 1, 1)
        return packing.segments * exec_cycles(self.config, Mode.VEC, False, extent)


class _Region:
    """Tensors whose layouts are chosen together, with the kernels that touch them; other layouts are fixed."""

    def __init__(self, ways: _Ways, kernels: list[Kernel], options: dict[str, list[Packing]], fixed: Labels) -> None:
        self.ways, self.kernels, self.options, self.fixed = ways, kernels, options, fixed

    def best(self) -> Labels:
        """Return the best found of what changes of one or two lead to from all plain, and from all in each layout."""
        layouts = dict.fromkeys(layout for some in self.options.values() for layout in some)
        starts = [
            {name: layout if layout in some else None for name, some in self.options.items()} for layout in layouts
        ]
        plain: Labels = dict.fromkeys(self.options)
        return min((plain, *map(self._improve, [plain, *starts])), key=self.cycles)

    def _improve(self, labels: Labels) -> Labels:
        labels = dict(labels)
        least = self.cycles(labels)
        improved = True
        while improved:
            improved = False
            for names in self._moves:
                layouts = set.intersection(*(set(self.options[name]) for name in names))
                for layout in (None, *sorted(layouts, key=str)):
                    moved = {**labels, **dict.fromkeys(names, layout)}
                    if moved != labels and (cycles := self.cycles(moved)) < least:
                        labels, least, improved = moved, cycles, True
        return labels

    @property
    def _moves(self) -> list[tuple[str, ...]]:
        """Tensors whose layouts change at once: every one by itself, and with what is made from it."""
        pairs = [(kernel.source.storage, kernel.target.storage) for kernel in self.kernels]
        joined = [pair for pair in pairs if pair[0] in self.options and pair[1] in self.options]
        return [*((name,) for name in self.options), *dict.fromkeys(joined)]

    def cycles(self, labels: Labels) -> int:
        """Estimate the cycles of all kernels and of the copies that they need."""
        total = 0
        labels = {**self.fixed, **labels}
        copies: set[tuple[View, Layout, Layout]] = set()
        for kernel in self.kernels:
            way = self.ways.best(kernel, labels.get(kernel.source.storage), _layout(kernel, labels))
            total += way.cycles
            for view, wanted in _wanted(kernel, way):
                copies.add((view, labels.get(view.storage), wanted))
        return total + sum(self.ways.copy_cycles(view.shape[0], own, wanted) for view, own, wanted in copies)


# --- rewriting -------------------------------------------------------------------------------------------------------


class _Rewriter:
    """Gives tensors and kernels their layouts and puts relayouts in front of the first kernel that needs one."""

    def __init__(self, graph: Graph, ways: _Ways, labels: Labels) -> None:
        self.graph, self.ways, self.labels = graph, ways, labels
        self.tensors = dict(graph.tensors)
        self.kernels: list[Kernel] = []
        self._copies: dict[tuple[View, Layout], View] = {}

    def run(self, kernels: Iterable[Kernel], views: dict[str, View]) -> Packed:
        """Rewrite all."""
        packings = {name: packing for name, view in views.items() if (packing := self.labels.get(view.storage))}
        for name, packing in packings.items():
            tensor = self.graph[name]
            self.tensors[name] = dataclasses.replace(tensor, shape=(tensor.shape[0], packing.lines, packing.width))
        for kernel in kernels:
            way = self.ways.best(kernel, self.labels.get(kernel.source.storage), _layout(kernel, self.labels))
            source, *added = (self._in(view, wanted) for view, wanted in _wanted(kernel, way))
            residual = added[0] if added else kernel.residual
            target = self._own(kernel.target) if kernel.pool is None else kernel.target
            shape = self.ways.shape(kernel, way.source, way.layout, spread=way.spread)
            assert shape is not None
            self.kernels.append(dataclasses.replace(shape, source=source, residual=residual, target=target))
        graph = dataclasses.replace(self.graph, tensors=self.tensors)
        return Packed(graph, self.kernels, {name: self._own(view) for name, view in views.items()}, packings)

    def _own(self, view: View) -> View:
        """Return a view's place in its tensor's own layout."""
        packing = self.labels.get(view.storage)
        return view if packing is None else _in_layout(view, packing, view.storage, view.offset // view.plane)

    def _in(self, view: View, layout: Layout) -> View:
        """Return where a view lies in a layout, a copy if that is not its tensor's own."""
        own = self.labels.get(view.storage)
        if layout == own:
            return self._own(view)
        if (view, layout) not in self._copies:
            name = self._name(f"{view.storage}.{'plain' if layout is None else 'packed'}")
            target = View(name, 0, view.shape) if layout is None else _in_layout(view, layout, name, 0)
            tensor = dataclasses.replace(self.graph[view.storage], name=name, shape=target.shape)
            self.tensors[name] = tensor
            self.kernels.append(relayout_kernel(tensor, self._own(view), target, own, layout))
            self._copies[view, layout] = target
        return self._copies[view, layout]

    def _name(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.tensors:
            number += 1
            name = f"{wanted}{number}"
        return name


def _in_layout(view: View, packing: Packing, storage: str, channel: int) -> View:
    """Return the packed place of a view's channels, the first of which is the storage's channel `channel`."""
    return View(storage, channel * packing.plane, (view.shape[0], packing.lines, packing.width))
