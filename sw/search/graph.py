"""Networks of a space, and blocks by themselves, as the compiler's graphs: for cycles, which values do not change."""

from __future__ import annotations

import numpy as np

from sw.compiler.ir import (
    FULL_RANGE,
    Concat,
    Conv,
    GlobalAvgPool,
    Graph,
    Linear,
    Op,
    Slice,
    Tensor,
)
from sw.search.space import Architecture, Block, Place, Space

__all__ = ["block_graph", "ends_graph", "network_graph"]

_RELU6 = (-128, 127)
_SCALE = 0.05


class _Writer:
    """Appends operators; the shapes are as in the quantised network that the front end reads."""

    def __init__(self, name: str, shape: tuple[int, int, int]) -> None:
        self.name = name
        self.tensors = {"x": Tensor("x", shape, _SCALE, 0)}
        self.ops: list[Op] = []

    def tensor(self, shape: tuple[int, int, int]) -> str:
        name = f"t{len(self.ops)}"
        self.tensors[name] = Tensor(name, shape, _SCALE, 0)
        return name

    def conv(
        self,
        source: str,
        cout: int,
        kernel: tuple[int, int] = (1, 1),
        stride: int = 1,
        *,
        depthwise: bool = False,
        linear: bool = False,
        residual: str | None = None,
    ) -> str:
        cin, height, width = self.tensors[source].shape
        output = self.tensor((cout, -(-height // stride), -(-width // stride)))
        self.ops.append(
            Conv(
                name=f"conv{len(self.ops)}",
                output=output,
                input=source,
                weight=np.ones((cout, 1 if depthwise else cin, *kernel), np.int8),
                weight_scale=np.full(cout, 0.01),
                bias=np.zeros(cout),
                stride=(stride, stride),
                padding=(kernel[0] // 2, kernel[1] // 2) * 2,
                groups=cin if depthwise else 1,
                clamp=FULL_RANGE if linear else _RELU6,
                linear=linear,
                residual=residual,
            )
        )
        return output

    def channels(self, source: str, start: int, stop: int) -> str:
        output = self.tensor((stop - start, *self.tensors[source].shape[1:]))
        self.ops.append(Slice(name=f"slice{len(self.ops)}", output=output, input=source, start=start, stop=stop))
        return output

    def block(self, source: str, place: Place, block: Block) -> str:
        hidden, k = place.cin * block.expansion, block.kernel
        x = self.conv(source, hidden) if place.expand else source
        if block.operator == "depthwise":
            x = self.conv(x, hidden, (k, k), place.stride, depthwise=True)
        else:
            split = hidden // 2
            row = self.conv(self.channels(x, 0, split), split, (1, k), place.stride, depthwise=True)
            rest = self.channels(x, split, hidden)
            column = self.conv(rest, hidden - split, (k, 1), place.stride, depthwise=True)
            x = self.tensor((hidden, *self.tensors[row].shape[1:]))
            self.ops.append(Concat(name=f"concat{len(self.ops)}", output=x, parts=(row, column)))
        return self.conv(x, place.cout, linear=True, residual=source if place.shortcut else None)

    def head(self, source: str, space: Space) -> str:
        x = self.conv(source, space.last_channels)
        pooled = self.tensor((space.last_channels, 1, 1))
        self.ops.append(GlobalAvgPool(name="pool", output=pooled, input=x))
        output = self.tensor((space.classes, 1, 1))
        self.ops.append(
            Linear(
                name="classifier",
                output=output,
                input=pooled,
                weight=np.ones((space.classes, space.last_channels), np.int8),
                weight_scale=np.full(space.classes, 0.01),
                bias=np.zeros(space.classes),
            )
        )
        return output

    def graph(self, output: str) -> Graph:
        return Graph(self.name, self.tensors, tuple(self.ops), ("x",), (output,))


def network_graph(space: Space, architecture: Architecture) -> Graph:
    """Return a network of the space.

    Raises
    ------
    sw.search.space.SpaceError
        If the network is not one of the space.
    """
    writer = _Writer(str(architecture), (3, space.resolution, space.resolution))
    x = writer.conv("x", space.stem_channels, (3, 3))
    for place, block in space.blocks(architecture):
        x = writer.block(x, place, block)
    return writer.graph(writer.head(x, space))


def block_graph(place: Place, block: Block) -> Graph:
    """Return a block by itself, between the maps in front of it and behind it."""
    writer = _Writer(f"{place.stage}_{place.index} {block}", (place.cin, place.size, place.size))
    return writer.graph(writer.block("x", place, block))


def ends_graph(space: Space, *, first: bool) -> Graph:
    """Return what all networks share, by itself: the first convolution, or the last one, pooling and classifier."""
    if first:
        writer = _Writer("first", (3, space.resolution, space.resolution))
        return writer.graph(writer.conv("x", space.stem_channels, (3, 3)))
    place = space.places[-1][-1]
    writer = _Writer("last", (place.cout, place.out_size, place.out_size))
    return writer.graph(writer.head("x", space))
