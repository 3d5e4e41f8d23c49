"""The ISS as a machine: results, error causes, and the checks of what the ISA leaves undefined."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import (
    INSTRUCTION_BYTES,
    ISA_VERSION,
    Instruction,
    Mode,
    Opcode,
    Queue,
    Region,
    ResidualOp,
    Target,
    assemble,
)
from hw.spec.program import PARAM_DTYPE, Program, ProgramError
from sim.backend import Backend, ExecutionError, UndefinedError
from sim.broken_programs import BrokenProgram, broken_programs, sound_program
from sim.iss import IssBackend
from sim.program_builder import ProgramBuilder
from sim.random_programs import random_inputs, random_program

TINY = PRESETS["tiny"]
CONFIGS = {
    "tiny": TINY,
    "no_stos": PRESETS["edge8"].twin(stos=False),
    "odd": AcceleratorConfig(rows=5, cols=9, act_kib=64, max_kernel=15, axi_data_width=64),
    "wide": AcceleratorConfig(rows=1, cols=64, max_kernel=1, param_entries=65536, axi_data_width=512),
}
BROKEN = [(name, case) for name, config in CONFIGS.items() for case in broken_programs(config)]


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "case"), BROKEN, ids=[f"{name}-{case.name}" for name, case in BROKEN])
def test_broken_programs_stop_with_their_cause_and_place(name: str, case: BrokenProgram) -> None:
    with pytest.raises(ExecutionError) as caught:
        IssBackend(CONFIGS[name]).run(case.program, {})
    assert (caught.value.cause, caught.value.pc) == (case.cause, case.pc), caught.value
    assert str(caught.value).startswith(f"instruction {case.pc}: {case.cause.name}: ")


def test_every_cause_a_program_can_provoke_is_there() -> None:
    beyond_programs = {ErrorCause.NONE, ErrorCause.AXI_READ, ErrorCause.AXI_WRITE, ErrorCause.WATCHDOG}
    for config in CONFIGS.values():
        cases = broken_programs(config)
        assert {case.cause for case in cases} == set(ErrorCause) - beyond_programs
        assert len({case.name for case in cases}) == len(cases)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_program_they_are_made_of_runs(name: str) -> None:
    program = sound_program(CONFIGS[name])
    program.validate()
    out = IssBackend(CONFIGS[name]).run(program, {}).outputs["out"]
    pixels = np.arange(32).reshape(2, 4, 4)
    assert (out == np.rint(pixels.sum(axis=0) / 4)).all()


def test_messages_name_field_value_and_limit() -> None:
    cases = {case.name: case for case in broken_programs(TINY)}
    expected = {
        "exec_kh_8": "kh=8 with mode=GEMM; legal is 1 to 7",
        "exec_mode_4_kw_8": "kw=8 with mode=MAX; legal is 1 to 7",
        "exec_mode_6": "\\(mode=6; legal is 0 to 4\\)",
        "range_exec_gate": "gate bytes 16383 to 16385, of 16384",
        "range_exec_output": "output bytes 16353 to 16385, of 16384",
        "other_config_hash": f"this is {TINY.hash_hex}, ISA {ISA_VERSION}",
        "deadlock_load_waits_for_exec": "LOAD waits for a token of queue EXEC",
        "misaligned_weight_mem_addr": "the limit is the AXI beat of 8 bytes",
    }
    for name, text in expected.items():
        with pytest.raises(ExecutionError, match=text):
            IssBackend(TINY).run(cases[name].program, {})


def test_errors_survive_pickling() -> None:
    for error in (ExecutionError(ErrorCause.BAD_FIELD, 3, 1 << 35, "x=1"), UndefinedError(4, "y")):
        copy = pickle.loads(pickle.dumps(error))
        assert str(copy) == str(error)
        assert vars(copy) == vars(error)


def test_another_configuration_is_refused() -> None:
    with pytest.raises(ProgramError, match="cols: 4 / 5"):
        IssBackend(TINY.twin(cols=5)).run(sound_program(TINY), {})


# --- results ---------------------------------------------------------------------------------------------------------


def test_it_is_a_backend_without_a_clock() -> None:
    backend = IssBackend(TINY)
    assert isinstance(backend, Backend)
    program = random_program(TINY, 5)
    inputs = random_inputs(program, 5)
    first, second = backend.run(program, inputs), backend.run(program, inputs)
    assert first.regions == second.regions
    assert (first.counters, first.cycles, first.trace) == ({}, None, [])


def test_only_outputs_are_written() -> None:
    for seed in range(10):
        program = random_program(TINY, seed)
        inputs = random_inputs(program, seed)
        result = IssBackend(TINY).run(program, inputs)
        assert result.regions[Region.CONST][: len(program.image)] == program.image
        untouched = np.ones(len(result.regions[Region.OUTPUT]), bool)
        for spec in program.outputs:
            channels, height, width = spec.shape
            for channel in range(channels):
                start = spec.offset + channel * spec.plane_stride
                untouched[start : start + height * width] = False
        assert not np.frombuffer(result.regions[Region.OUTPUT], np.uint8)[untouched].any()
        assert set(result.outputs) == {spec.name for spec in program.outputs}


def test_dma_follows_both_strides() -> None:
    builder = ProgramBuilder(TINY)
    data = bytes(range(200))
    place = builder.const(data)
    builder.load(
        Target.ACT,
        Region.CONST,
        dram_offset=place + 3,
        mem_addr=1001,
        rows=4,
        row_bytes=7,
        dram_stride=20,
        mem_stride=11,
    )
    # Rows that overlap on chip: the later one wins.
    builder.load(
        Target.ACT, Region.CONST, dram_offset=place, mem_addr=1100, rows=3, row_bytes=8, dram_stride=50, mem_stride=4
    )
    for row in range(4):
        builder.store(Region.WORK, dram_offset=7 * row, mem_addr=1001 + 11 * row, rows=1, row_bytes=7)
    builder.store(Region.WORK, dram_offset=100, mem_addr=1100, rows=1, row_bytes=16)
    builder.store(Region.WORK, dram_offset=200, mem_addr=1100, rows=2, row_bytes=2, dram_stride=1, mem_stride=14)
    work = IssBackend(TINY).run(builder.finish(work_bytes=256), {}).regions[Region.WORK]
    assert work[:28] == b"".join(data[3 + 20 * row :][:7] for row in range(4))
    assert work[100:116] == data[0:4] + data[50:54] + data[100:108]
    assert work[200:203] == bytes([data[0], data[106], data[107]])


# --- what the hardware would not notice ------------------------------------------------------------------------------


def _edit(program: Program, **by_pc: dict[str, int]) -> Program:
    stream = program.instructions()
    for pc, values in by_pc.items():
        index = int(pc[1:])
        stream[index] = replace(stream[index], values={**stream[index].values, **values})
    return replace(program, image=assemble(stream) + program.image[len(stream) * INSTRUCTION_BYTES :])


def _tokens(program: Program) -> list[tuple[int, Queue, int, Queue]]:
    """Return (giver, its queue, taker, its queue) of every token."""
    queue_of = {Opcode.LOAD: Queue.LOAD, Opcode.EXEC: Queue.EXEC, Opcode.STORE: Queue.STORE}
    given: dict[tuple[Queue, Queue], list[int]] = {}
    pairs = []
    for pc, instruction in enumerate(program.instructions()):
        mine = queue_of.get(instruction.opcode)
        for other in Queue:
            if mine is not None and instruction["wait"] >> other & 1:
                pairs.append((given[other, mine].pop(0), other, pc, mine))
        for other in Queue:
            if mine is not None and instruction["signal"] >> other & 1:
                given.setdefault((mine, other), []).append(pc)
    assert not any(given.values()), "tokens left over"
    return pairs


def test_a_missing_token_is_found() -> None:
    """Take tokens out of random programs one by one: the race is reported, unless another token orders the two."""
    found = total = 0
    for seed in range(8):
        program = random_program(TINY, seed)
        inputs = random_inputs(program, seed)
        stream = program.instructions()
        for giver, giving, taker, taking in _tokens(program):
            edits = {f"_{giver}": {"signal": stream[giver]["signal"] & ~(1 << taking)}}
            edits[f"_{taker}"] = {"wait": stream[taker]["wait"] & ~(1 << giving)}
            without = _edit(program, **edits)
            total += 1
            IssBackend(TINY, check_hazards=False).run(without, inputs)
            try:
                IssBackend(TINY).run(without, inputs)
            except UndefinedError as error:
                assert "no chain of tokens" in error.detail
                assert error.pc == taker
                found += 1
    assert total > 60
    assert found > 0.8 * total


def _two_execs(**second: int) -> Program:
    """Copy bytes 0..7 to 100..107, then to 200..207; `second` changes the second copy."""
    builder = ProgramBuilder(TINY)
    builder.load_const(Target.ACT, 0, bytes(256))
    builder.load_const(Target.PARAM, 0, np.array([(0, 1, 0, 0)], PARAM_DTYPE).tobytes())
    common = {
        "mode": Mode.VEC, "in_w": 8, "in_h": 1, "out_w": 8, "out_h": 1, "kh": 1, "kw": 1, "sy": 1, "sx": 1, "cout": 1,
        "q_lo": -128, "q_hi": 127,
    }  # fmt: skip
    builder.exec(**common, out_base=100)
    pc = builder.exec(**common, out_base=200)
    return _edit(builder.finish(), **{f"_{pc}": second})


def test_unsafe_overlap_is_found() -> None:
    for place in (8, 92, 108):
        IssBackend(TINY).run(_two_execs(overlap=1, in_base=place), {})
    for place in (99, 108, 199, 208):
        IssBackend(TINY).run(_two_execs(overlap=1, res=2, res_base=place), {})
    for unsafe in (
        {"in_base": 100},
        {"in_base": 93},
        {"in_base": 107},
        {"res": 1, "res_base": 100, "out_base": 100},
        {"res": 2, "res_base": 107},
    ):
        IssBackend(TINY).run(_two_execs(overlap=0, **unsafe), {})
        IssBackend(TINY, check_hazards=False).run(_two_execs(overlap=1, **unsafe), {})
        with pytest.raises(UndefinedError, match="instruction 4: overlap=1, but it reads ACT bytes that instruction 3"):
            IssBackend(TINY).run(_two_execs(overlap=1, **unsafe), {})


def test_pooled_bytes_are_written_too() -> None:
    """An EXEC that overlaps their writer must not read them."""
    builder = ProgramBuilder(TINY)
    builder.load_const(Target.ACT, 0, bytes(256))
    builder.load_const(Target.PARAM, 0, np.array([(0, 1, 0, 0)], PARAM_DTYPE).tobytes())
    common = {
        "mode": Mode.VEC, "in_h": 1, "out_h": 1, "kh": 1, "kw": 1, "sy": 1, "sx": 1, "cout": 1,
        "q_lo": -128, "q_hi": 127,
    }  # fmt: skip
    builder.exec(**common, in_w=8, out_w=8, out_base=100, gap=1, gap_mult=1, res=ResidualOp.POOL, res_base=120)
    reader = builder.exec(**common, in_w=1, out_w=1, in_base=120, out_base=200)
    program = builder.finish()
    IssBackend(TINY).run(program, {})
    with pytest.raises(UndefinedError, match="overlap=1, but it reads ACT bytes that instruction 3 writes"):
        IssBackend(TINY).run(_edit(program, **{f"_{reader}": {"overlap": 1}}), {})


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"res": 3, "gap": 1, "res_base": 7}, "overlaps the input"),
        ({"res": 3, "gap": 1, "res_base": 207}, "pooled bytes .* overlap the map"),
        ({"res": 2, "res_base": 256}, "reads bytes of ACT that nothing has written"),
        ({"res": 2, "res_base": 200}, "overlaps the gate"),
        ({"res": 2, "res_base": 207}, "overlaps the gate"),
        ({"res": 2, "res_base": 200, "gap": 1}, "overlaps the gate"),
        ({"mode": Mode.MAX, "p_base": 1}, "reads bytes of PARAM that nothing has written"),
        ({"in_base": 249}, "reads bytes of ACT that nothing has written"),
        ({"res": 1, "res_base": 300}, "reads bytes of ACT that nothing has written"),
        ({"p_base": 1}, "reads bytes of PARAM that nothing has written"),
        ({"mode": Mode.GEMM, "cin": 1}, "reads bytes of WEIGHT that nothing has written"),
        ({"out_base": 7}, "overlaps the input"),
        ({"res": 1, "res_base": 201}, "without being the same place"),
        ({"out_h": 2, "out_pitch": 7}, "output channels or lines overlap"),
    ],
)
def test_undefined_operands(second: dict[str, int], message: str) -> None:
    with pytest.raises(UndefinedError, match=message):
        IssBackend(TINY).run(_two_execs(**second), {})


@pytest.mark.parametrize(
    ("entry", "message"),
    [((-(1 << 31), 1, 0, 0), "accumulator .* exceeds 32 bits"), ((0, 1, 48, 0), "parameter shift 48 exceeds 47")],
)
def test_undefined_arithmetic(entry: tuple[int, int, int, int], message: str) -> None:
    builder = ProgramBuilder(TINY)
    builder.load_const(Target.ACT, 0, b"\xff")
    builder.load_const(Target.PARAM, 0, np.array([entry], PARAM_DTYPE).tobytes())
    builder.exec(
        mode=Mode.VEC, in_w=1, in_h=1, out_base=9, out_w=1, out_h=1, kh=1, kw=1, sy=1, sx=1, cout=1, q_lo=-128, q_hi=127
    )
    with pytest.raises(UndefinedError, match=message):
        IssBackend(TINY).run(builder.finish(), {})


def test_empty_input_reads_as_zero_point() -> None:
    builder = ProgramBuilder(TINY)
    builder.load_const(Target.PARAM, 0, np.array([(0, 1, 0, 0)], PARAM_DTYPE).tobytes())
    builder.exec(
        mode=Mode.VEC, in_zp=-5, out_w=3, out_h=2, out_pitch=3, kh=1, kw=1, sy=1, sx=1, cout=1, q_lo=-128, q_hi=127
    )
    builder.store(Region.WORK, rows=1, row_bytes=6)
    assert IssBackend(TINY).run(builder.finish(work_bytes=6), {}).regions[Region.WORK][:6] == b"\xfb" * 6


def test_no_instructions() -> None:
    with pytest.raises(ExecutionError, match="TRUNCATED"):
        IssBackend(TINY).run(Program(TINY, b"", 0, (0, 0, 0, 0), (), ()), {})
    halt_only = Program(TINY, assemble([Instruction(Opcode.HALT)]), 1, (64, 0, 0, 0), (), ())
    with pytest.raises(ExecutionError, match="NO_HEADER"):
        IssBackend(TINY).run(halt_only, {})
