"""Generated Verilog against the instruction set simulator: every byte of DRAM, on random programs and broken ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from hw.spec.csr import ErrorCause
from hw.spec.isa import Queue, Region
from hw.spec.program import ProgramError
from sim.backend import ExecutionError, Result
from sim.broken_programs import broken_programs, sound_program
from sim.iss import IssBackend
from sim.random_programs import random_inputs, random_program
from sim.random_runs import random_run
from sim.verilator.backend import HangError, VerilatorBackend
from sw.regions import build_regions
from tests.sim.rtl_configs import CONFIGS

PROGRAMS = 24
RUNS = 16
MEMORIES = [(0.0, 64), (0.3, 5), (0.1, 200)]
"""Chances of a stall and latencies, in turn."""


@pytest.fixture(scope="module", params=CONFIGS)
def backend(request: pytest.FixtureRequest) -> Iterator[VerilatorBackend]:
    with VerilatorBackend(CONFIGS[request.param]) as instance:
        yield instance


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test did, the next one starts from a working accelerator."""
    yield
    if "backend" in request.fixturenames:
        backend = request.getfixturevalue("backend")
        backend.clear_faults()
        backend.reset()


def check_bytes(got: Result, expected: Result) -> None:
    for region in Region:
        assert np.array_equal(
            np.frombuffer(got.regions[region], np.uint8), np.frombuffer(expected.regions[region], np.uint8)
        ), f"region {region.name}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_every_byte_equals_the_iss(backend: VerilatorBackend, seed: int) -> None:
    stall, latency = MEMORIES[seed % 3]
    backend.set_memory(latency=latency, stall_probability=stall, seed=seed)
    program = random_program(backend.config, seed)
    inputs = random_inputs(program, seed)
    expected = IssBackend(backend.config).run(program, inputs)
    got = backend.run(program, inputs)
    check_bytes(got, expected)
    assert got.counters["INSTRUCTIONS"] == program.instruction_count
    assert got.cycles == got.counters["CYCLES"] > 0
    # Every instruction between HEADER and HALT ran once, and each queue ran its own in order.
    assert sorted(event.pc for event in got.trace) == list(range(1, program.instruction_count - 1))
    for queue in Queue:
        mine = [event for event in got.trace if event.queue == queue]
        assert [event.pc for event in mine] == sorted(event.pc for event in mine)
        assert all(event.start < event.done for event in mine)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(RUNS))
def test_execs_back_to_back(backend: VerilatorBackend, seed: int) -> None:
    stall, latency = MEMORIES[seed % 3]
    backend.set_memory(latency=latency, stall_probability=stall, seed=seed)
    program = random_run(backend.config, seed)
    got = backend.run(program, {})
    check_bytes(got, IssBackend(backend.config).run(program, {}))
    execs = [event for event in got.trace if event.queue == Queue.EXEC]
    assert len(execs) == 16
    # Nothing else happens between them.
    assert all(max(e.start for e in execs) < event.start for event in got.trace if event.queue == Queue.STORE)


@pytest.mark.slow
def test_stalls_change_cycles_but_no_byte(backend: VerilatorBackend) -> None:
    program = random_program(backend.config, 1000)
    inputs = random_inputs(program, 1000)
    results = []
    for latency, stall in ((10, 0.0), (300, 0.4)):
        backend.set_memory(latency=latency, stall_probability=stall, seed=3)
        results.append(backend.run(program, inputs))
    assert results[0].regions == results[1].regions
    assert results[0].cycles < results[1].cycles
    assert results[0].counters["LOAD_BYTES"] == results[1].counters["LOAD_BYTES"]


