"""What an ONNX tensor stands for while a network is read.

Exporters spell one activation in many ways: ``x * Clip(x + 3, 0, 6) / 6``, ``x * (Min(Max(x + 3, 0), 6) * 0.1667)``.
So additions, products and bounds by numbers are not turned into layers one by one.  They accumulate in a
:class:`Piece`, whose algebra makes all spellings equal.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["HostStep", "Padded", "Piece", "Tail", "Value", "near"]


def near(value: float, target: float) -> bool:
    """Whether two constants are equal up to float32 rounding of the expressions they went through."""
    return math.isclose(value, target, rel_tol=2e-6, abs_tol=2e-6)


@dataclass(frozen=True)
class Piece:
    """``min(max(slope * base + offset, low), high)``, elementwise.

    Parameters
    ----------
    base
        Tensor of the layer list.
    slope, offset
        `slope` is not 0.
    low, high
        Bounds, perhaps infinite; ``low <= high``.
    nodes
        Names of the ONNX nodes whose work this is.
    """

    base: str
    slope: float = 1.0
    offset: float = 0.0
    low: float = -math.inf
    high: float = math.inf
    nodes: tuple[str, ...] = ()

    @property
    def linear(self) -> bool:
        """Whether there are no bounds."""
        return math.isinf(self.low) and math.isinf(self.high)

    @property
    def plain(self) -> bool:
        """Whether the base comes through unscaled (bounds apart)."""
        return near(self.slope, 1.0) and near(self.offset, 0.0)

    def affine(self, scale: float, shift: float, node: str) -> Piece:
        """Return ``scale * self + shift``; `scale` is not 0."""
        ends = sorted((self.low * scale + shift, self.high * scale + shift))
        return Piece(self.base, self.slope * scale, self.offset * scale + shift, *ends, nodes=(*self.nodes, node))

    def clamp(self, low: float, high: float, node: str) -> Piece:
        """Return ``min(max(self, low), high)``."""
        ends = {"low": min(max(self.low, low), high), "high": min(max(self.high, low), high)}
        return dataclasses.replace(self, **ends, nodes=(*self.nodes, node))

    def gate(self) -> float | None:
        """Return `h` if this is ``h * clip(slope' * base + 1/2, 0, 1)``: a hard sigmoid of any slope, times `h`."""
        if math.isinf(self.high) or self.high <= 0 or not near(self.low / self.high, 0.0):
            return None
        return self.high if near(self.offset / self.high, 0.5) else None


@dataclass(frozen=True)
class Padded:
    """A tensor with zeros around it: `pads` are (top, left, bottom, right)."""

    base: str
    pads: tuple[int, int, int, int]
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostStep:
    """An operation behind the network's last layer that is left to the host.

    Parameters
    ----------
    name, op
        ONNX node and operator type.
    axis
        Axis of a softmax or argmax.
    flat
        Softmax before opset 13: it takes all axes from `axis` on together.
    keepdims
        Argmax: whether the axis stays, with size 1.
    """

    name: str
    op: str
    axis: int = 0
    flat: bool = False
    keepdims: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        """Compute it."""
        match self.op:
            case "ArgMax":
                return torch.argmax(x, self.axis, self.keepdims)
            case "Sigmoid":
                return torch.sigmoid(x)
            case "Softmax" | "LogSoftmax":
                kind = torch.softmax if self.op == "Softmax" else torch.log_softmax
                return kind(x.flatten(self.axis), -1).reshape(x.shape) if self.flat else kind(x, self.axis)
        raise NotImplementedError(self.op)


@dataclass(frozen=True)
class Tail:
    """A value that only the host computes, from a tensor of the layer list."""

    base: str
    steps: tuple[HostStep, ...] = ()


Value = npt.NDArray[Any] | np.generic | Piece | Padded | Tail
