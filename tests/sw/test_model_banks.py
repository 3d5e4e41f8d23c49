"""Losses to second operands against a walk cycle by cycle."""

from __future__ import annotations

import numpy as np
import pytest

from hw.spec.config import PRESETS
from hw.spec.isa import Instruction, Mode, Opcode, ResidualOp
from sw.model.banks import _Tiles, gemm_losses, shared_share
from sw.model.execute import exec_cycles

CONFIG = PRESETS["tiny"]  # 4 x 4 PEs, banks of 8 KiB
BANK = CONFIG.act_bank_bytes
FIRST_OUT = 11


def gemm(**fields: int) -> Instruction:
    base = {"mode": int(Mode.GEMM), "kh": 1, "kw": 1, "sx": 1, "sy": 1, "in_h": 1, "out_h": 1, "in_cs": 1, "out_cs": 1}
    return Instruction(Opcode.EXEC, {**base, "res": int(ResidualOp.ADD), **fields})


def walk(instruction: Instruction, steps: int) -> int:
    """Return the cycle of the last step, one cycle after another."""
    tiles = _Tiles(CONFIG, instruction)
    reads: dict[int, int] = {}
    now, end, before = -1, -1, 0
    for number in range(tiles.count):
        banks = tiles.operands(number)
        step = 0
        while step < steps:
            now += 1
            held = step == steps - 1 and now < end + before
            if not held and reads.get(now) != banks[step]:
                step += 1
        end, seconds = now, tiles.seconds(number)
        before = len(seconds)
        reads |= {end + FIRST_OUT + row + 2: bank for row, bank in enumerate(seconds)}
    return end


@pytest.mark.parametrize("seed", range(30))
def test_short_gemms_are_walked_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cin, taps = int(rng.integers(4, 30)), int(rng.choice([1, 1, 3]))
    fields = {"cin": cin, "cout": int(rng.integers(1, 13)), "out_w": int(rng.integers(1, 30)), "kw": taps}
    places = {"in_cs": int(rng.integers(100, 1000)), "out_cs": int(rng.integers(30, 2000)), "in_w": 30, "out_pitch": 30}
    bases = {"in_base": int(rng.integers(0, BANK)), "res_base": int(rng.integers(0, 2 * BANK))}
    item = gemm(**fields, **places, **bases)
    alone = Instruction(Opcode.EXEC, {**item.values, "res": int(ResidualOp.NONE)})
    steps = cin * taps
    tiles = _Tiles(CONFIG, item)
    undisturbed = exec_cycles(CONFIG, alone)
    same_rows = fields["cout"] % CONFIG.rows == 0 or fields["cout"] < CONFIG.rows
    lost = gemm_losses(CONFIG, item, steps, FIRST_OUT)
    if same_rows:
        assert walk(item, steps) == undisturbed.first + undisturbed.rest + lost
    if not shared_share(CONFIG, item):
        assert lost == 0
    assert 0 <= lost <= fields["cout"] * tiles.along


def test_long_gemms_are_sampled() -> None:
    """Every row meets an operand of the same bank, or none does, or those of a quarter of the steps."""
    def lost(**fields: int) -> int:
        return gemm_losses(CONFIG, gemm(cin=16, cout=4, in_w=4000, out_w=4000, **fields), 16, FIRST_OUT)

    assert lost() == pytest.approx(4000, rel=0.01)
    assert lost(res_base=BANK) == 0
    some = lost(in_cs=BANK // 4, out_cs=0)
    assert 0 < some < 4000


def test_kinds_without_a_second_operand_lose_nothing() -> None:
    item = gemm(cin=8, cout=4, out_w=40)
    plain = Instruction(Opcode.EXEC, {**item.values, "res": int(ResidualOp.NONE)})
    assert gemm_losses(CONFIG, plain, 8, FIRST_OUT) == shared_share(CONFIG, plain) == 0
