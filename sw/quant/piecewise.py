"""Clamped affine functions of one operand: the algebra in which all spellings of h-swish and h-sigmoid are equal.

Programs and exporters write one activation in many ways: ``x * clip(x + 3, 0, 6) / 6``,
``x * (min(max(x + 3, 0), 6) * 0.1667)``.  Additions, products and bounds by numbers accumulate in a :class:`Piece`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Piece", "near"]

Base = TypeVar("Base")


def near(value: float, target: float) -> bool:
    """Whether two constants are equal up to float32 rounding of the expressions they went through."""
    return math.isclose(value, target, rel_tol=2e-6, abs_tol=2e-6)


@dataclass(frozen=True)
class Piece(Generic[Base]):
    """``min(max(slope * base + offset, low), high)``, elementwise.

    Parameters
    ----------
    base
        What it is a function of: a tensor's name, or a node.
    slope, offset
        `slope` is not 0.
    low, high
        Bounds, perhaps infinite; ``low <= high``.
    nodes
        Names of the operations whose work this is.
    """

    base: Base
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

    def affine(self, scale: float, shift: float, node: str = "") -> Piece[Base]:
        """Return ``scale * self + shift``; `scale` is not 0."""
        ends = sorted((self.low * scale + shift, self.high * scale + shift))
        nodes = (*self.nodes, node) if node else self.nodes
        return Piece(self.base, self.slope * scale, self.offset * scale + shift, *ends, nodes=nodes)

    def clamp(self, low: float, high: float, node: str = "") -> Piece[Base]:
        """Return ``min(max(self, low), high)``."""
        ends = {"low": min(max(self.low, low), high), "high": min(max(self.high, low), high)}
        return dataclasses.replace(self, **ends, nodes=(*self.nodes, node) if node else self.nodes)

    def gate(self) -> float | None:
        """Return `h` if this is ``h * clip(slope' * base + 1/2, 0, 1)``: a hard sigmoid of any slope, times `h`."""
        if math.isinf(self.high) or self.high <= 0 or not near(self.low / self.high, 0.0):
            return None
        return self.high if near(self.offset / self.high, 0.5) else None
