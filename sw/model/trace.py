"""When each instruction of a run was under way, measured or predicted, and Chrome's trace-event format for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hw.spec.isa import Instruction, Queue
from hw.spec.program import Program

__all__ = ["TraceEvent", "Wait", "chrome_trace", "waits"]

LANES = 16
"""Rows that a queue may take in a timeline; its instructions in flight are fewer."""


@dataclass(frozen=True)
class TraceEvent:
    """One instruction in one queue.

    `start` and `done`, when its unit accepts it and when all it does is visible, count clock cycles from the start
    command, as the counter CYCLES does.
    """

    queue: Queue
    pc: int
    start: int
    done: int


@dataclass(frozen=True)
class Wait:
    """Cycles in which a queue has nothing in progress.

    Parameters
    ----------
    queue, pc
        The queue, and its next instruction, which ends the wait.
    start, end
        In cycles.
    giver
        The instruction whose token came last; None if it was not there, that is, not fetched yet or behind another one
        that its queue had no room for.
    """

    queue: Queue
    pc: int
    start: int
    end: int
    giver: int | None


def waits(program: Program, events: Sequence[TraceEvent]) -> list[Wait]:
    """Return when queues wait, and for what, as the tokens in the instructions tell."""
    stream = program.instructions()
    tokens = _tokens(stream, events)
    result = []
    for queue in Queue:
        free = 0  # when all before are done
        for event in sorted((event for event in events if event.queue == queue), key=lambda event: event.start):
            mine = [
                tokens[giver, queue].popleft()
                for giver in Queue
                if stream[event.pc]["wait"] >> giver & 1 and tokens[giver, queue]
            ]
            if event.start > free:
                last, giver = max(mine, default=(-1, None))
                result.append(Wait(queue, event.pc, free, event.start, giver if last >= free else None))
            free = max(free, event.done)
    return result


def _tokens(
    stream: Sequence[Instruction], events: Sequence[TraceEvent]
) -> dict[tuple[Queue, Queue], deque[tuple[int, int]]]:
    """Return when tokens are given, and by which instruction, by giver and taker."""
    tokens: dict[tuple[Queue, Queue], deque[tuple[int, int]]] = {(a, b): deque() for a in Queue for b in Queue}
    for event in sorted(events, key=lambda event: event.done):
        for taker in Queue:
            if stream[event.pc]["signal"] >> taker & 1:
                tokens[event.queue, taker].append((event.done, event.pc))
    return tokens


def chrome_trace(program: Program, events: Sequence[TraceEvent], *, source: str) -> dict[str, Any]:
    """Return a JSON-able trace, for Perfetto or chrome://tracing: a slice per instruction and per wait of a queue.

    1 microsecond shown is 1 cycle.  A queue has as many rows as it has instructions in flight; waits are in its first.

    Parameters
    ----------
    program
        What ran.
    events
        When.
    source
        ``rtl`` if it was measured, ``model`` if it is predicted.
    """
    stream = program.instructions()
    layer_of = {pc: layer.name for layer in program.layers for pc in layer.instructions}
    rows: set[int] = set()
    records: list[dict[str, Any]] = []

    def add(row: int, name: str, kind: str, start: int, end: int, args: dict[str, Any]) -> None:
        rows.add(row)
        records.append(
            {"name": name, "cat": kind, "ph": "X", "pid": 0, "tid": row, "ts": start, "dur": end - start, "args": args}
        )

    for event, lane in _lanes(events):
        args = {
            "pc": event.pc,
            "layer": layer_of.get(event.pc),
            "opcode": stream[event.pc].opcode.name,
            "instruction": str(stream[event.pc]),
        }
        name = layer_of.get(event.pc, stream[event.pc].opcode.name)
        add(event.queue * LANES + lane, name, event.queue.name, event.start, event.done, args)
    for wait in waits(program, events):
        cause = "fetch" if wait.giver is None else stream[wait.giver].opcode.name
        args = {"pc": wait.pc, "layer": layer_of.get(wait.pc), "for_pc": wait.giver}
        args["for_layer"] = None if wait.giver is None else layer_of.get(wait.giver)
        add(wait.queue * LANES, f"waits for {cause}", "wait", wait.start, wait.end, args)
    names = {row: f"{Queue(row // LANES).name}{f' {row % LANES + 1}' if row % LANES else ''}" for row in sorted(rows)}
    head: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 0, "tid": 0, "args": {"name": f"{_network(program)} ({source})"}}
    ]
    for row, name in names.items():
        head.append({"name": "thread_name", "ph": "M", "pid": 0, "tid": row, "args": {"name": name}})
        head.append({"name": "thread_sort_index", "ph": "M", "pid": 0, "tid": row, "args": {"sort_index": row}})
    other = {"unit": "1 us = 1 clock cycle", "source": source, "config_hash": program.config.hash_hex}
    return {"traceEvents": head + sorted(records, key=lambda r: (r["ts"], r["tid"])), "otherData": other}


def _network(program: Program) -> str:
    return str(program.meta.get("network") or program.meta.get("name") or "program")


def _lanes(events: Sequence[TraceEvent]) -> list[tuple[TraceEvent, int]]:
    """Give each event the first row of its queue that is free, so that slices of a row do not overlap."""
    free: dict[Queue, list[int]] = {queue: [] for queue in Queue}
    result = []
    for event in sorted(events, key=lambda event: (event.start, event.queue)):
        ends = free[event.queue]
        lane = next((number for number, end in enumerate(ends) if end <= event.start), len(ends))
        if lane == len(ends):
            ends.append(0)
        ends[lane] = event.done
        result.append((event, lane))
    return result
