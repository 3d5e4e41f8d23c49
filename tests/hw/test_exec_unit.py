"""The execute unit against the ISS: every byte after random instructions, with the operand port denied at random."""

from __future__ import annotations

import numpy as np
import pytest

from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import Activation, Instruction, Mode, Opcode, ResidualOp, Target
from sim.iss import IssBackend
from sim.iss.execute import execute
from sim.iss.machine import FaultError, Machine
from sim.iss.operands import operands
from sim.random_programs import random_inputs, random_program
from tests.hw.exec_bench import (
    COLUMNS,
    CONFIGS,
    FULL,
    GAP,
    PACKED,
    PLAIN,
    STEEP,
    ExecBench,
    fields,
    loaded_bench,
    small,
)


def exec_states(config: AcceleratorConfig, seed: int, **options: object):
    """Yield (instruction, memories before, scratchpad after) for the EXECs of a random program, as the ISS runs it."""
    program = random_program(config, seed, **options)
    states, memories = [], None

    def observe(pc, instruction, machine):
        nonlocal memories
        after = {target: memory.copy() for target, memory in machine.onchip.items()}
        if instruction.opcode == Opcode.EXEC:
            states.append((instruction, memories, after[Target.ACT]))
        memories = after

    IssBackend(config, observer=observe).run(program, random_inputs(program, seed))
    return states


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("denial", [0.0, 0.3], ids=["free", "denied"])
def test_random_instructions_equal_the_iss(name: str, denial: float) -> None:
    config = CONFIGS[name]
    seed = 2 * list(CONFIGS).index(name) + (denial > 0)
    for instruction, before, after in exec_states(config, seed, execs=5, cycles=2_000):
        bench = ExecBench(config, denial=denial, seed=seed)
        bench.load(before[Target.ACT], before[Target.WEIGHT], before[Target.PARAM])
        assert len(bench.run([instruction])) == 1
        wrong = np.flatnonzero(bench.act != after)
        assert wrong.size == 0, f"seed {seed}: {instruction}: {wrong.size} bytes, first {wrong[:8]}"


def check_run(config: AcceleratorConfig, instructions: list[Instruction], *, denial: float = 0.0) -> Machine:
    """Run instructions at the closest spacing on random memories; every byte must be as after the ISS.  Return it."""
    bench, machine = loaded_bench(config, denial=denial)
    assert len(bench.run(instructions, together=True)) == len(instructions)
    for instruction in instructions:
        execute(machine, instruction, operands(config, instruction))
    wrong = np.flatnonzero(bench.act != machine.onchip[Target.ACT])
    assert wrong.size == 0, f"{wrong.size} bytes, first {wrong[:8]}"
    return machine


@pytest.mark.parametrize("overlap", [0, 1])
def test_mode_changes_leave_nothing_behind(overlap: int) -> None:
    """Instructions of changing mode at the closest spacing; the array is wide, so its deskew is still full then."""
    wide = {"in_w": 18, "out_w": 18, "in_cs": 18, "in_pitch": 18, "out_cs": 18, "out_pitch": 18, **FULL}
    stream = {"mode": Mode.STOS_LN, "kh": 3, "kw": 3, "in_h": 2, "out_h": 2, "in_cs": 36, "out_cs": 36}
    changes = [
        stream,
        {"cin": 5, "cout": 3},
        {"mode": Mode.STOS_CH, "kw": 3, "pad_x": 1, "cout": 3},
        {"cin": 1, "cout": 2},
        {"mode": Mode.VEC, "cout": 2},
        stream,
        {"mode": Mode.VEC, "cout": 2, "sx": 2, "out_w": 9},
        {"mode": Mode.MAX, "cout": 2, "kw": 3, "pad_x": 1},
        {"cin": 2, "kh": 1, "kw": 3, "cout": 1},
        {**stream, "mode": Mode.MAX},
        stream,
        {"mode": Mode.MAX, "cout": 1},
        {"cin": 1, "cout": 1},
    ]
    instructions = [
        fields(**{**wide, **change, "overlap": overlap, "out_base": 2048 + 512 * place})
        for place, change in enumerate(changes)
    ]
    check_run(small(2, 24, max_kernel=3), instructions)


