"""Packed layouts: several lines of a small map side by side, where that saves cycles.

The lines of a 7x7 map leave most columns of a 32-wide array idle.  A packed tensor has few long lines instead
(:class:`hw.spec.packing.Packing`), with gaps that separate the lines of row convolutions; to everything behind this
pass it is a tensor of another shape.  Convolutions at stride 1 along y need no more than that; those along x need the
gap; column and two-dimensional ones find the lines above and below a segment by `fold`.

A kernel runs in the layout of its result.  Operands in another layout are copied once for all that need them.  What
each tensor's own layout should be is decided for every region (tensors of one image size, joined by kernels that could
run packed) by estimated cycles, copies included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC, Mode, ResidualOp
from hw.spec.packing import Packing
from sw.compiler.cost import exec_cycles, pick_mode
from sw.compiler.ir import Graph
from sw.compiler.lower import Kernel
from sw.compiler.relayout import relayout_cycles, relayout_kernel
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


def pack(graph: Graph, kernels: Sequence[Kernel], views: dict[str, View], config: AcceleratorConfig) -> Packed:
    """Pack the tensors for which that saves cycles."""
    labels: Labels = {}
    users = _Users(graph, kernels, views)
    for size in dict.fromkeys(kernel.map_shape[1:] for kernel in kernels):
        found = _packings(size, kernels, config)
        if found:
            options = {name: _options(users.writers[name], found) for name in users.packable(size)}
            for region in _regions({name: some for name, some in options.items() if some}, kernels):
                labels |= _Region(config, users.of(region), {name: options[name] for name in region}).best()
    return _Rewriter(graph, config, labels).run(kernels, views)


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
    """Whether a kernel can run in a packed layout: it reaches no farther than the gap and one segment."""
    lines, pixels = _reach(kernel)
    size = packing.image_height, packing.image_width
    return _packable(kernel) and kernel.map_shape[1:] == size and lines <= packing.lines and pixels <= packing.gap


def _packings(size: Size, kernels: Iterable[Kernel], config: AcceleratorConfig) -> list[Packing]:
    """Return the layouts that the convolutions over maps of a size ask for: by the gap and the lines they reach."""
    reaches = [_reach(kernel) for kernel in kernels if kernel.map_shape[1:] == size and _packable(kernel)]
    wanted = {(lines, gap) for lines, _ in reaches for _, gap in reaches if lines or gap}
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


def _options(writers: Sequence[Kernel], packings: Iterable[Packing]) -> list[Packing]:
    """Return the layouts in which all that write a tensor can run."""
    return [p for p in packings if all(kernel.pool is None and _runs(kernel, p) for kernel in writers)]


def _operands(kernel: Kernel) -> list[View]:
    """Return the maps that a kernel reads."""
    residual = kernel.residual if kernel.residual_op == ResidualOp.ADD else None
    return [view for view in (kernel.source, residual) if view is not None]


class _Users:
    """Who writes and reads each tensor that is no view."""

    def __init__(self, graph: Graph, kernels: Sequence[Kernel], views: dict[str, View]) -> None:
        self.kernels, self.shapes = kernels, {name: tensor.shape for name, tensor in graph.tensors.items()}
        self.writers: dict[str, list[Kernel]] = {name: [] for name in graph.tensors}
        self.places: dict[str, list[View]] = {name: [] for name in graph.tensors}
        for view in views.values():
            self.places[view.storage].append(view)
        for kernel in kernels:
            self.writers[kernel.target.storage].append(kernel)
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


def _packed(kernel: Kernel, packing: Packing, config: AcceleratorConfig) -> Kernel:
    """Return a kernel in packed shape; where its operands lie is not changed yet."""
    plane = packing.lines, packing.width
    source = dataclasses.replace(kernel.source, shape=(kernel.source.shape[0], *plane))
    kernel = dataclasses.replace(kernel, source=source, map_shape=(kernel.map_shape[0], *plane), packing=packing)
    if kernel.mode in (Mode.STOS_CH, Mode.STOS_LN):
        return dataclasses.replace(kernel, mode=pick_mode(config, kernel.extent(kernel.map_shape[0], plane[0]))[0])
    return kernel


class _Region:
    """Tensors whose layouts are chosen together, with the kernels that touch them."""

    def __init__(self, config: AcceleratorConfig, kernels: list[Kernel], options: dict[str, list[Packing]]) -> None:
        self.config, self.kernels, self.options = config, kernels, options
        self._cycles: dict[tuple[int, Layout], int] = {}

    def best(self) -> Labels:
        """Return the best found of what single changes lead to from all plain, and from all in each layout."""
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
            for name, some in self.options.items():
                for layout in (None, *some):
                    if layout != labels[name] and (cycles := self.cycles({**labels, name: layout})) < least:
                        labels[name], least, improved = layout, cycles, True
        return labels

    def cycles(self, labels: Labels) -> int:
        """Estimate the cycles of all kernels and of the copies that they need."""
        total = 0
        copies: set[tuple[View, Packing]] = set()
        for index, kernel in enumerate(self.kernels):
            layout = _layout(kernel, labels)
            total += self._kernel(index, layout)
            for view in _operands(kernel):
                own = labels.get(view.storage)
                if own != layout:
                    # from one packing to another it goes through the plain layout
                    copies |= {(view, packing) for packing in (own, layout) if packing is not None}
        return total + sum(relayout_cycles(self.config, view.shape[0], packing) for view, packing in copies)

    def _kernel(self, index: int, layout: Layout) -> int:
        if (index, layout) not in self._cycles:
            kernel = self.kernels[index]
            if layout is not None:
                kernel = _packed(kernel, layout, self.config)
            extent = kernel.extent(*kernel.map_shape[:2])
            self._cycles[index, layout] = exec_cycles(self.config, kernel.mode, kernel.depthwise, extent)
        return self._cycles[index, layout]


# --- rewriting -------------------------------------------------------------------------------------------------------


class _Rewriter:
    """Gives tensors and kernels their layouts and puts relayouts in front of the first kernel that needs one."""

    def __init__(self, graph: Graph, config: AcceleratorConfig, labels: Labels) -> None:
        self.graph, self.config, self.labels = graph, config, labels
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
            layout = _layout(kernel, self.labels)
            source, residual, target = self._in(kernel.source, layout), kernel.residual, kernel.target
            if residual is not None and kernel.residual_op == ResidualOp.ADD:
                residual = self._in(residual, layout)
            if kernel.pool is None:
                target = self._own(target)
            if layout is not None:
                kernel = _packed(kernel, layout, self.config)
            self.kernels.append(dataclasses.replace(kernel, source=source, residual=residual, target=target))
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
            source = self._own(view) if layout is None else self._in(view, None)
            packing = own if layout is None else layout
            assert packing is not None
            name = self._name(f"{view.storage}.{'plain' if layout is None else 'packed'}")
            target = View(name, 0, view.shape) if layout is None else _in_layout(view, layout, name, 0)
            tensor = dataclasses.replace(self.graph[view.storage], name=name, shape=target.shape)
            self.tensors[name] = tensor
            self.kernels.append(relayout_kernel(tensor, source, target, packing))
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
