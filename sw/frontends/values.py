"""What a node of a q/dq graph stands for while it is read: int8 tensors, and real results not quantised yet."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

__all__ = [
    "UNBOUNDED",
    "Bounds",
    "Clamped",
    "Curve",
    "Gated",
    "Input",
    "Joined",
    "Matmul",
    "Mean",
    "Padded",
    "Pending",
    "QuantConstant",
    "Quantised",
    "Real",
    "Sum",
    "Value",
    "bounded",
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
    """The dequantised values of an int8 tensor with zeros around: `padding` is (top, left, bottom, right)."""

    tensor: str
    padding: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class QuantConstant:
    """Dequantised integers that are no activation: `data` with one scale per entry of axis 0."""

    data: npt.NDArray[np.integer]
    scale: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Matmul:
    """Convolution or (``conv=False``) linear, with an optional residual and clamp."""

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
class Curve:
    """A non-linearity that is no clamp, `kind` as in :class:`sw.compiler.ir.Activation`."""

    layer: str
    source: str
    kind: str


@dataclass(frozen=True, eq=False)
class Gated:
    """A map times a (C, 1, 1) gate."""

    layer: str
    source: str
    gate: str


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


Pending = Matmul | Sum | Clamped | Curve | Gated | Mean | Joined
Value = Input | Quantised | Real | Padded | QuantConstant | Pending | torch.Tensor | tuple["Real", ...]


def bounded(value: Value, bounds: Bounds, layer: str) -> Value | None:
    """Return the value clamped, or None if it cannot carry a clamp."""
    low, high = bounds
    if isinstance(value, Real):
        return Clamped(layer, value.tensor, bounds)
    if isinstance(value, Matmul | Sum | Clamped):
        limits = tuple(min(max(limit, low), high) for limit in value.clamp)
        return dataclasses.replace(value, clamp=limits)
    if isinstance(value, Joined):
        parts = [bounded(part, bounds, f"{layer}.part{index}") for index, part in enumerate(value.parts)]
        return None if any(part is None for part in parts) else dataclasses.replace(value, parts=tuple(parts))
    return None