@pytest.mark.slow
def test_broken_programs_stop_with_their_cause_and_recover(backend: VerilatorBackend) -> None:
    backend.set_memory(latency=20, stall_probability=0.1, seed=7)
    sound = sound_program(backend.config)
    inputs = random_inputs(sound, 5)
    expected = IssBackend(backend.config).run(sound, inputs)
    wrong = {}
    programs = broken_programs(backend.config)
    for broken in programs:
        regions = build_regions(broken.program, random_inputs(broken.program, 5))
        with pytest.raises(ExecutionError) as same:
            IssBackend(backend.config).run(broken.program, {})
        try:
            backend.run_regions(broken.program, regions)
            wrong[broken.name] = "it ran"
        except ExecutionError as error:
            if (error.cause, error.pc) != (broken.cause, broken.pc):
                wrong[broken.name] = f"{error.cause!r} at {error.pc}, not {broken.cause!r} at {broken.pc}"
            # Which byte lies beyond a memory, or which queue waits, the two find in different orders.
            elif error.cause == ErrorCause.BAD_FIELD and error.info != same.value.info:
                wrong[broken.name] = f"info {error.info}, not {same.value.info}"
        backend.soft_reset()
        if backend.run(sound, inputs).regions != expected.regions:
            wrong[f"{broken.name}, after soft reset"] = "other bytes"
    assert not wrong
    assert len({broken.cause for broken in programs}) >= 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("region", "reads", "cause"),
    [(Region.INPUT, True, ErrorCause.AXI_READ), (Region.OUTPUT, False, ErrorCause.AXI_WRITE)],
    ids=["read", "write"],
)
def test_bus_error_stops_and_recovers(
    backend: VerilatorBackend, region: Region, reads: bool, cause: ErrorCause
) -> None:
    programs = (random_program(backend.config, seed, execs=4) for seed in itertools.count(3))
    program = next(program for program in programs if program.inputs)
    inputs = random_inputs(program, 3)
    backend.set_memory(latency=30, stall_probability=0.1, seed=1)
    expected = backend.run(program, inputs)
    where = (program.inputs if reads else program.outputs)[-1]
    backend.inject_fault(region, where.offset, 1, reads=reads, writes=not reads)
    with pytest.raises(ExecutionError) as caught:
        backend.run(program, inputs)
    assert caught.value.cause == cause
    backend.clear_faults()
    backend.soft_reset()
    assert backend.run(program, inputs).regions == expected.regions


@pytest.mark.slow
def test_soft_reset_in_the_middle_of_a_run(backend: VerilatorBackend) -> None:
    program = random_program(backend.config, 4)
    inputs = random_inputs(program, 4)
    backend.set_memory(latency=40, stall_probability=0.2, seed=2)
    expected = backend.run(program, inputs)
    assert expected.cycles is not None
    for share in (0.1, 0.5, 0.9):
        backend.max_cycles = int(expected.cycles * share)
        with pytest.raises(HangError, match="no end after"):
            backend.run(program, inputs)
        backend.soft_reset()
    backend.max_cycles = 1 << 24
    assert backend.run(program, inputs).regions == expected.regions


@pytest.mark.slow
def test_hang_message_shows_where_it_stands(backend: VerilatorBackend) -> None:
    program = random_program(backend.config, 6)
    backend.set_memory(latency=64)
    backend.max_cycles = 500
    with pytest.raises(HangError) as caught:
        backend.run(program, random_inputs(program, 6))
    message = str(caught.value)
    for part in ("no end after 500 cycles", "STATUS busy=1", "in flight", "AXI bursts open", "last events"):
        assert part in message
    backend.max_cycles = 1 << 24


@pytest.mark.slow
def test_program_for_another_configuration_is_refused(backend: VerilatorBackend) -> None:
    other = backend.config.twin(param_entries=2 * backend.config.param_entries)
    program = sound_program(other)
    with pytest.raises(ProgramError, match=r"differ in param_entries: 512 / 256"):
        backend.run(program, random_inputs(program, 0))
    # And by the hardware itself, should a host not look.
    with pytest.raises(ExecutionError) as caught:
        backend.run_regions(program, build_regions(program, random_inputs(program, 0)))
    assert (caught.value.cause, caught.value.pc) == (ErrorCause.HASH_MISMATCH, 0)
