"""Steps: instructions on their way to a program, with the bytes they read and write."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from functools import cached_property

from hw.spec.isa import QUEUE_OF, Opcode, Queue, Region, Target

__all__ = ["Memory", "Span", "Step"]

Memory = Target | Region
"""On-chip memory or DRAM region."""


@dataclass(frozen=True)
class Span:
    """Bytes ``base + i*stride + j`` of a memory, for i < count and j < length."""

    memory: enum.IntEnum
    base: int
    count: int
    stride: int
    length: int

    @cached_property
    def key(self) -> tuple[str, int]:
        """The memory's identity (targets and regions share numbers)."""
        return type(self.memory).__name__, int(self.memory)

    @cached_property
    def end(self) -> int:
        """First byte after the last one."""
        return self.base + (self.count - 1) * self.stride + self.length

    @cached_property
    def solid(self) -> bool:
        """Whether no byte between base and end is left out."""
        return self.count == 1 or self.stride <= self.length

    def overlaps(self, other: Span) -> bool:
        """Whether two spans may share a byte: exact for equal strides or solid spans, else by their ends."""
        if self.base >= other.end or other.base >= self.end or self.key != other.key:
            return False
        if self.solid and other.solid:
            return True
        stride = self.stride if not self.solid else other.stride
        lattices = [span for span in (self, other) if not span.solid]
        if any(span.stride != stride for span in lattices):
            return True
        # place both in one period: a solid span longer than a gap meets every line of the other
        if len(lattices) == 1:
            lattice, solid = lattices[0], self if lattices[0] is other else other
            first = max(0, -(-(solid.base - lattice.base - lattice.length + 1) // stride))
            return first < lattice.count and lattice.base + first * stride < solid.end
        gap = (other.base - self.base) % stride
        return gap < self.length or gap + other.length > stride

    def covers(self, other: Span) -> bool:
        """Whether every byte of `other` is one of this span's (False when in doubt)."""
        return self.solid and self.base <= other.base and other.end <= self.end and self.key == other.key


@dataclass(eq=False)
class Step:
    """One instruction before tokens and addresses in region CONST are known.

    Parameters
    ----------
    opcode, values
        As in :class:`hw.spec.isa.Instruction`; `wait`, `signal` and `overlap` are set by :mod:`sw.compiler.tokens`.
    layer
        Index of the layer it belongs to.
    blob
        Index of the constant it loads, or None.
    reads, writes
        Bytes touched (weights, parameters and constants included).
    """

    opcode: Opcode
    values: dict[str, int]
    layer: int
    blob: int | None = None
    reads: list[Span] = field(default_factory=list)
    writes: list[Span] = field(default_factory=list)

    def __getitem__(self, name: str) -> int:
        """Return a field's value; 0 if it has none."""
        return self.values.get(name, 0)

    @property
    def queue(self) -> Queue:
        """Queue that runs it."""
        return QUEUE_OF[self.opcode]