CURVE = {"act": Activation.HSWISH, "act_offset": 1500, "act_limit": 3000, "post_shift": 16, "out_zp": -100}
GATE = {"res": ResidualOp.SCALE, "res_base": 1901, "res_zp": -128, "post_shift": 6, "out_zp": 5}
ADD = {"res": ResidualOp.ADD, "res_base": 1405, "res_zp": -3, "res_mult": 9}


@pytest.mark.parametrize(("name", "denial"), [("4x4", 0.0), ("3x14-pipe", 0.3), ("5x4-plain", 0.2)])
def test_maxima_curves_and_gates(name: str, denial: float) -> None:
    """Each with the modes, strides, pooling and a residual, one after another."""
    config = CONFIGS[name]
    stos = config.stos
    image = {"in_base": 3, "in_w": 9, "in_h": 4, "in_pitch": 10, "in_cs": 41, "in_zp": -17, "kh": 3, "kw": 3}
    image |= {"pad_y": 1, "pad_x": 1, "out_w": 9, "out_h": 4, "out_pitch": 9, "out_cs": 36, **FULL}
    half = {"sx": 2, "sy": 2, "out_w": 5, "out_h": 2}
    depthwise = {"mode": Mode.STOS_LN} if stos else {"depthwise": 1}
    rows = {"mode": Mode.STOS_CH, "kh": 1, "pad_y": 0} if stos else {"depthwise": 1, "kh": 1, "pad_y": 0}
    vec = {"mode": Mode.VEC, "kh": 1, "kw": 1, "pad_y": 0, "pad_x": 0}
    changes = [
        {"mode": Mode.MAX, "cout": 4, "p_base": PLAIN},
        {"mode": Mode.MAX, "cout": 3, "p_base": PLAIN, **half},
        {"mode": Mode.MAX, "cout": 2, "kh": 2, "kw": 2, "pad_y": 0, "pad_x": 0, "p_base": PLAIN, **half},
        {"mode": Mode.MAX, "cout": 2, "p_base": PLAIN, **GAP},
        {"mode": Mode.MAX, "cout": 2, "p_base": STEEP, **ADD, **CURVE},
        {"cin": 2, "cout": 6, **CURVE},
        {**depthwise, "cout": 6, **GATE},
        {"cin": 1, "cout": 5, **GATE, **half},
        {**rows, "cout": 5, **CURVE, **ADD, **half},
        {**rows, "cout": 6, **GATE, **GAP},
        {**vec, "cout": 3, "p_base": PLAIN, **GATE},
        {**vec, "cout": 3, "p_base": STEEP, **GATE, **CURVE},
        {**vec, "cout": 3, "p_base": STEEP, **CURVE, **half},
    ]
    instructions = [
        fields(**{**image, "out_base": 2048 + 512 * i, "overlap": i % 4 > 0, **change})
        for i, change in enumerate(changes)
    ]
    after = check_run(config, instructions, denial=denial).onchip[Target.ACT].view(np.int8)
    for instruction in instructions:
        kept = after[instruction["out_base"] :][: instruction["out_cs"] * instruction["cout"]]
        lines = kept.reshape(instruction["cout"], -1, instruction["out_pitch"])
        written = lines[:, :1, :1] if instruction["gap"] else lines[:, : instruction["out_h"], : instruction["out_w"]]
        assert len(np.unique(written)) > min(written.size, 20) // 2, f"{instruction}: nearly constant"


