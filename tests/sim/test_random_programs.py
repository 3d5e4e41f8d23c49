from __future__ import annotations

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Activation, Mode, Opcode, Region, ResidualOp
from sim.iss import IssBackend
from sim.random_programs import random_inputs, random_program
from sim.random_shapes import random_shape

TINY = PRESETS["tiny"]


def test_seeds_decide() -> None:
    assert random_program(TINY, 3) == random_program(TINY, 3)
    assert random_program(TINY, 3).image != random_program(TINY, 4).image
    inputs = random_inputs(random_program(TINY, 3), 1)
    assert all((random_inputs(random_program(TINY, 3), 1)[name] == value).all() for name, value in inputs.items())


@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        AcceleratorConfig(rows=3, cols=9, act_kib=8, act_banks=1, max_kernel=15, axi_data_width=64, weight_kib=1),
        AcceleratorConfig(rows=256, cols=2, stos=False, axi_data_width=64, weight_kib=64),
    ],
    ids=lambda config: f"{config.rows}x{config.cols}",
)
def test_programs_are_valid_everywhere(config: AcceleratorConfig) -> None:
    for seed in range(4):
        program = random_program(config, seed, execs=4)
        program.validate()
        IssBackend(config).run(program, random_inputs(program, seed))


def test_they_vary() -> None:
    seen: dict[str, set[int]] = {}
    spreads, inputs, reloads = [], 0, 0
    for seed in range(60):
        program = random_program(TINY, seed)
        inputs += len(program.inputs)
        result = IssBackend(TINY).run(program, random_inputs(program, seed))
        spreads += [value.std() for value in result.outputs.values() if value.size > 8]
        for instruction in program.instructions():
            if instruction.opcode == Opcode.LOAD:
                reloads += instruction["region"] == Region.OUTPUT
            elif instruction.opcode == Opcode.EXEC:
                for name, value in instruction.values.items():
                    seen.setdefault(name, set()).add(value)
    assert seen["mode"] == {1, 2, 3, 4}  # 0 is not listed, since it is the default
    assert seen["kh"] >= set(range(1, 8)) <= seen["kw"]
    assert seen["sy"] == {1, 2, 3, 4}
    assert seen["sx"] == {1, 2}
    assert min(seen["pad_x"]) < 0 > min(seen["pad_y"])
    assert {"gap", "overlap", "depthwise", "fold"} <= set(seen)
    assert seen["seg"] >= {1, 2, 3, 4} and {1, 2} <= seen["seg_gap"] and {1, 2, 3} <= seen["seg_missing"]
    assert seen["res"] == {ResidualOp.ADD, ResidualOp.SCALE, ResidualOp.POOL}
    assert seen["act"] == {Activation.HSWISH}
    assert max(seen["post_shift"]) > 16
    assert 1 in seen["in_h"] and 1 in seen["out_w"] and max(seen["out_w"]) > 2 * TINY.cols
    assert max(seen["cin"]) > 2 * TINY.rows < max(seen["cout"])
    assert any(base % 8 for base in seen["in_base"])
    assert inputs > 20 < reloads
    assert np.mean(np.array(spreads) > 3) > 0.9, "results are mostly constant"


def test_limits() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        shape = random_shape(TINY, rng, tuple(Mode), cycles=500, tensor_bytes=300)
        assert shape.cycles(TINY) <= 500
        assert max(shape.channels * shape.in_h * shape.in_w, shape.cout * shape.out_h * shape.out_w) <= 300
    with pytest.raises(ValueError, match="no geometry for input"):
        random_shape(TINY, rng, (Mode.STOS_LN,), cycles=1, tensor_bytes=300)


def test_modes() -> None:
    for mode in Mode:
        program = random_program(TINY, 1, modes=(mode,))
        assert {i["mode"] for i in program.instructions() if i.opcode == Opcode.EXEC} == {mode}
    plain = TINY.twin(stos=False)
    used = {i["mode"] for seed in range(10) for i in random_program(plain, seed).instructions()}
    assert used == {Mode.GEMM, Mode.VEC, Mode.MAX}
    with pytest.raises(ValueError, match="none of them exists with stos=False"):
        random_program(plain, 0, modes=(Mode.STOS_CH,))
