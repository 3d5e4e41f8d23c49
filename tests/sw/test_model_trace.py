"""Timelines: rows without overlap, what queues wait for, and the form of the file."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest

from hw.spec.config import PRESETS
from hw.spec.isa import Opcode, Queue
from hw.spec.program import Program
from sw.compiler import compile_graph
from sw.model.timeline import timeline
from sw.model.trace import TraceEvent, Wait, chrome_trace, waits
from tests.sw.ir_graphs import Builder, block_net


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_graph(block_net(0)[1], PRESETS["tiny"])


def test_a_slice_per_instruction(program: Program) -> None:
    run = timeline(program)
    document = json.loads(json.dumps(chrome_trace(program, run.trace, source="model")))
    slices = {e["args"]["pc"]: e for e in document["traceEvents"] if e["ph"] == "X" and e["cat"] != "wait"}
    assert {(pc, e["cat"], e["ts"], e["ts"] + e["dur"]) for pc, e in slices.items()} == {
        (event.pc, event.queue.name, event.start, event.done) for event in run.trace
    }
    stream = program.instructions()
    for layer in program.layers:
        for pc in layer.instructions:
            args = slices[pc]["args"]
            assert (args["layer"], args["opcode"]) == (layer.name, stream[pc].opcode.name)
            assert args["instruction"] == str(stream[pc])
    assert document["otherData"]["unit"] == "1 us = 1 clock cycle"


def test_slices_of_a_row_do_not_overlap(program: Program) -> None:
    events = chrome_trace(program, timeline(program).trace, source="model")["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    rows = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            rows[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    assert set(names) == set(rows)
    assert {"LOAD", "EXEC", "STORE"} <= set(names.values()) and "LOAD 2" in names.values()
    for spans in rows.values():
        spans.sort()
        assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))


def test_what_a_small_program_waits_for() -> None:
    """Load, execute, store, each after the one before: the queue's token that comes last, or fetch before the first."""
    build = Builder(0)
    graph = build.graph(build.conv(build.input((4, 4, 4)), 4, (1, 1)))
    program = compile_graph(graph, PRESETS["tiny"])
    stream, trace = program.instructions(), timeline(program).trace
    pcs = {opcode: [pc for pc, i in enumerate(stream) if i.opcode == opcode] for opcode in Opcode}
    (execute,), (store,) = pcs[Opcode.EXEC], pcs[Opcode.STORE]
    at = {event.pc: event for event in trace}
    first, last = pcs[Opcode.LOAD][0], pcs[Opcode.LOAD][-1]
    found = waits(program, trace)
    assert Wait(Queue.LOAD, first, 0, at[first].start, None) in found
    assert Wait(Queue.EXEC, execute, 0, at[execute].start, last) in found
    assert Wait(Queue.STORE, store, 0, at[store].start, execute) in found
    assert at[execute].start > at[last].done and at[store].start > at[execute].done


def test_a_queue_that_is_never_idle_does_not_wait(program: Program) -> None:
    trace = [TraceEvent(event.queue, event.pc, 0, 10) for event in timeline(program).trace]
    assert waits(program, trace) == []
