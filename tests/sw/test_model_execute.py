"""Cycles of single EXECs against a step-by-step walk of the sequencers' rules."""

from __future__ import annotations

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Instruction, Mode, Opcode, ResidualOp
from sw.model.execute import FIRST_LOAD, FIRST_STEP, exec_cycles, lane_sum_stages

CONFIGS = [PRESETS["tiny"], AcceleratorConfig(rows=6, cols=10), AcceleratorConfig(rows=16, cols=16, pipeline_mac=True)]


def blocks(count: int, rows: int) -> list[int]:
    return [min(rows, count - start) for start in range(0, count, rows)]


def walk(config: AcceleratorConfig, ins: Instruction) -> tuple[int, int]:
    """Return last step and reads, one tile after another."""
    rows, kh, kw = config.rows, ins["kh"], ins["kw"]
    stos = ins["mode"] in (Mode.STOS_CH, Mode.STOS_LN)
    kept = config.cols // 2 if stos and kw > 1 and ins["sx"] == 2 else config.cols
    line_tiles = len(range(0, ins["out_w"], kept))
    mode, reads, late = ins["mode"], 0, 2 * config.pipeline_mac
    if mode in (Mode.GEMM, Mode.VEC, Mode.MAX):
        single = mode != Mode.GEMM or ins["depthwise"]
        steps = kh * kw * (1 if single else ins["cin"])
        end, before = late + FIRST_STEP - 1, None
        for n in [1] * ins["cout"] if single else blocks(ins["cout"], rows):
            for _ in range(ins["out_h"] * line_tiles):
                earliest = end + steps
                if before is not None and mode == Mode.GEMM:
                    earliest = max(earliest, end + (before if before == n else rows + config.cols - 1))
                end, before, reads = earliest, n, reads + steps
        return end, reads
    if mode == Mode.STOS_CH:
        loads = [[n] for n in blocks(ins["cout"], rows) for _ in range(ins["out_h"] * line_tiles * kh)]
    else:
        phases = [len(range(p, kh, ins["sy"])) for p in range(min(ins["sy"], kh))]
        tiles = [n for _ in range(ins["cout"]) for n in blocks(ins["out_h"], rows) for _ in range(line_tiles)]
        loads = [[n] + [1] * (captures - 1) for n in tiles for captures in phases]
    capture = None
    for lines in (n for phase in loads for n in phase):
        capture = late + config.pipeline_mac + FIRST_LOAD + lines if capture is None else capture + max(lines, kw)
        reads += lines
    return capture + kw, reads


@pytest.mark.parametrize("config", CONFIGS, ids=["4x4", "6x10", "16x16"])
@pytest.mark.parametrize("mode", list(Mode))
def test_closed_forms_equal_the_walk(config: AcceleratorConfig, mode: Mode) -> None:
    rng = np.random.default_rng(mode)
    for _ in range(60):
        fields = {name: int(rng.integers(1, high)) for name, high in
                  {"cin": 40, "cout": 50, "out_h": 30, "out_w": 40, "kh": 7, "kw": 7, "sy": 5, "sx": 3}.items()}
        if mode == Mode.VEC:
            fields |= {"kh": 1, "kw": 1}
        depthwise = int(mode == Mode.GEMM and rng.random() < 0.3)
        ins = Instruction(Opcode.EXEC, {"mode": int(mode), "depthwise": depthwise, **fields})
        found = exec_cycles(config, ins)
        assert (found.last_step, found.reads) == walk(config, ins), fields
        assert found.done > found.last_step


def test_pooling_takes_longer() -> None:
    config = PRESETS["edge16"]
    fields = {"mode": int(Mode.VEC), "cout": 3, "out_h": 2, "out_w": 5, "kh": 1, "kw": 1, "sx": 1, "sy": 1}
    plain = exec_cycles(config, Instruction(Opcode.EXEC, fields))
    pooled = exec_cycles(config, Instruction(Opcode.EXEC, {**fields, "gap": 1}))
    assert pooled.last_step == plain.last_step
    assert pooled.done - plain.done == lane_sum_stages(16) + 5 == 7


@pytest.mark.parametrize(("cout", "vectors"), [(1, 1), (16, 1), (17, 2), (480, 30)])
def test_pooled_bytes_beside_a_map_come_last(cout: int, vectors: int) -> None:
    config = PRESETS["edge16"]
    fields = {"mode": int(Mode.VEC), "cout": cout, "out_h": 2, "out_w": 5, "kh": 1, "kw": 1, "sx": 1, "sy": 1, "gap": 1}
    alone = exec_cycles(config, Instruction(Opcode.EXEC, fields))
    beside = exec_cycles(config, Instruction(Opcode.EXEC, {**fields, "res": int(ResidualOp.POOL)}))
    assert (beside.last_step, beside.reads) == (alone.last_step, alone.reads)
    assert beside.done - alone.done == 2 + vectors
