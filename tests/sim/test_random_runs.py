from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Activation, Instruction, Mode, Opcode, ResidualOp, Target
from sim.iss import IssBackend
from sim.iss.machine import Machine
from sim.random_runs import random_run

TINY = PRESETS["tiny"]


def execs(config: AcceleratorConfig, seed: int) -> list[Instruction]:
    return [i for i in random_run(config, seed).instructions() if i.opcode == Opcode.EXEC]


def test_seeds_decide() -> None:
    assert random_run(TINY, 3) == random_run(TINY, 3)
    assert random_run(TINY, 3).image != random_run(TINY, 4).image


@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        AcceleratorConfig(rows=3, cols=9, act_kib=8, act_banks=1, max_kernel=15, axi_data_width=64, weight_kib=1),
        AcceleratorConfig(rows=256, cols=2, stos=False, axi_data_width=64, weight_kib=64, param_entries=256),
    ],
    ids=lambda config: f"{config.rows}x{config.cols}",
)
def test_runs_are_valid_everywhere(config: AcceleratorConfig) -> None:
    for seed in range(3):
        program = random_run(config, seed)
        program.validate()
        IssBackend(config).run(program, {})


def test_nothing_comes_between_the_execs() -> None:
    for seed in range(20):
        stream = random_run(TINY, seed).instructions()
        where = [pc for pc, instruction in enumerate(stream) if instruction.opcode == Opcode.EXEC]
        assert where == list(range(where[0], where[0] + 16))
        # Tokens of the loads are the only ones, and most EXECs start while the one before drains.
        assert sum(instruction["wait"] != 0 for instruction in stream[where[0] :][:16]) <= 3
    runs = [execs(TINY, seed) for seed in range(20)]
    assert np.mean([i["overlap"] for run in runs for i in run]) > 0.6


def test_they_vary() -> None:
    runs = [execs(TINY, seed) for seed in range(40)]
    seams = Counter((a["mode"], b["mode"]) for run in runs for a, b in zip(run, run[1:], strict=False) if b["overlap"])
    assert set(seams) == {(a, b) for a in Mode for b in Mode}
    stages = Counter((Mode(i["mode"]), i["res"], i["act"], i["gap"]) for run in runs for i in run)
    for mode in Mode:
        for res, act in product((ResidualOp.NONE, ResidualOp.ADD, ResidualOp.SCALE), Activation):
            assert stages[mode, res, act, 0], (mode, res, act)
        assert sum(count for (m, _, _, gap), count in stages.items() if m == mode and gap) > 2
        assert stages[mode, ResidualOp.POOL, 0, 1] > 0
    assert any(i["res"] == ResidualOp.ADD and i["res_base"] == i["out_base"] for run in runs for i in run)


def test_later_execs_read_results_of_earlier_ones() -> None:
    """Clear what the first EXECs wrote: the result of the whole changes elsewhere too."""

    def final(program: object, cleared: bool) -> np.ndarray:
        def clear(pc: int, instruction: Instruction, machine: Machine) -> None:
            if instruction.opcode == Opcode.EXEC and pc == first + 3:
                snapshot.append(machine.onchip[Target.ACT].copy())
                if cleared:
                    changed = snapshot[0] != loaded[0]
                    machine.onchip[Target.ACT][changed] ^= 0x5A
            elif instruction.opcode == Opcode.LOAD and pc == first - 1:
                loaded.append(machine.onchip[Target.ACT].copy())

        snapshot: list[np.ndarray] = []
        loaded: list[np.ndarray] = []
        out = IssBackend(TINY, observer=clear).run(program, {}).outputs["scratchpad"].ravel()
        return np.where(snapshot[0].view(np.int8) != loaded[0].view(np.int8), 0, out)

    depend = 0
    for seed in range(20):
        program = random_run(TINY, seed)
        first = next(pc for pc, i in enumerate(program.instructions()) if i.opcode == Opcode.EXEC)
        depend += bool((final(program, False) != final(program, True)).any())
    assert depend > 8


def test_modes() -> None:
    used = {i["mode"] for seed in range(10) for i in execs(TINY.twin(stos=False), seed)}
    assert used == {Mode.GEMM, Mode.VEC, Mode.MAX}
    with pytest.raises(ValueError, match="none of them exists with stos=False"):
        random_run(TINY.twin(stos=False), 0, modes=(Mode.STOS_LN,))
