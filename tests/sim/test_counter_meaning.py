"""Performance counters of the generated Verilog against what the trace and the program say happened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hw.spec.config import PRESETS
from hw.spec.csr import Counter
from hw.spec.isa import Instruction, Mode, Opcode, Queue
from sim.backend import Result
from sim.random_programs import random_inputs, random_program
from sim.verilator.backend import VerilatorBackend
from sw.compiler.traffic import loaded_bytes, stored_bytes

CONFIG = PRESETS["tiny"]
COUNTER_OF_MODE = {
    Mode.GEMM: "EXEC_GEMM",
    Mode.STOS_CH: "EXEC_STOS",
    Mode.STOS_LN: "EXEC_STOS",
    Mode.VEC: "EXEC_VEC",
    Mode.MAX: "EXEC_VEC",
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs() -> Iterator[list[tuple[list[Instruction], Result]]]:
    """Return instructions and results of random programs on memories of different speed."""
    done = []
    with VerilatorBackend(CONFIG) as backend:
        for seed, (latency, stall) in enumerate([(64, 0.0), (1, 0.3), (1, 0.0), (200, 0.1), (20, 0.5)]):
            backend.set_memory(latency=latency, stall_probability=stall, seed=seed)
            program = random_program(CONFIG, seed)
            done.append((list(program.instructions()), backend.run(program, random_inputs(program, seed))))
    yield done


def busy_cycles(result: Result, queue: Queue) -> int:
    """Return the cycles in which a queue had at least one instruction under way."""
    return len({cycle for e in result.trace if e.queue == queue for cycle in range(e.start, e.done)})


def test_busy_cycles_are_those_of_the_trace(runs: list[tuple[list[Instruction], Result]]) -> None:
    for instructions, result in runs:
        expected = dict.fromkeys(COUNTER_OF_MODE.values(), 0)
        # Done in order, so whenever EXECs are in progress the one that started last is.
        newest = {cycle: e.pc for e in result.trace if e.queue == Queue.EXEC for cycle in range(e.start, e.done)}
        for pc in newest.values():
            expected[COUNTER_OF_MODE[Mode(instructions[pc]["mode"])]] += 1
        expected |= {f"{queue.name}_BUSY": busy_cycles(result, queue) for queue in (Queue.LOAD, Queue.STORE)}
        assert {name: result.counters[name] for name in expected} == expected
    assert all(any(result.counters[name] for _, result in runs) for name in COUNTER_OF_MODE.values())


def test_bytes_are_those_of_the_program(runs: list[tuple[list[Instruction], Result]]) -> None:
    for instructions, result in runs:
        loads = [i for i in instructions if i.opcode == Opcode.LOAD]
        stores = [i for i in instructions if i.opcode == Opcode.STORE]
        assert result.counters["LOAD_BYTES"] == sum(loaded_bytes(load, CONFIG.axi_bytes) for load in loads)
        assert result.counters["STORE_BYTES"] == sum(map(stored_bytes, stores))


def test_stalls_are_part_of_the_time_they_belong_to(runs: list[tuple[list[Instruction], Result]]) -> None:
    for _, result in runs:
        count = result.counters
        execute = sum(count[name] for name in set(COUNTER_OF_MODE.values()))
        assert count["LOAD_DRAM"] + count["LOAD_PORT"] <= count["LOAD_BUSY"]
        assert max(count["STORE_DRAM"], count["STORE_PORT"]) <= count["STORE_BUSY"]
        assert count["EXEC_PORT"] + count["EXEC_DRAIN"] <= execute
        for busy, name in ((execute, "EXEC"), (count["LOAD_BUSY"], "LOAD"), (count["STORE_BUSY"], "STORE")):
            assert busy + count[f"{name}_TOKEN"] <= count["CYCLES"]
    for counter in Counter:
        assert any(result.counters[counter.name] for _, result in runs), f"{counter.name} never counts"
    slow, quick = runs[3][1].counters, runs[2][1].counters
    assert slow["LOAD_DRAM"] / slow["LOAD_BUSY"] > quick["LOAD_DRAM"] / quick["LOAD_BUSY"]
