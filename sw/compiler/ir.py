"""Graph IR of a quantised network: typed int8 tensors and operators, in a topological order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "FULL_RANGE",
    "Activation",
    "Add",
    "AvgPool",
    "ChannelScale",
    "Concat",
    "Conv",
    "Curve",
    "GlobalAvgPool",
    "Graph",
    "Linear",
    "MaxPool",
    "Op",
    "Requantise",
    "Reshape",
    "Slice",
    "Tensor",
]

Curve = Literal["hswish", "hsigmoid"]
"""Non-linearities that are no clamp of the quantised result alone."""

FULL_RANGE = (-128, 127)
"""Clamp that does nothing to an int8 value."""


@dataclass(frozen=True)
class Tensor:
    """An int8 activation tensor, ``real = (q - zero_point) * scale``.

    Parameters
    ----------
    name
        Unique in its graph.
    shape
        Channels, lines, pixels.
    scale, zero_point
        Per-tensor quantisation.
    """

    name: str
    shape: tuple[int, int, int]
    scale: float
    zero_point: int

    @property
    def size(self) -> int:
        """Elements, which are bytes."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def plane(self) -> int:
        """Bytes of one channel."""
        return self.shape[1] * self.shape[2]

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"%{self.name}: i8[{shape}] scale={self.scale:.6g} zp={self.zero_point}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """Base of all operators.

    Parameters
    ----------
    name
        Layer name in the source network, unique in the graph.
    output
        Name of the tensor it makes.
    """

    name: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors it reads."""
        raise NotImplementedError

    def describe(self) -> str:
        """Attributes for printing, without tensors."""
        return ""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Unary(Op):
    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The one input."""
        return (self.input,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(_Unary):
    """2-D convolution with requantisation, optionally with a fused residual addition and global average pooling.

    Parameters
    ----------
    weight
        int8, (cout, cin / groups, kh, kw), symmetric.
    weight_scale
        float, (cout,).
    bias
        (cout,) in real units if floating, in units of ``input scale * weight_scale`` if integer; None is 0.
    stride
        (y, x).
    padding
        (top, left, bottom, right); padded places hold the input's zero point.
    groups
        1, the number of input channels (depthwise), or any divisor of both numbers of channels.
    clamp
        Inclusive bounds of the (unpooled) int8 output: ReLU, ReLU6, ...
    curve
        Non-linearity of the sum (after a residual), before its only quantisation, or None.
    linear
        The source network has no non-linearity between the sum and its quantisation, so an addition behind it may be
        fused.  The clamp does not tell: ReLU with zero point -128 needs none.
    residual
        Tensor added before the clamp, of the output's shape, or None.
    pooled
        With fused global average pooling: shape and quantisation of the map that is pooled. The output is then
        (cout, 1, 1).
    """

    weight: npt.NDArray[np.int8]
    weight_scale: npt.NDArray[np.float64]
    bias: npt.NDArray[Any] | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    clamp: tuple[int, int] = FULL_RANGE
    curve: Curve | None = None
    linear: bool = False
    residual: str | None = None
    pooled: Tensor | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Input and, if any, residual."""
        return (self.input,) if self.residual is None else (self.input, self.residual)

    @property
    def kernel(self) -> tuple[int, int]:
        """(kh, kw)."""
        return self.weight.shape[2], self.weight.shape[3]

    def describe(self) -> str:
        """Kernel, stride, padding and what is fused."""
        text = f"{self.weight.shape[0]} x {self.weight.shape[1]} x {self.kernel[0]}x{self.kernel[1]}"
        text += f" stride={self.stride} pad={self.padding} groups={self.groups} clamp={self.clamp}"
        text += f" {self.curve}" if self.curve else ""
        return text + (f" pooled=({self.pooled})" if self.pooled else "")


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(_Unary):
    """Fully connected layer over the input's bytes, planar: weight int8 (cout, C*H*W); the rest as :class:`Conv`."""

    weight: npt.NDArray[np.int8]
    weight_scale: npt.NDArray[np.float64]
    bias: npt.NDArray[Any] | None = None
    clamp: tuple[int, int] = FULL_RANGE
    curve: Curve | None = None

    def describe(self) -> str:
        """Size, clamp and curve."""
        text = f"{self.weight.shape[0]} x {self.weight.shape[1]} clamp={self.clamp}"
        return text + (f" {self.curve}" if self.curve else "")


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(_Unary):
    """Sum of two tensors of one shape, each with its own quantisation."""

    other: str
    clamp: tuple[int, int] = FULL_RANGE

    @property
    def inputs(self) -> tuple[str, ...]:
        """Both summands."""
        return (self.input, self.other)

    def describe(self) -> str:
        """Clamp."""
        return f"clamp={self.clamp}"


