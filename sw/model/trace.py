"""When each instruction of a run was under way, measured or predicted, and Chrome's trace-event format for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hw.spec.isa import Queue
from hw.spec.program import Program

__all__ = ["TraceEvent", "chrome_trace", "since_start"]


@dataclass(frozen=True)
class TraceEvent:
    """One instruction in one queue: `start` and `done` in clock cycles since the program's start."""

    queue: Queue
    pc: int
    start: int
    done: int


def since_start(measured: Sequence[TraceEvent], predicted: Sequence[TraceEvent]) -> list[TraceEvent]:
    """Return a measured trace in the model's time.

    A simulator counts from the bus access that starts the program; the model from the command itself, some cycles
    later.  The first instruction tells how many.
    """
    first = min(predicted, key=lambda event: event.pc)
    early = next(event.start for event in measured if event.pc == first.pc) - first.start
    return [replace(event, start=event.start - early, done=event.done - early) for event in measured]


def chrome_trace(program: Program, events: Sequence[TraceEvent]) -> dict[str, Any]:
    """Return a JSON-able trace, for Perfetto or chrome://tracing: one track per queue, one slice per instruction.

    1 microsecond shown is 1 cycle.
    """
    instructions = program.instructions()
    layer_of = {pc: layer.name for layer in program.layers for pc in layer.instructions}
    records: list[dict[str, Any]] = [
        {"name": "thread_name", "ph": "M", "pid": 0, "tid": int(queue), "args": {"name": queue.name}} for queue in Queue
    ]
    for event in events:
        text = str(instructions[event.pc])
        records.append(
            {
                "name": layer_of.get(event.pc, instructions[event.pc].opcode.name),
                "cat": event.queue.name,
                "ph": "X",
                "pid": 0,
                "tid": int(event.queue),
                "ts": event.start,
                "dur": event.done - event.start,
                "args": {"pc": event.pc, "instruction": text},
            }
        )
    return {"traceEvents": records, "otherData": {"unit": "1 us = 1 clock cycle"}}
