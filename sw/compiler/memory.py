"""Allocators: an arena with bank preference for activations, a ring for weights and parameters."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

__all__ = ["Arena", "Fit", "Ring"]

Range = tuple[int, int]

FOREVER = 1 << 30
"""Until when the ends of memory are there."""


class Fit(IntEnum):
    """How a range is placed where several places would do, the easiest way first."""

    LOW = 0
    """Apart from others, at low addresses."""

    HIGH = 1
    """Apart from others, at high addresses, where low ones have left the rest in pieces."""

    TIGHT = 2
    """Beside what is free last, so that the rest stays in one piece."""


class Arena:
    """Byte ranges of the activation scratchpad.

    Parameters
    ----------
    size, bank
        Bytes in all and per bank.
    align
        Alignment of every range.
    """

    def __init__(self, size: int, bank: int, align: int) -> None:
        self.size, self.bank, self.align = size, bank, align
        self._used: list[Range] = []
        self._until: dict[int, int] = {}

    def copy(self) -> Arena:
        """Return an arena with the same ranges taken."""
        other = Arena(self.size, self.bank, self.align)
        other._used, other._until = list(self._used), dict(self._until)
        return other

    @property
    def free_bytes(self) -> int:
        """Bytes not taken."""
        return self.size - sum(end - start for start, end in self._used)

    def room(self, size: int) -> int:
        """Bytes that `size` bytes take."""
        return -(-size // self.align) * self.align

    def allocate(
        self, size: int, apart_from: Iterable[Range] = (), *, until: int = 0, fit: Fit = Fit.LOW
    ) -> int | None:
        """Take `size` bytes, in as few as possible of the banks that the ranges `apart_from` use.

        Parameters
        ----------
        until
            When they will be free again, in any measure of time.
        fit
            Which of the places to take; with TIGHT rather than apart.

        Returns
        -------
        int or None
            First byte, or None if no gap is large enough.
        """
        size = self.room(size)
        others = [set(self._banks(start, end)) for start, end in apart_from]
        best: tuple[tuple[int, int], int] | None = None
        for low, high in self._gaps():
            if high - low < size:
                continue
            last = (high - size) // self.align * self.align
            first_bank = -(-low // self.bank) * self.bank
            for place in {low, last, *range(first_bank, last + 1, self.bank)}:
                banks = set(self._banks(place, place + size))
                score = (sum(len(banks & other) for other in others), -place if fit == Fit.HIGH else place)
                if fit == Fit.TIGHT:
                    score = (-max(self._edge(low, place), self._edge(high, place + size)), place)
                if best is None or score < best[0]:
                    best = score, place
        if best is None:
            return None
        self._until[best[1]] = until
        self._used.append((best[1], best[1] + size))
        self._used.sort()
        return best[1]

    def free(self, base: int) -> None:
        """Give back the range that starts at `base`."""
        self._used = [taken for taken in self._used if taken[0] != base]

    def _edge(self, bound: int, edge: int) -> int:
        """Return until when what bounds a gap is there; -1 if a place's `edge` does not lie at it."""
        if bound != edge:
            return -1
        return max((self._until[start] for start, end in self._used if bound in (start, end)), default=FOREVER)

    def _banks(self, start: int, end: int) -> range:
        return range(start // self.bank, -(-end // self.bank))

    def _gaps(self) -> list[Range]:
        edges = [0, *(edge for taken in self._used for edge in taken), self.size]
        return [(low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if high > low]


class Ring:
    """Memory taken front to back again and again; the tokens keep a load off bytes that are still being read."""

    def __init__(self, size: int, align: int) -> None:
        self.size, self.align = size, align
        self._next = 0

    def room(self, size: int) -> int:
        """Bytes that `size` bytes take."""
        return -(-size // self.align) * self.align

    def keep_together(self, size: int) -> None:
        """Let the next `size` bytes taken lie in one piece."""
        if self._next + size > self.size:
            self._next = 0

    def allocate(self, size: int) -> int:
        """Return the first byte of the next `size` contiguous bytes; raise ValueError if that is more than all."""
        size = self.room(size)
        if size > self.size:
            raise ValueError(f"{size} bytes from a ring of {self.size}")
        base = self._next if self._next + size <= self.size else 0
        self._next = base + size
        return base
