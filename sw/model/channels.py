"""The two directions of the AXI port, burst by burst: when transfers are accepted, and when they are through."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Target
from sw.model.accesses import ExecAccesses
from sw.model.bursts import bursts
from sw.model.execute import FIRST_STEP
from sw.model.landing import FETCH, NEVER, PIECE, Landing, ReadBurst

__all__ = ["LoadChannel", "Memory", "StoreChannel"]

_TO_BUS = 7
"""From a LOAD's acceptance to its first address at the memory."""

_READ_BUFFERS = 6
"""Bursts between the row walk and the bus: two register slices, two address registers."""

_STORE_FIRST = 4
"""From a STORE's acceptance to its first request, which reaches the scratchpad a cycle later."""

_STORE_DATA = 4
"""From a scratchpad read to its beat on the bus; one more with ``pipeline_mac``."""

_REQUESTS = 2
"""Requests that wait for the scratchpad."""

_WRITE_SLICE = 2
"""Bursts between the row walk and the scratchpad reads."""

BUFFERED_BEATS = 16
"""Beats that the store unit holds; the memory takes as many bursts as beats ahead of their address."""


@dataclass(frozen=True)
class Memory:
    """What stands behind the AXI port; each direction carries a beat per cycle.

    Parameters
    ----------
    latency
        Cycles from a read's address to its first beat, and from a write's last beat to its response.
    outstanding
        Bursts it takes on at once, in each direction.
    """

    latency: int = 64
    outstanding: int = 16

    def __post_init__(self) -> None:
        for name in ("latency", "outstanding"):
            if getattr(self, name) < 1:
                raise ValueError(f"memory: {name}={getattr(self, name)} must be at least 1")


class LoadChannel:
    """Reads: loads and instruction fetch take turns, burst by burst; the memory answers in order.

    Times passed in must not decrease from call to call of the same method.
    """

    def __init__(self, config: AcceleratorConfig, memory: Memory) -> None:
        self.config, self.memory = config, memory
        self.beats = 0
        self._fetches: deque[tuple[int, int]] = deque()
        # arrival, beats, LOAD's index if it is the last burst, address in the scratchpad
        self._loads: deque[tuple[int, int, int, int]] = deque()
        self._row_ends: deque[int] = deque([0, 0], maxlen=2)  # bursts up to the end of the last two rows
        self._asked = 0  # bursts of loads asked for
        self._sent: list[int] = []  # when each of them reached the memory
        self._landing = Landing(config, memory.outstanding)
        self._last_address, self._last_arrival = -1, -1
        self._fetched_last = False

    def fetch(self, arrival: int, beats: int) -> None:
        """Ask for an instruction; its address is at the memory's door in cycle `arrival`."""
        self._fetches.append((arrival, beats))

    def load(self, accepted: int, index: int, instruction: Instruction) -> int:
        """Ask for a LOAD's bursts.

        Returns
        -------
        int
            How many bursts must have reached the memory until the next LOAD can be accepted.
        """
        found = bursts(self.config, instruction)
        arrival = max(accepted + _TO_BUS, self._last_arrival + 1)
        last = len(found.beats) - 1
        to_act = instruction["target"] == Target.ACT
        for number, (beats, address) in enumerate(zip(found.beats, found.addresses, strict=True)):
            what = index if number == last else NEVER
            self._loads.append((arrival + number, beats, what, address if to_act else -1))
        self._last_arrival = arrival + last
        before = self._asked
        self._asked += len(found.beats)
        ends = [*self._row_ends, *(before + end for end in found.row_ends)]
        self._row_ends.extend(ends[-2:])
        # The walk stands at a row while the last but one before it has bursts left to hand on.
        return max(0, ends[-3] - _READ_BUFFERS)

    def sent(self, count: int) -> int:
        """Return when the `count`-th burst of loads reached the memory; NEVER if it has not."""
        if count == 0:
            return 0
        return self._sent[count - 1] if count <= len(self._sent) else NEVER

    def accesses(self, accesses: ExecAccesses, next_exec: int) -> None:
        """Note the writes of an EXEC accepted now, which have the right of way, and the next one's first chance."""
        self._landing.accesses(accesses, next_exec)

    def next_time(self) -> int:
        """Return when :meth:`step` goes on, as far as is known; NEVER if nothing is under way."""
        return min(self._next_choice(), self._landing.next_time())

    def step(self) -> list[tuple[int, int]]:
        """Send the next burst or write some beats: return what ends (FETCH or a LOAD's index), and when."""
        now = self._next_choice()
        if now > self._landing.next_time():
            return self._landing.step()
        fetch_waits = bool(self._fetches) and self._fetches[0][0] <= now + 1
        load_waits = bool(self._loads) and self._loads[0][0] <= now + 1
        turn = fetch_waits and not (load_waits and self._fetched_last)
        self._fetched_last = turn
        # Once chosen, an address waits in the arbiter's register for the memory.
        self._last_address = max(now + 1, self._landing.ends[self._landing.open] + 1)
        there = self._last_address + self.memory.latency
        if turn:
            burst = ReadBurst(there, self._fetches.popleft()[1], FETCH)
        else:
            _, beats, what, address = self._loads.popleft()
            burst = ReadBurst(there, beats, what, address)
            self._sent.append(self._last_address)
        self.beats += burst.beats
        return self._landing.add(burst)

    def _next_choice(self) -> int:
        """Return when the next burst is chosen; NEVER if none waits or the memory is not known to take it."""
        first = min(
            self._fetches[0][0] if self._fetches else NEVER,
            self._loads[0][0] if self._loads else NEVER,
        )
        if first == NEVER or self._landing.open == self.memory.outstanding:
            return NEVER
        return max(first - 1, self._last_address)


