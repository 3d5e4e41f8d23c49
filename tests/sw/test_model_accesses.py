"""Scratchpad accesses of EXECs, cycle by cycle, and transfers that give way to them."""

from __future__ import annotations

import numpy as np
import pytest

from hw.spec.config import PRESETS
from hw.spec.isa import Instruction, Mode, Opcode, ResidualOp, Target
from sw.model.accesses import REQUEST, ExecAccesses
from sw.model.channels import LoadChannel, Memory, StoreChannel
from sw.model.exec_unit import ExecUnit
from sw.model.execute import ExecCycles, exec_cycles
from sw.model.landing import NEVER
from sw.model.tiles import exec_rows, exec_tiles

CONFIG = PRESETS["tiny"]  # 4 x 4 PEs, two banks of 8 KiB, 8 bytes per beat
BANK = CONFIG.act_bank_bytes
EVER = 1 << 40


def instruction(mode: Mode, **fields: int) -> Instruction:
    base = {"kh": 1, "kw": 1, "sx": 1, "sy": 1, "in_h": 1, "out_h": 1, "cin": 1, "cout": 1, "in_cs": 64, "out_cs": 64}
    return Instruction(Opcode.EXEC, {"mode": int(mode), **base, **fields})


def random_instruction(mode: Mode, rng: np.random.Generator) -> Instruction:
    """Return a layer without padding whose input is in bank 0 and whose output is in bank 1."""
    kh, kw = (1, 1) if mode == Mode.VEC else (int(rng.integers(1, 5)) for _ in range(2))
    sy, sx = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    high, wide = (int(rng.integers(1, size)) for size in (9, 12))
    sizes = {"cin": int(rng.integers(1, 9)), "cout": int(rng.integers(1, 11)), "out_h": high, "out_w": wide}
    read = {"in_h": (high - 1) * sy + kh, "in_w": (wide - 1) * sx + kw, "in_pitch": 32}
    return instruction(
        mode, kh=kh, kw=kw, sy=sy, sx=sx, **sizes, **read, in_cs=512, out_pitch=12, out_cs=128, out_base=BANK
    )


def alone(item: Instruction) -> tuple[ExecAccesses, ExecCycles]:
    cost = exec_cycles(CONFIG, item)
    return ExecUnit(CONFIG).accept(0, item, cost)[0], cost


@pytest.mark.parametrize("mode", list(Mode))
def test_tiles_rows_and_accesses_are_those_that_the_closed_forms_count(mode: Mode) -> None:
    rng = np.random.default_rng(mode)
    for _ in range(40):
        item = random_instruction(mode, rng)
        found, cost = alone(item)
        tiles = exec_tiles(CONFIG, item, cost)
        rows = exec_rows(CONFIG, item, cost, tiles)
        assert tiles.ends[-1] == cost.rest
        assert len(rows.times) == cost.rows and rows.times[-1] == cost.rest + cost.last_out
        assert rows.pixels.sum() == item["cout"] * item["out_h"] * item["out_w"] and rows.last.sum() == item["cout"]
        reads, writes = found.reads(0, 0, EVER), found.writes(1, 0, EVER)
        assert len(reads) == cost.reads and min(reads) == cost.begin and max(reads) <= cost.last_step
        assert len(writes) == cost.rows and max(writes) == cost.done - 2
        assert not found.reads(1, 0, EVER) and not found.writes(0, 0, EVER)
        middle = cost.done // 2
        assert found.reads(0, 0, middle) | found.reads(0, middle, EVER) == reads


def test_an_access_across_the_border_takes_both_banks() -> None:
    found, _ = alone(instruction(Mode.VEC, in_base=BANK - 1, in_w=4, out_w=4, out_base=2 * BANK - 2))
    assert found.reads(0, 0, EVER) == found.reads(1, 0, EVER) != set()
    assert found.writes(0, 0, EVER) == found.writes(1, 0, EVER) != set()


@pytest.mark.parametrize("mode", list(Mode))
def test_every_access_takes_a_bank_wherever_maps_lie(mode: Mode) -> None:
    """Maps across borders of banks: the banks that an EXEC cannot touch are never those that it does."""
    rng = np.random.default_rng(10 + mode)
    banks = range(CONFIG.act_banks)
    for _ in range(40):
        read, write, second = (int(rng.integers(2 * BANK - 4096)) for _ in range(3))
        item = random_instruction(mode, rng)
        item = Instruction(Opcode.EXEC, {**item.values, "in_base": read, "out_base": write, "res_base": second})
        found, cost = alone(item)
        assert len(set().union(*(found.reads(bank, 0, EVER) for bank in banks))) == cost.reads
        assert len(set().union(*(found.writes(bank, 0, EVER) for bank in banks))) == cost.rows
        added = Instruction(Opcode.EXEC, {**item.values, "res": int(ResidualOp.ADD)})
        found, cost = alone(added)
        outputs = sorted(time for bank in banks for time in found.writes(bank, 0, EVER))
        seconds = {time - cost.result + REQUEST for time in outputs}
        assert seconds <= set().union(*(found.reads(bank, 0, EVER) for bank in banks))


