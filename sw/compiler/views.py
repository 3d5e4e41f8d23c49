"""Views: slices, reshapes and concatenations become places inside other tensors, without a copy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sw.compiler.ir import Concat, Graph, Op, Requantise, Reshape, Slice, Tensor

__all__ = ["View", "insert_copies", "resolve_views"]


@dataclass(frozen=True)
class View:
    """A dense part of a storage (a tensor that is no view): planar (C, H, W) bytes from `offset` on."""

    storage: str
    offset: int
    shape: tuple[int, int, int]

    @property
    def plane(self) -> int:
        """Bytes of one channel."""
        return self.shape[1] * self.shape[2]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.shape[0] * self.plane


def insert_copies(graph: Graph) -> Graph:
    """Make every concatenation placeable: a part that cannot be written in place gets a copy of its own.

    A part can be written straight into the concatenated tensor if an operator that is no view makes it and no other
    concatenation holds it.  A network output that is (a view of) a network input gets a copy as well.
    """
    producers = graph.producers()
    placed: set[str] = set()
    ops: list[Op] = []
    extra: list[Tensor] = []

    def copy(name: str, label: str) -> str:
        made = dataclasses.replace(graph[name], name=label)
        extra.append(made)
        ops.append(Requantise(name=label, input=name, output=label))
        return label

    for op in graph.ops:
        if isinstance(op, Concat):
            parts = []
            for index, part in enumerate(op.parts):
                maker = producers.get(part)
                if maker is None or isinstance(maker, Slice | Reshape) or part in placed:
                    part = copy(part, f"{op.name}.copy{index}")
                placed.add(part)
                parts.append(part)
            op = dataclasses.replace(op, parts=tuple(parts))
        ops.append(op)
    renamed = {}
    for name in dict.fromkeys(graph.outputs):
        origin = name
        while isinstance(maker := producers.get(origin), Slice | Reshape):
            origin = maker.input
        if origin in graph.inputs:
            renamed[name] = copy(name, f"{name}.output")
    result = graph.rewrite(ops, extra)
    return dataclasses.replace(result, outputs=tuple(renamed.get(name, name) for name in graph.outputs))


def resolve_views(graph: Graph) -> dict[str, View]:
    """Return where every tensor lies: itself, or inside another tensor (after :func:`insert_copies`)."""
    inside: dict[str, tuple[str, int]] = {}
    for op in graph.ops:
        if isinstance(op, Slice):
            inside[op.output] = (op.input, op.start * graph[op.input].plane)
        elif isinstance(op, Reshape):
            inside[op.output] = (op.input, 0)
        elif isinstance(op, Concat):
            offset = 0
            for part in op.parts:
                inside[part] = (op.output, offset)
                offset += graph[part].size
    views = {}
    for name, tensor in graph.tensors.items():
        storage, offset = name, 0
        while storage in inside:
            storage, step = inside[storage]
            offset += step
        views[name] = View(storage, offset, tensor.shape)
    return views