@dataclass
class _WriteBurst:
    """A burst of a STORE: when it can begin, beats not read yet, where, and the STORE's index if it is the last one."""

    earliest: int
    beats: int
    address: int
    what: int


class StoreChannel:
    """Writes: addresses, data and responses of one STORE after another.

    A beat is read when no EXEC takes its bank.
    """

    def __init__(self, config: AcceleratorConfig, memory: Memory) -> None:
        self.config, self.memory = config, memory
        self.beats = 0
        self._responses: deque[int] = deque([-1] * memory.outstanding, maxlen=memory.outstanding)
        self._address = -1
        self._bursts: deque[_WriteBurst] = deque()
        self._next = 0  # earliest cycle of the next read
        self._reads: deque[int] = deque([-1] * (_REQUESTS + 1), maxlen=_REQUESTS + 1)  # the last ones
        self._length = 0  # beats of the burst at hand; 0: it has not begun
        self._begin = -1  # when its first request was made
        self._requested: list[int] = []  # when the last request of each burst was made
        self._asked = 0
        self._execs: deque[ExecAccesses] = deque()
        self._next_exec = 0

    def accesses(self, accesses: ExecAccesses, next_exec: int) -> None:
        """Note the reads of an EXEC accepted now, which have the right of way, and the next one's first chance."""
        self._execs.append(accesses)
        self._next_exec = next_exec

    def store(self, accepted: int, index: int, instruction: Instruction) -> int:
        """Ask for a STORE's bursts.

        Returns
        -------
        int
            How many bursts must have been requested until the next STORE can be accepted.
        """
        found = bursts(self.config, instruction)
        last = len(found.beats) - 1
        for number, (beats, address) in enumerate(zip(found.beats, found.addresses, strict=True)):
            what = index if number == last else NEVER
            self._bursts.append(_WriteBurst(accepted + _STORE_FIRST + number, beats, address, what))
        before = self._asked
        self._asked += len(found.beats)
        return max(0, before + found.row_ends[-3] - _WRITE_SLICE) if len(found.row_ends) > 2 else 0

    def requested(self, count: int) -> int:
        """Return when the last of the first `count` bursts had been requested; NEVER if that is not known yet."""
        if count == 0:
            return 0
        return self._requested[count - 1] if count <= len(self._requested) else NEVER

    def next_time(self) -> int:
        """Return when :meth:`step` goes on; NEVER if nothing waits."""
        if not self._bursts:
            return NEVER
        if self._length:
            return self._next
        return max(self._bursts[0].earliest, self._address, self._requested[-1] + 1 if self._requested else 0)

    def step(self) -> list[tuple[int, int]]:
        """Read as many beats as can be told from the EXECs accepted up to now; return STOREs that end, and when."""
        now, burst = self.next_time(), self._bursts[0]
        known = min(max(now, self._next_exec) + FIRST_STEP, now + PIECE)
        if not self._length:
            self._length, self._begin = burst.beats, now
            self._address = max(now + 1, self._responses[0] + 1)
            now = max(now + 1, self._next)
        bank, place = divmod(burst.address, self.config.act_bank_bytes)
        count = min(burst.beats, -(-(self.config.act_bank_bytes - place) // self.config.axi_bytes))
        while self._execs and self._execs[0].done < now:
            self._execs.popleft()
        taken: set[int] = set()
        for accesses in self._execs:
            if accesses.begin < known:
                taken |= accesses.reads(bank % self.config.act_banks, now, known)
        if not taken:
            read = range(now, now + min(count, known - now))
        else:
            read = [cycle for cycle in range(now, known) if cycle not in taken][:count]
        done = len(read)
        self._reads.extend(read[-_REQUESTS - 1 :])
        burst.address += done * self.config.axi_bytes
        burst.beats -= done
        self._next = read[-1] + 1 if done == count else max(now, known)
        return [] if burst.beats else self._end()

    def _end(self) -> list[tuple[int, int]]:
        """End the burst at hand, whose last beat has just been read."""
        burst, beats, responses = self._bursts.popleft(), self._length, self._responses
        buffered = self._address + beats - BUFFERED_BEATS - self.memory.outstanding
        requested = max(self._begin + beats - 1, self._reads[0] + 1, buffered)
        read = max(self._reads[-1], requested + 1)
        self._requested.append(requested)
        self._next, self._length = read + 1, 0
        last_beat = max(read + _STORE_DATA + self.config.pipeline_mac, self._address)
        responses.append(max(last_beat + self.memory.latency, responses[-1] + 1))
        self.beats += beats
        return [] if burst.what == NEVER else [(burst.what, responses[-1] + 1)]