@dataclass(frozen=True, eq=False, kw_only=True)
class GlobalAvgPool(_Unary):
    """Mean over lines and pixels: (C, H, W) to (C, 1, 1)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Requantise(_Unary):
    """Copy with another quantisation and a clamp (equal quantisation: a plain copy)."""

    clamp: tuple[int, int] = FULL_RANGE

    def describe(self) -> str:
        """Clamp."""
        return f"clamp={self.clamp}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(_Unary):
    """Channels `start` to `stop` - 1: a view, never a copy."""

    start: int
    stop: int

    def describe(self) -> str:
        """Channel range."""
        return f"[{self.start}:{self.stop}]"


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(_Unary):
    """The same bytes in another shape: a view, never a copy."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Op):
    """Channels of several tensors one after the other; all share the output's quantisation."""

    parts: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The parts."""
        return self.parts


@dataclass(frozen=True, eq=False, kw_only=True)
class Activation(_Unary):
    """A :data:`Curve` by itself: of a tensor with a quantisation of its own."""

    kind: Curve

    def describe(self) -> str:
        """Kind."""
        return self.kind


@dataclass(frozen=True, eq=False, kw_only=True)
class ChannelScale(_Unary):
    """Product with a (C, 1, 1) gate (squeeze-and-excite), and h-swish or no curve before its only quantisation."""

    gate: str
    curve: Curve | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Map and gate."""
        return (self.input, self.gate)

    def describe(self) -> str:
        """Curve."""
        return self.curve or ""


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool(_Unary):
    """Windowed maximum; places outside the map never are it.  Input and output share one quantisation."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def describe(self) -> str:
        """Window."""
        return f"{self.kernel} stride={self.stride} pad={self.padding}"


@dataclass(frozen=True, eq=False, kw_only=True)
class AvgPool(_Unary):
    """Windowed mean over kh*kw places, those outside the map counting as zeros (``count_include_pad``)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def describe(self) -> str:
        """Window."""
        return f"{self.kernel} stride={self.stride} pad={self.padding}"


@dataclass(frozen=True, eq=False)
class Graph:
    """A quantised network.

    Parameters
    ----------
    name
        Network name.
    tensors
        Every tensor by name.
    ops
        Operators, producers before consumers.
    inputs, outputs
        Tensor names.
    meta
        JSON-able facts carried into the program (preprocessing, classes).
    sources
        Tensor name to the node of the network read in that holds the same int8 values; for comparisons, not carried
        into the program.
    """

    name: str
    tensors: dict[str, Tensor]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def producers(self) -> dict[str, Op]:
        """Tensor name to the operator that makes it."""
        return {op.output: op for op in self.ops}

    def consumers(self) -> dict[str, list[Op]]:
        """Tensor name to the operators that read it."""
        users: dict[str, list[Op]] = {name: [] for name in self.tensors}
        for op in self.ops:
            for name in dict.fromkeys(op.inputs):
                users[name].append(op)
        return users

    def rewrite(self, ops: Iterable[Op], extra: Iterable[Tensor] = ()) -> Graph:
        """Return the graph with other operators, `extra` tensors added and tensors nobody makes dropped."""
        ops = tuple(ops)
        tensors = {**self.tensors, **{tensor.name: tensor for tensor in extra}}
        kept = {*self.inputs, *(op.output for op in ops)}
        return dataclasses.replace(self, ops=ops, tensors={n: t for n, t in tensors.items() if n in kept})

    def __str__(self) -> str:
        lines = [f"graph {self.name}"]
        lines += [f"  input  {self.tensors[name]}" for name in self.inputs]
        for op in self.ops:
            reads = ", ".join(f"%{name}" for name in op.inputs)
            made = f"  {self.tensors[op.output]} = {type(op).__name__} {op.name}({reads}) {op.describe()}"
            lines.append(made.rstrip())
        lines += [f"  output %{name}" for name in self.outputs]
        return "\n".join(lines)
