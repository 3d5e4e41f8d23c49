"""Small draws that the random generators share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Mode
from sim.iss.machine import Block

__all__ = ["Draw", "legal_modes"]

T = TypeVar("T")


def legal_modes(config: AcceleratorConfig, modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
    """Return those of `modes` that a configuration has.

    Raises
    ------
    ValueError
        If there are none.
    """
    legal = tuple(mode for mode in modes if config.stos or mode not in (Mode.STOS_CH, Mode.STOS_LN))
    if not legal:
        raise ValueError(f"modes={modes}: none of them exists with stos={config.stos}")
    return legal


class Draw:
    """A seeded source of decisions, numbers, bytes and blocks.

    Parameters
    ----------
    seed
        Equal seeds give equal draws.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def between(self, low: int, high: int) -> int:
        """Draw an integer, bounds included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, values: Sequence[T]) -> T:
        """Draw one of several."""
        return values[self.between(0, len(values) - 1)]

    def chance(self, probability: float) -> bool:
        """Draw a decision."""
        return bool(self.rng.random() < probability)

    def block(self, channels: int, lines: int, width: int, *, limit: int) -> Block:
        """Return a tensor's block at address 0: dense, or with gaps between lines and planes if `limit` bytes do."""
        pitch = width
        if channels <= 6 and self.chance(0.3):
            pitch += self.between(1, 5)
        sparse = Block(0, channels, lines * pitch + self.between(0, 9), lines, pitch, width)
        return sparse if sparse.end <= limit else Block(0, channels, lines * width, lines, width, width)
