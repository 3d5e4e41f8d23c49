"""Ordering: which steps must wait for which, as tokens between the three queues, and which may overlap.

Two steps conflict if one writes bytes that the other touches (RAW, WAR, WAW, on chip or in DRAM).  Inside a queue,
program order settles it: loads and stores finish in order, and an EXEC starts after its predecessor is done unless it
has the `overlap` flag.  Between queues a step waits for the newest conflicting step of every other queue; older ones
are then done as well, because each queue finishes in order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from hw.spec.isa import TOKEN_MAX, Opcode, Queue
from sw.compiler.steps import Span, Step

__all__ = ["Order", "dependencies", "order_steps", "overlaps"]

Clock = tuple[int, ...]
_NOTHING: Clock = (-1,) * len(Queue)


@dataclass(frozen=True)
class Order:
    """Masks of every step (bit q: queue q), as the instruction fields hold them, and its overlap flag."""

    wait: list[int]
    signal: list[int]
    overlap: list[int]


@dataclass
class _Live:
    """Accesses of one memory that a later step may conflict with directly."""

    reads: list[tuple[int, Span]] = field(default_factory=list)
    writes: list[tuple[int, Span]] = field(default_factory=list)


def dependencies(steps: Sequence[Step]) -> list[set[int]]:
    """Return, for every step, earlier steps it conflicts with (those implied by a later one of them may be missing)."""
    live: dict[tuple[str, int], _Live] = defaultdict(_Live)
    result: list[set[int]] = []
    for index, step in enumerate(steps):
        found: set[int] = set()
        for span in step.reads:
            found |= {i for i, other in live[span.key].writes if other.overlaps(span)}
        for span in step.writes:
            memory = live[span.key]
            found |= {i for i, other in (*memory.writes, *memory.reads) if other.overlaps(span)}
        result.append(found)
        for span in step.reads:
            live[span.key].reads.append((index, span))
        for span in step.writes:
            # whoever conflicts with an access that this write covers conflicts with this write too
            memory = live[span.key]
            memory.reads = [(i, other) for i, other in memory.reads if i == index or not span.covers(other)]
            memory.writes = [(i, other) for i, other in memory.writes if not span.covers(other)]
            memory.writes.append((index, span))
    return result


def order_steps(steps: Sequence[Step], *, limit: int = TOKEN_MAX) -> Order:
    """Assign tokens and overlap flags to steps in program order.

    Parameters
    ----------
    limit
        Tokens one queue may have given another and not seen taken, whatever the queues' relative speed.
    """
    needs = dependencies(steps)
    flags = overlaps(steps)
    while True:
        wait, signal, clocks, pairs = _assign(steps, needs)
        throttled = _throttle(steps, clocks, pairs, limit)
        if not throttled:
            return Order(wait, signal, flags)
        for index, earlier in throttled:
            needs[index] = needs[index] | {earlier}


def overlaps(steps: Sequence[Step]) -> list[int]:
    """Return 1 for every EXEC that reads nothing that the EXEC immediately before it writes.

    The hardware (docs/architecture.md, "Two EXECs are under way at a time") orders all else.  An EXEC reads its first
    operand when all but the one before are done, and when that one has read its last operand.  Rows of both pass the
    result writer one after another, so writes come in order, and a second operand is read before any later row is
    written: writing what the EXEC before reads or writes needs no flag taken back.
    """
    flags = [0] * len(steps)
    before: Step | None = None
    for index, step in enumerate(steps):
        if step.opcode != Opcode.EXEC:
            continue
        if before is not None:
            flags[index] = int(not any(a.overlaps(b) for a in before.writes for b in step.reads))
        before = step
    return flags


Pairs = dict[tuple[Queue, Queue], list[tuple[int, int]]]


def _assign(steps: Sequence[Step], needs: Sequence[set[int]]) -> tuple[list[int], list[int], list[Clock], Pairs]:
    """Return wait masks, signal masks, what every step knows to be done when it starts, and (giver, taker) pairs.

    The clock of a step holds, per queue, the newest step known to be done: tokens taken by earlier steps of its queue
    count, and so does what the givers knew.
    """
    wait, signal = [0] * len(steps), [0] * len(steps)
    clocks: list[Clock] = []
    known: dict[Queue, Clock] = dict.fromkeys(Queue, _NOTHING)
    pairs: Pairs = {(giver, taker): [] for giver in Queue for taker in Queue if giver != taker}
    for index, step in enumerate(steps):
        queue = step.queue
        newest = {q: max((i for i in needs[index] if steps[i].queue == q), default=-1) for q in Queue if q != queue}
        # the newest giver first: it may know that the other one is done
        for other in sorted(newest, key=lambda q: newest[q], reverse=True):
            giver = newest[other]
            if giver <= known[queue][other]:
                continue
            signal[giver] |= 1 << queue
            wait[index] |= 1 << other
            pairs[other, queue].append((giver, index))
            told = [*map(max, known[queue], clocks[giver])]
            told[other] = max(told[other], giver)
            known[queue] = tuple(told)
        clocks.append(known[queue])
    return wait, signal, clocks, pairs


def _throttle(steps: Sequence[Step], clocks: Sequence[Clock], pairs: Pairs, limit: int) -> list[tuple[int, int]]:
    """Return (step, earlier step) pairs that must be ordered so that no counter can exceed `limit`.

    The k-th giver must know that the taker of token k - limit has started.  If that one comes later in program order,
    it waits for the k-th giver instead, and the tokens between are not needed any more.
    """
    found = []
    for (_, taker_queue), tokens in pairs.items():
        for position in range(limit, len(tokens)):
            giver, taker = tokens[position][0], tokens[position - limit][1]
            if clocks[giver][taker_queue] < taker:
                found.append((giver, taker) if taker < giver else (taker, giver))
                break
    return found
