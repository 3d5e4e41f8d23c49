"""The two directions of the AXI port, burst by burst: when transfers are accepted, and when they are through."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction
from sw.model.banks import Shares
from sw.model.bursts import bursts

__all__ = ["FETCH", "NEVER", "LoadChannel", "Memory", "StoreChannel"]

NEVER = 1 << 62

FETCH = -1
"""Stands for instruction fetch where a LOAD's index is meant."""

_TO_BUS = 7
"""From a LOAD's acceptance to its first address at the memory."""

_SETTLE = 5
"""From a LOAD's last beat on the bus until it is visible on chip."""

_READ_BUFFERS = 6
"""Bursts between the row walk and the bus: two register slices, two address registers."""

_STORE_FIRST = 4
"""From a STORE's acceptance to its first scratchpad read."""

_STORE_DATA = 5
"""From a scratchpad read to its beat on the bus; one more with ``pipeline_mac``."""

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
        self._loads: deque[tuple[int, int, int]] = deque()  # arrival, beats, LOAD's index if it is the last burst
        self._row_ends: deque[int] = deque([0, 0], maxlen=2)  # bursts up to the end of the last two rows
        self._asked = 0  # bursts of loads asked for
        self._sent: list[int] = []  # when each of them reached the memory
        self._ends: deque[int] = deque([-1] * memory.outstanding, maxlen=memory.outstanding)
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
        for number, beats in enumerate(found.beats):
            self._loads.append((arrival + number, beats, index if number == last else NEVER))
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

    def next_choice(self) -> int:
        """Return when the next burst is chosen, as far as is known; NEVER if none waits."""
        first = min(
            self._fetches[0][0] if self._fetches else NEVER,
            self._loads[0][0] if self._loads else NEVER,
        )
        return NEVER if first == NEVER else max(first - 1, self._last_address)

    def step(self) -> tuple[int, int]:
        """Send the next burst: return what ends with it (FETCH, a LOAD's index or NEVER), and when it is there."""
        now = self.next_choice()
        fetch_waits = bool(self._fetches) and self._fetches[0][0] <= now + 1
        load_waits = bool(self._loads) and self._loads[0][0] <= now + 1
        turn = fetch_waits and not (load_waits and self._fetched_last)
        self._fetched_last = turn
        # Once chosen, an address waits in the arbiter's register for the memory.
        self._last_address = max(now + 1, self._ends[0] + 1)
        if turn:
            beats, what = self._fetches.popleft()[1], FETCH
        else:
            _, beats, what = self._loads.popleft()
            self._sent.append(self._last_address)
        end = max(self._last_address + self.memory.latency, self._ends[-1] + 1) + beats - 1
        self._ends.append(end)
        self.beats += beats
        return what, end if turn else end + _SETTLE


class StoreChannel:
    """Writes: addresses, data and responses of one STORE after another."""

    def __init__(self, config: AcceleratorConfig, memory: Memory) -> None:
        self.config, self.memory = config, memory
        self.beats = 0
        self._responses: deque[int] = deque([-1] * memory.outstanding, maxlen=memory.outstanding)
        self._address = self._last_read = -1
        self._reads: deque[int] = deque([-1] * _WRITE_SLICE, maxlen=_WRITE_SLICE)  # last reads of bursts
        self._execs: deque[tuple[int, int, Shares]] = deque(maxlen=2)

    def exec_reads(self, begin: int, end: int, share: Shares) -> None:
        """Note that an EXEC reads each bank in a share of these cycles; its reads have the right of way."""
        self._execs.append((begin, end, share))

    def _turns(self, begin: int, beats: int, address: int) -> int:
        """Return when the last of some reads from an address gets its turn, the first one asked for at `begin`."""
        bank = address // self.config.act_bank_bytes % self.config.act_banks
        left = float(beats)
        now = float(begin)
        for start, end, share in self._execs:
            free = 1.0 - float(share[bank])
            if end <= now or free > 0.99:
                continue
            before = max(0.0, start - now)  # undisturbed
            if left <= before:
                break
            now, left = max(now, float(start)), left - before
            if left <= free * (end - now):
                return round(now + left / free) - 1
            left -= free * (end - now)
            now = float(end)
        return round(now + left) - 1

    def store(self, accepted: int, instruction: Instruction) -> tuple[int, int]:
        """Run a STORE accepted in a cycle; return when it is done, and when the next one can be accepted."""
        found = bursts(self.config, instruction)
        latency, responses = self.memory.latency, self._responses
        walked = {end - 1 for end in found.row_ends[-3:-2]}
        ready = accepted + len(found.row_ends) + self.config.pipeline_mac
        available = accepted + _STORE_FIRST
        row, place, row_end = 0, 0, found.row_ends[0]
        for number, beats in enumerate(found.beats):
            begin = max(available + number, self._last_read + 1, self._address)
            self._address = max(begin + 1, responses[0] + 1)
            if number == row_end:
                row, place = row + 1, 0
                row_end = found.row_ends[row]
            address = instruction["mem_addr"] + row * instruction["mem_stride"] + place
            place += beats * self.config.axi_bytes
            turns = self._turns(begin, beats, address)
            self._last_read = max(turns, self._address + beats - BUFFERED_BEATS - self.memory.outstanding)
            if number in walked:
                ready = max(ready, self._reads[0] + 1 + self.config.pipeline_mac)
            self._reads.append(self._last_read)
            last_beat = max(self._last_read + _STORE_DATA + self.config.pipeline_mac, self._address)
            responses.append(max(last_beat + latency, responses[-1] + 1))
            self.beats += beats
        return responses[-1] + 1, ready