def test_padding_needs_no_bank() -> None:
    """Of 5 x 5 reads of four pixels around a map of one pixel, three in the middle line meet it."""
    found, cost = alone(instruction(Mode.GEMM, kh=5, kw=5, pad_y=2, pad_x=2, in_w=1, out_w=1, cin=8, out_base=BANK))
    assert cost.reads == 200 and len(found.reads(0, 0, EVER)) == 8 * 3


def test_pooled_bytes_are_written_alone_or_behind_the_map() -> None:
    """Six channels are a byte each, or two vectors beside the map."""
    pooled = instruction(Mode.VEC, cout=6, in_w=4, out_w=4, gap=1, out_base=BANK)
    found, _ = alone(pooled)
    assert len(found.writes(1, 0, EVER)) == 6
    beside = Instruction(Opcode.EXEC, {**pooled.values, "res": int(ResidualOp.POOL), "out_base": 0, "res_base": BANK})
    found, cost = alone(beside)
    assert found.writes(1, 0, EVER) == {cost.done - 3, cost.done - 2} and len(found.writes(0, 0, EVER)) == 6


@pytest.mark.parametrize(("bank", "late"), [(0, 100), (1, 0)])
def test_a_store_waits_for_reads_in_its_bank(bank: int, late: int) -> None:
    """An EXEC reads 100 vectors in a row while the store wants to."""
    busy = instruction(Mode.VEC, cout=25, in_w=16, out_w=16, in_cs=16, out_cs=16, in_base=bank * BANK, out_base=BANK)

    def done(*execs: Instruction) -> int:
        channel = StoreChannel(CONFIG, Memory())
        for item in execs:
            channel.accesses(alone(item)[0], 0)
        assert channel.store(0, 7, Instruction(Opcode.STORE, {"rows": 1, "row_bytes": 64})) == 0
        ended: list[tuple[int, int]] = []
        while channel.next_time() < NEVER:
            ended += channel.step()
        ((index, when),) = ended
        assert index == 7
        return when

    assert done(busy) == done() + late


@pytest.mark.parametrize(("bank", "late"), [(0, 40), (1, 0)])
def test_a_load_and_the_fetch_behind_it_wait_for_results_in_its_bank(bank: int, late: int) -> None:
    """An EXEC writes 100 vectors in a row, of which the first 60 are through when the load's data comes."""
    busy = instruction(Mode.VEC, cout=25, in_w=16, out_w=16, in_cs=16, out_cs=16, out_base=bank * BANK)
    found, _ = alone(busy)
    first = min(found.writes(bank, 0, EVER)) + 60

    def run(*execs: ExecAccesses) -> dict[int, int]:
        channel = LoadChannel(CONFIG, Memory())
        for accesses in execs:
            channel.accesses(accesses, 0)
        load = {"target": int(Target.ACT), "rows": 1, "row_bytes": 64}
        channel.load(first - 64 - 7 - 3, 7, Instruction(Opcode.LOAD, load))
        channel.fetch(first - 64, 8)
        ended: list[tuple[int, int]] = []
        while channel.next_time() < NEVER:
            ended += channel.step()
        return dict(ended)

    undisturbed, disturbed = run(), run(found)
    assert undisturbed[7] == first + 8 - 1 + 2
    assert {what: disturbed[what] - when for what, when in undisturbed.items()} == dict.fromkeys(undisturbed, late)


def test_first_reads_wait_for_the_second_operand_of_the_exec_before() -> None:
    """The last tile's four rows are added to a map in the bank that the next EXEC reads, or in the other one."""
    def cycles(bank: int) -> int:
        unit = ExecUnit(CONFIG)
        added = {"res": int(ResidualOp.ADD), "res_base": bank * BANK}
        before = instruction(Mode.GEMM, cin=20, cout=4, in_w=4, out_w=4, in_base=(1 - bank) * BANK, **added)
        _, ready = unit.accept(0, before, exec_cycles(CONFIG, before))
        item = instruction(Mode.GEMM, cin=40, cout=4, in_w=4, out_w=4, out_base=BANK, overlap=1)
        return unit.accept(ready, item, exec_cycles(CONFIG, item))[0].done

    assert cycles(0) == cycles(1) + 4