@pytest.mark.parametrize(("name", "denial"), [("2x9", 0.0), ("3x14-pipe", 0.3), ("6x10", 0.0)])
def test_packed_lines_follow_each_other(name: str, denial: float) -> None:
    """Short instructions with and without segments, overlapping: each one's rows carry what they need."""
    vec = {"mode": Mode.VEC, "p_base": PLAIN}
    changes = [
        {"cin": 3},
        {**vec, "cout": 1, "out_h": 1, "seg_missing": 0},
        {**vec, "cout": 1, "out_h": 1, "seg": 4, "seg_gap": 2, "seg_missing": 1, "out_zp": 5},
        {**vec, "cout": 1, "out_h": 1, "seg": 0, "seg_gap": 0, "seg_missing": 0},
        {**vec, "cout": 1, "out_h": 1, "seg": 8, "seg_gap": 7, "seg_missing": 0},
        COLUMNS,
        {**COLUMNS, "kw": 3, "pad_x": 1, **GAP},
        {**COLUMNS, "seg_gap": 0, "seg_missing": 0, **ADD},
        {**COLUMNS, "sx": 2, "sy": 2, "out_h": 2, "out_w": 5, "seg_gap": 0, "seg_missing": 0},
        {**COLUMNS, "sy": 2, "out_h": 2, "seg_gap": 0, "seg_missing": 1, **GATE},
        {"mode": Mode.STOS_CH, "kw": 3, "pad_x": 1, **ADD},
        {"mode": Mode.MAX, "kw": 3, "pad_x": 1, "seg": 9, "seg_gap": 4, "p_base": STEEP, **CURVE},
        {"cin": 1, "seg": 2, "seg_missing": 3, **GAP},
    ]
    instructions = [
        fields(**{**PACKED, "overlap": 1, "out_base": 2048 + 512 * place, **change})
        for place, change in enumerate(changes)
    ]
    check_run(CONFIGS[name], instructions, denial=denial)


@pytest.mark.parametrize(
    ("name", "values", "cause"),
    [
        ("5x4-plain", {"mode": Mode.STOS_CH}, ErrorCause.BAD_FIELD),
        ("4x4", {"kw": 8}, ErrorCause.BAD_FIELD),
        ("4x4", {"kh": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"kw": 9, "sx": 3, "act": 2}, ErrorCause.BAD_FIELD),
        ("4x4", {"sy": 5}, ErrorCause.BAD_FIELD),
        ("4x4", {"sy": 0, "out_h": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"sx": 3}, ErrorCause.BAD_FIELD),
        ("4x4", {"act": 2, "res": 3}, ErrorCause.BAD_FIELD),
        ("4x4", {"res": 3}, ErrorCause.BAD_FIELD),
        ("4x4", {"act": 1, "res": 2, "cin": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": 5}, ErrorCause.BAD_FIELD),
        ("5x4-plain", {"mode": 7, "cin": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": 6, "kw": 8}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": Mode.MAX, "kw": 8}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": Mode.MAX, "kh": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": Mode.MAX, "depthwise": 1}, ErrorCause.BAD_FIELD),
        ("4x4", {"cin": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"cout": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"out_w": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": Mode.VEC, "kw": 2}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": Mode.STOS_LN, "depthwise": 1}, ErrorCause.BAD_FIELD),
        ("4x4", {"fold": 1, "seg_gap": 2, "seg_missing": 3}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg_gap": 2, "seg_missing": 3}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg_missing": 3}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": Mode.VEC, "seg": 2, "fold": 1}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": Mode.STOS_CH, "seg": 9, "seg_gap": 1, "fold": 1, "sx": 2}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg": 9, "seg_missing": 1, "sx": 2, "out_w": 7}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg": 9, "out_w": 7, "seg_gap": 10}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg": 4, "out_w": 3, "seg_gap": 5}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg": 3, "seg_gap": 3, "seg_missing": 5}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg": 4, "seg_gap": 15, "seg_missing": 5}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg": 4, "seg_gap": 3, "seg_missing": 2}, ErrorCause.BAD_FIELD),
        ("4x4", {"res": ResidualOp.POOL}, ErrorCause.BAD_FIELD),
        ("4x4", {"res": ResidualOp.POOL, "seg_missing": 5}, ErrorCause.BAD_FIELD),
        ("4x4", {"in_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"mode": Mode.STOS_CH, "in_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"out_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"res": 1, "res_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"res": 2, "res_base": 16 * 1024 - 2, "cout": 3}, ErrorCause.MEM_RANGE),
        ("4x4", {**GAP, "res": 3, "res_base": 16 * 1024 - 2, "cout": 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"mode": Mode.MAX, "in_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"mode": Mode.MAX, "out_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"w_base": 2048}, ErrorCause.MEM_RANGE),
        ("4x4", {"p_base": 256}, ErrorCause.MEM_RANGE),
    ],
)
def test_bad_instruction_stops_with_cause_and_pc(name: str, values: dict[str, int], cause: ErrorCause) -> None:
    bench, broken = ExecBench(CONFIGS[name]), fields(**values)
    assert len(bench.run([fields(), broken])) == 1
    assert bench.error is not None
    assert bench.error[:2] == (cause, 1)
    with pytest.raises(FaultError) as caught:
        operands(CONFIGS[name], broken)
    assert caught.value.cause == cause
    if cause == ErrorCause.BAD_FIELD:  # both name the first illegal value
        assert bench.error[2] == caught.value.info


