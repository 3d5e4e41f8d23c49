"""Which bytes of the activation scratchpad the steps so far have written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from hw.spec.isa import Target
from sw.compiler.steps import Span, Step

__all__ = ["Written"]


class Written:
    """Follows a growing sequence of steps.

    Parameters
    ----------
    size
        Bytes of the scratchpad.
    """

    def __init__(self, size: int) -> None:
        self._size, self._count = size, 0
        self._bytes = np.zeros(0, np.bool_)

    def covers(self, steps: Sequence[Step], more: Iterable[Step], wanted: Iterable[Span]) -> bool:
        """Whether the steps so far, which begin with those of the call before, and `more` write all wanted bytes."""
        if not self._count:
            self._bytes = np.zeros(self._size, np.bool_)
        _mark(self._bytes, steps[self._count :])
        self._count = len(steps)
        trial = self._bytes.copy()
        _mark(trial, more)
        return all(trial[start:stop].all() for span in wanted for start, stop in _ranges(span))


def _mark(written: np.ndarray, steps: Iterable[Step]) -> None:
    for step in steps:
        for span in step.writes:
            if isinstance(span.memory, Target) and span.memory == Target.ACT:
                for start, stop in _ranges(span):
                    written[start:stop] = True


def _ranges(span: Span) -> list[tuple[int, int]]:
    if span.solid:
        return [(span.base, span.end)]
    starts = (span.base + i * span.stride for i in range(span.count))
    return [(start, start + span.length) for start in starts]
