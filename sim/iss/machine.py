"""State of the simulated accelerator, strided blocks of bytes in it, and the fault that stops it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import Target

__all__ = ["Block", "Bytes", "FaultError", "Machine", "UndefinedUseError"]

Bytes = npt.NDArray[np.uint8]


class FaultError(Exception):
    """The instruction at hand stops the accelerator; the caller knows its index."""

    def __init__(self, cause: ErrorCause, info: int, detail: str) -> None:
        self.cause, self.info, self.detail = cause, info, detail
        super().__init__(detail)


class UndefinedUseError(Exception):
    """The instruction at hand relies on something that the ISA leaves undefined."""


@dataclass(frozen=True)
class Block:
    """The bytes ``base + c*cs + y*pitch + x`` for c < channels, y < lines, x < width; empty if a count is 0."""

    base: int
    channels: int
    cs: int
    lines: int
    pitch: int
    width: int

    @property
    def empty(self) -> bool:
        """Whether the block has no bytes."""
        return min(self.channels, self.lines, self.width) <= 0

    @property
    def end(self) -> int:
        """First address after the last byte (`base` if empty)."""
        if self.empty:
            return self.base
        return self.base + (self.channels - 1) * self.cs + (self.lines - 1) * self.pitch + self.width

    def view(self, memory: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return the block of a one-dimensional array as (channels, lines, width), without a copy.

        Raises
        ------
        IndexError
            If the block does not lie inside the array.
        """
        if self.empty:
            return memory[:0].reshape(0, 0, 0)
        if self.base < 0 or self.end > memory.size:
            raise IndexError(f"block {self.base}..{self.end} outside memory of {memory.size}")
        size = memory.itemsize
        return np.lib.stride_tricks.as_strided(
            memory[self.base :],
            (self.channels, self.lines, self.width),
            (self.cs * size, self.pitch * size, size),
            writeable=memory.flags.writeable,
        )

    @property
    def distinct(self) -> bool:
        """Whether no byte belongs to the block twice."""
        line_ok = self.lines <= 1 or self.pitch >= self.width
        plane = (self.lines - 1) * self.pitch + self.width
        if line_ok and (self.channels <= 1 or self.cs >= plane):
            return True
        return int(self._mask(self.base, self.end).sum()) == self.channels * self.lines * self.width

    def overlaps(self, other: Block) -> bool:
        """Whether two blocks share a byte."""
        low, high = max(self.base, other.base), min(self.end, other.end)
        if self.empty or other.empty or low >= high:
            return False
        start, stop = min(self.base, other.base), max(self.end, other.end)
        return bool((self._mask(start, stop) & other._mask(start, stop)).any())

    def _mask(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        mask = np.zeros(stop - start, np.bool_)
        Block(self.base - start, self.channels, self.cs, self.lines, self.pitch, self.width).view(mask)[...] = True
        return mask


class Machine:
    """On-chip memories, all 0 at the start of a run, and the DRAM regions."""

    def __init__(self, config: AcceleratorConfig, regions: list[Bytes]) -> None:
        self.config, self.regions = config, regions
        self.onchip = {
            Target.ACT: np.zeros(config.act_bytes, np.uint8),
            Target.WEIGHT: np.zeros(config.weight_bytes, np.uint8),
            Target.PARAM: np.zeros(config.param_bytes, np.uint8),
        }
