"""Shapes of a network's convolutions and linear layers: all that closed forms and other simulators ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sw.compiler.ir import Conv, Graph, Linear

__all__ = ["LAYER_TYPES", "LayerShape", "LayerType", "graph_shapes", "graph_types"]

LayerType = Literal["first", "spatial", "pointwise", "linear", "other"]
"""``first``: the dense KxK convolution of the input; ``spatial``: depthwise, row and column filters; ``other``:
squeeze-and-excite, pooling, activations, additions."""

LAYER_TYPES: tuple[LayerType, ...] = get_args(LayerType)


@dataclass(frozen=True)
class LayerShape:
    """A convolution, or a linear layer as one of a single pixel.

    Parameters
    ----------
    name
        In its network.
    channels, height, width
        Of the input, padding not included.
    outputs, out_height, out_width
        Of the output.
    kernel, stride
        (y, x).
    groups
        1, or the number of channels.
    linear
        Whether it is a fully connected layer.
    """

    name: str
    channels: int
    height: int
    width: int
    outputs: int
    out_height: int
    out_width: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    groups: int = 1
    linear: bool = False

    @property
    def pixels(self) -> int:
        """Places of an output channel."""
        return self.out_height * self.out_width

    @property
    def depth(self) -> int:
        """Products in each output value."""
        return self.channels // self.groups * self.kernel[0] * self.kernel[1]

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.outputs * self.pixels * self.depth

    @property
    def layer_type(self) -> LayerType:
        """What it is in a breakdown; 1x1 convolutions of one pixel are those of squeeze-and-excite."""
        if self.linear:
            return "linear"
        if self.groups > 1:
            return "spatial"
        if self.kernel != (1, 1):
            return "first"
        return "pointwise" if self.height * self.width > 1 else "other"


def graph_shapes(graph: Graph) -> list[LayerShape]:
    """Return the shapes of a quantised network's layers, in order."""
    found = []
    for op in graph.ops:
        if isinstance(op, Linear):
            found.append(LayerShape(op.name, op.weight.shape[1], 1, 1, op.weight.shape[0], 1, 1, linear=True))
        elif isinstance(op, Conv):
            out = op.pooled or graph[op.output]
            channels, height, width = graph[op.input].shape
            found.append(LayerShape(op.name, channels, height, width, *out.shape, op.kernel, op.stride, op.groups))
    return found


def graph_types(graph: Graph, layers: Sequence[str]) -> list[LayerType]:
    """Return the types of a program's layers by name; those that are no convolution or linear layer are ``other``."""
    known = {shape.name: shape.layer_type for shape in graph_shapes(graph)}
    return [known.get(name, "other") for name in layers]
