"""Beats of reads on their way from the bus to the chip, where those for the scratchpad wait for results."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from sw.model.accesses import ExecAccesses
from sw.model.execute import FIRST_STEP, OPERAND, OUTPUT, VISIBLE, WRITE

__all__ = ["FETCH", "NEVER", "PIECE", "Landing", "ReadBurst"]

NEVER = 1 << 62

FETCH = -1
"""Stands for instruction fetch where a LOAD's index is meant."""

_TO_WRITE = 3
"""From a beat on the bus to its write, at least: register slices of arbiter, load unit and writes."""

_BUFFERED = 6
"""Beats in these three slices."""

_ARBITER = 2
"""Of these, in the one that fetch shares."""

_KNOWN = FIRST_STEP + OPERAND + 1 + OUTPUT + WRITE - VISIBLE
"""From an EXEC's acceptance to its first write, at least."""

PIECE = 128
"""Cycles that are looked at in one step, at most."""


@dataclass
class ReadBurst:
    """A burst whose address the memory has.

    Parameters
    ----------
    there
        When its first beat can be on the bus.
    beats
        That are not written yet.
    what
        What ends with it: FETCH, a LOAD's index or NEVER.
    address
        Of the next beat's first byte in the scratchpad; negative if it goes elsewhere.
    begin, last
        When the next and the last beat are on the bus, unless the way is full; negative as long as that is not known.
    """

    there: int
    beats: int
    what: int
    address: int = -1
    begin: int = -1
    last: int = -1


class Landing:
    """The bus's beats in order, through three register slices, to fetch or to a memory.

    A beat for the scratchpad takes its bank's write port as soon as results leave it.  Until then all beats behind it
    wait, those of fetch too once the slice that both share is full.

    Parameters
    ----------
    config
        Hardware.
    outstanding
        Bursts that the memory takes on at once.
    """

    def __init__(self, config: AcceleratorConfig, outstanding: int) -> None:
        self.config = config
        self.open = 0
        """Bursts not known to have left the bus."""
        self.ends: deque[int] = deque([-1] * outstanding, maxlen=outstanding)
        """When those before them left it."""
        self._bus: deque[ReadBurst] = deque()  # that have not left it
        self._landing: deque[ReadBurst] = deque()  # that are not written, but begun
        self._unwritten = 0  # beats of these
        self._written: deque[int] = deque([-1] * (_BUFFERED + 1), maxlen=_BUFFERED + 1)  # when beats before them were
        self._not_before = 0  # results are known to hold the next beat up to here
        self._execs: deque[ExecAccesses] = deque()
        self._next_exec = 0

    def accesses(self, accesses: ExecAccesses, next_exec: int) -> None:
        """Note what an EXEC that is accepted now writes; the next one is accepted in cycle `next_exec` or later."""
        self._execs.append(accesses)
        self._next_exec = next_exec

    def add(self, burst: ReadBurst) -> list[tuple[int, int]]:
        """Take on a burst; return what is known to end, and when: fetch on the bus, a LOAD when its data is visible."""
        self._bus.append(burst)
        self.open += 1
        return self._advance()

    def next_time(self) -> int:
        """Return when :meth:`step` can go on; NEVER if no beat waits for the scratchpad."""
        return self._earliest() - _TO_WRITE if self._landing else NEVER

    def step(self) -> list[tuple[int, int]]:
        """Write as many beats as can be told from the EXECs accepted up to now; return as :meth:`add` does."""
        burst, now = self._landing[0], self._earliest()
        known = min(max(now - _TO_WRITE, self._next_exec) + _KNOWN, now + PIECE)
        size, bank_bytes = self.config.axi_bytes, self.config.act_bank_bytes
        bank, place = divmod(burst.address, bank_bytes)
        count = min(burst.beats, -(-(bank_bytes - place) // size))
        taken = self._taken(bank % self.config.act_banks, now, known)
        if not taken:
            written = range(now, now + min(count, known - now))
        else:
            written = [cycle for cycle in range(now, known) if cycle not in taken][:count]
        done = len(written)
        self._written.extend(written[-_BUFFERED - 1 :])
        self._unwritten -= done
        burst.address += done * size
        burst.begin += done
        burst.beats -= done
        self._not_before = written[-1] + 1 if done == count else known
        return [*self._landed(), *self._advance()]

    def _earliest(self) -> int:
        return max(self._landing[0].begin + _TO_WRITE, self._written[-1] + 1, self._not_before)

    def _taken(self, bank: int, begin: int, end: int) -> set[int]:
        """Return the cycles in which results take a bank."""
        while self._execs and self._execs[0].done < begin:
            self._execs.popleft()
        found: set[int] = set()
        for accesses in self._execs:
            if accesses.first_tile < end:
                found |= accesses.writes(bank, begin, end)
        return found

    def _landed(self) -> list[tuple[int, int]]:
        """Take leave of bursts that are written; those to other memories than the scratchpad never wait."""
        ended = []
        while self._landing:
            burst = self._landing[0]
            if burst.beats and burst.address >= 0:
                break
            if burst.beats:
                first = self._earliest()
                self._written.extend(range(max(first, first + burst.beats - _BUFFERED - 1), first + burst.beats))
                self._unwritten -= burst.beats
                burst.beats = 0
            self._landing.popleft()
            if burst.what != NEVER:
                ended.append((burst.what, self._written[-1] + VISIBLE))
        return ended

    def _advance(self) -> list[tuple[int, int]]:
        """Let bursts leave the bus as far as room for them is known."""
        ended = []
        while self._bus:
            burst = self._bus[0]
            begin = max(burst.there, self.ends[-1] + 1)
            if burst.what == FETCH:
                if self._unwritten > _BUFFERED - _ARBITER:
                    break
                before = self._written[self._unwritten - (_BUFFERED - _ARBITER) - 1]
                self._leave(max(begin, before + _ARBITER) + burst.beats - 1)
                ended.append((FETCH, self.ends[-1]))
                continue
            if burst.begin < 0:
                burst.begin, burst.last = begin, begin + burst.beats - 1
                self._landing.append(burst)
                self._unwritten += burst.beats
                ended += self._landed()
            if self._unwritten > _BUFFERED:
                break
            self._leave(max(burst.last, self._written[self._unwritten - _BUFFERED - 1] + _TO_WRITE))
        return ended

    def _leave(self, end: int) -> None:
        self._bus.popleft()
        self.ends.append(end)
        self.open -= 1
