"""What a node of a q/dq graph stands for while it is read: int8 tensors, and real results not quantised yet."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sw.compiler.ir import Curve

__all__ = [
    "UNBOUNDED",
    "Bounds",
    "Clamped",
    "Curved",
    "Gated",
    "Input",
    "Joined",
    "Matmul",
    "Mean",
    "Padded",
    "Pending",
    "Pooled",
    "QuantConstant",
    "Quantised",
    "Real",
    "Sum",
    "Value",
    "bounded",
    "curved",
]

Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-math.inf, math.inf)


@dataclass(frozen=True)
class Input:
    """A network input, still real."""

    name: str
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Quantised:
    """An int8 tensor of the graph."""

    tensor: str


@dataclass(frozen=True)
class Real:
    """The dequantised values of an int8 tensor of the graph."""

    tensor: str


@dataclass(frozen=True)
class Padded:
    """The dequantised values of an int8 tensor with `value` around: `padding` is (top, left, bottom, right)."""

    tensor: str
    padding: tuple[int, int, int, int]
    value: float = 0.0


@dataclass(frozen=True, eq=False)
class QuantConstant:
    """Dequantised integers that are no activation: `data` with one scale per entry of axis 0."""

    data: npt.NDArray[np.integer]
    scale: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Matmul:
    """Convolution or (``conv=False``) linear, with an optional residual, and a clamp or a curve."""

    layer: str
    source: str
    weight: QuantConstant
    bias: npt.NDArray[np.float64] | None
    conv: bool
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    residual: str | None = None
    clamp: Bounds = UNBOUNDED
    curve: Curve | None = None

    @property
    def linear(self) -> bool:
        """Whether nothing follows the sum."""
        return self.clamp == UNBOUNDED and self.curve is None


@dataclass(frozen=True, eq=False)
class Sum:
    """Sum of two tensors, with a clamp."""

    layer: str
    left: str
    right: str
    clamp: Bounds = UNBOUNDED


@dataclass(frozen=True, eq=False)
class Clamped:
    """A tensor's values within bounds."""

    layer: str
    source: str
    clamp: Bounds


@dataclass(frozen=True, eq=False)
class Curved:
    """A non-linearity that is no clamp."""

    layer: str
    source: str
    kind: Curve


@dataclass(frozen=True, eq=False)
class Gated:
    """A map times a (C, 1, 1) gate, with a clamp or h-swish."""

    layer: str
    source: str
    gate: str
    clamp: Bounds = UNBOUNDED
    curve: Curve | None = None


@dataclass(frozen=True, eq=False)
class Pooled:
    """Windowed maximum or (``mean``) mean."""

    layer: str
    source: str
    mean: bool
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Mean:
    """Mean over lines and pixels."""

    layer: str
    source: str


@dataclass(frozen=True, eq=False)
class Joined:
    """Channels of several values, one after the other."""

    layer: str
    parts: tuple[Value, ...]


Pending = Matmul | Sum | Clamped | Curved | Gated | Pooled | Mean | Joined
Value = Input | Quantised | Real | Padded | QuantConstant | Pending | torch.Tensor | tuple["Real", ...]


def bounded(value: Value, bounds: Bounds, layer: str) -> Value | None:
    """Return the value clamped, or None if it cannot carry a clamp."""
    low, high = bounds
    if isinstance(value, Real):
        return Clamped(layer, value.tensor, bounds)
    if isinstance(value, Sum | Clamped) or (isinstance(value, Matmul | Gated) and value.curve is None):
        limits = tuple(min(max(limit, low), high) for limit in value.clamp)
        return dataclasses.replace(value, clamp=limits)
    if isinstance(value, Joined):
        parts = [bounded(part, bounds, f"{layer}.part{index}") for index, part in enumerate(value.parts)]
        return None if any(part is None for part in parts) else dataclasses.replace(value, parts=tuple(parts))
    return None


def curved(value: Value, kind: Curve, layer: str) -> Value | None:
    """Return the value behind a curve, or None if it cannot carry one."""
    if isinstance(value, Real):
        return Curved(layer, value.tensor, kind)
    if isinstance(value, Matmul) and value.linear:
        return dataclasses.replace(value, curve=kind)
    if isinstance(value, Gated) and kind == "hswish" and value.clamp == UNBOUNDED and value.curve is None:
        return dataclasses.replace(value, curve=kind)
    if isinstance(value, Joined):
        parts = [curved(part, kind, f"{layer}.part{index}") for index, part in enumerate(value.parts)]
        return None if any(part is None for part in parts) else dataclasses.replace(value, parts=tuple(parts))
    return None
