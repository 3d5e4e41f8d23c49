"""What an EXEC's first operand reads lose to the last second operand reads of the EXEC before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode
from sw.model.execute import ExecCycles
from sw.model.operands import NO_MATTER, OperandReads, operand_reads
from sw.model.tiles import Tiles, exec_tiles

__all__ = ["Overtaken"]


class Overtaken:
    """Operand reads of an EXEC beside reads that have the right of way.

    Parameters
    ----------
    config, instruction, cost
        The EXEC, and what it takes on its own.
    seconds
        The banks that those reads need, by cycle; may be empty.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        instruction: Instruction,
        cost: ExecCycles,
        seconds: Mapping[int, tuple[int, int]],
    ) -> None:
        self.config, self.item, self.cost, self.seconds = config, instruction, cost, seconds
        self._last = max(seconds, default=-1)

    def first_tile(self, reads: int, begin: int, earliest: int) -> int:
        """Return the first tile's last step.

        Parameters
        ----------
        reads
            When the reads begin.
        begin
            The same, but not before they hold up the first step.
        earliest
            When the last step may be, for reasons that do not hold up the reads before it.
        """
        end = begin + self.cost.first
        if reads > self._last:
            return max(end, earliest)
        if self._stos:
            return max(end + self._lost([0], end, reads - end), earliest)
        end = max(end, earliest)
        return end + self._lost([0], end, reads - end)

    def further_tiles(self, end: int) -> int:
        """Return the cycles lost behind the first tile, whose last step is in cycle `end`."""
        begin = end - self.item["kw"] if self._stos else end + 1  # of the second tile's reads
        if begin > self._last:
            return 0
        return self._lost(range(1, 1 + int((begin + self._tiles.ends <= self._last).sum())), end, -1)

    @property
    def _stos(self) -> bool:
        return self.item["mode"] in (Mode.STOS_CH, Mode.STOS_LN)

    @cached_property
    def _tiles(self) -> Tiles:
        return exec_tiles(self.config, self.item, self.cost)

    def _lost(self, numbers: Iterable[int], end: int, begin: int) -> int:
        tiles, lost, before = self._tiles, 0, -1
        for number in numbers:
            if number < len(tiles.ends):
                reads = operand_reads(self.config, self.item, tiles, number, number + 1, begin)
                lost, before = self._walk(reads, end, lost, before)
        return lost

    def _walk(self, reads: OperandReads, end: int, lost: int, before: int) -> tuple[int, int]:
        """Return the cycles lost up to the end of a tile, and when its last read is."""
        for time, low, high, spare in zip(
            reads.times.tolist(), reads.low.tolist(), reads.high.tolist(), reads.spare.tolist(), strict=True
        ):
            now = max(end + time + lost, before + 1)
            while low in self.seconds.get(now, ()) or high in self.seconds.get(now, ()):
                now += 1
            before = now
            if spare != NO_MATTER:
                lost = max(lost, now - (end + time) - spare)
        return lost, before