FAULTS = {
    "field": ({"mode": 5}, ErrorCause.BAD_FIELD),
    "operand": ({"in_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
    "weight": ({"w_base": 2048}, ErrorCause.MEM_RANGE),
    "parameter": ({"p_base": 256}, ErrorCause.MEM_RANGE),
    "result": ({"out_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
    "residual": ({"res": 1, "res_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
    "pooled": ({**GAP, "res": 3, "res_base": 16 * 1024}, ErrorCause.MEM_RANGE),
}
LONG = {"in_w": 32, "out_w": 32, "in_cs": 32, "out_cs": 32, "in_pitch": 32, "out_pitch": 32, **FULL}
SOUND = {
    "gemm": {**LONG, "cin": 3, "cout": 6},
    "rows": {**LONG, "mode": Mode.STOS_CH, "kw": 3, "pad_x": 1, "cout": 6},
    "vec": {**LONG, "mode": Mode.VEC, "cout": 2, "p_base": PLAIN},
    "pool": {**LONG, "cin": 3, "cout": 6, **GAP},
    "pool-map": {**LONG, "cin": 3, "cout": 6, **GAP, "res": 3, "res_base": 3000},
}


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("before", SOUND)
def test_what_came_before_a_fault_is_finished(before: str, fault: str, pipeline: bool) -> None:
    """The faulty instruction overlaps the one before; one behind it is perhaps accepted, and never done."""
    values, cause = FAULTS[fault]
    config, sound = small(4, 4, pipeline_mac=pipeline), fields(**SOUND[before])
    bench, machine = loaded_bench(config)
    spare = fields(overlap=1, out_base=4096)
    assert len(bench.run([sound, fields(**{"overlap": 1, "out_base": 3072, **values}), spare], together=True)) == 1
    assert bench.error is not None and bench.error[:2] == (cause, 1)
    execute(machine, sound, operands(config, sound))
    assert np.array_equal(bench.act[:3072], machine.onchip[Target.ACT][:3072])


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize("younger", FAULTS)
@pytest.mark.parametrize("older", ["parameter", "result", "residual", "pooled"])
def test_of_two_faults_the_earlier_instructions_is_reported(older: str, younger: str, pipeline: bool) -> None:
    """Although the later one's may be found first: the earlier one's shows when its rows come."""
    bench, _ = loaded_bench(small(4, 4, pipeline_mac=pipeline))
    first, second = (fields(overlap=1, **FAULTS[name][0]) for name in (older, younger))
    assert len(bench.run([fields(), first, second], together=True)) == 1
    assert bench.error is not None and bench.error[:2] == (FAULTS[older][1], 1)


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize("fault", ["parameter", "result", "residual"])
def test_an_instruction_accepted_around_the_error_does_nothing(fault: str, pipeline: bool) -> None:
    """Whatever the cycle it comes in: the first error is reported, the faulty instruction is not done."""
    config = small(4, 4, pipeline_mac=pipeline)
    end = config.act_bytes
    values = {
        "parameter": {"p_base": 253, "cout": 6, "out_base": 1024},
        "result": {"out_base": end - 8, "cout": 4},
        "residual": {"out_base": 1024, "cout": 4, "res": 1, "res_base": end - 8},
    }[fault]
    info = {"parameter": 256, "result": end, "residual": end}[fault]
    accepted = set()
    bench, _ = loaded_bench(config)
    bench.run([fields(**values)])
    for behind in range(bench.cycles - 4, bench.cycles + 1):
        bench, _ = loaded_bench(config)
        before = bench.act.copy()
        vec = fields(mode=Mode.VEC, overlap=1, out_base=2048, cout=1, p_base=PLAIN)
        bench.run([fields(**values), vec], together=True, behind=behind)
        assert bench.error == (ErrorCause.MEM_RANGE, 0, info)
        assert bench.done == []
        assert np.array_equal(bench.act[2048:4096], before[2048:4096])
        accepted.add(len(bench.accepted))
    assert accepted == {1, 2}
