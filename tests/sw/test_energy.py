"""Events counted by hand, energies of memories, files of figures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from hw.spec.config import PRESETS
from hw.spec.isa import Instruction, Mode, Opcode, Region, ResidualOp, Target
from sw.compiler import compile_graph
from sw.compiler.traffic import traffic
from sw.model.energy import PARTS, EnergyTable, energy
from sw.model.events import Events, count_events
from sw.model.figures import FigureError, read_figures
from sw.model.profile import profile
from tests.sw.ir_graphs import block_net

CONFIG = PRESETS["tiny"]  # 4 x 4 PEs, scratchpad words of 4 bytes, 8-byte bus


def exec_of(mode: Mode, **fields: int) -> Instruction:
    base = {"out_h": 1, "kh": 1, "kw": 1, "sx": 1, "sy": 1}
    return Instruction(Opcode.EXEC, {"mode": int(mode), **base, **fields})


def test_a_pointwise_layer_by_hand() -> None:
    """3 channels to 6 on 8 pixels: blocks of 4 and 2 rows, 2 tiles each, 3 steps per tile; 12 rows of 4 pixels."""
    found = count_events(CONFIG, [exec_of(Mode.GEMM, cin=3, cout=6, out_w=8)], macs=144)
    drained = 2 * ((4 + 3 + 2 + 1) + (4 + 3))  # places: tiles, and the way of each row to the edge
    words = 12 * 4 + 12 * (1 + (4 - 1) / CONFIG.sub_bytes)  # a line of four per read; a row of 4 bytes at any place
    assert found == Events(
        macs=144,
        register_bits=12 * 16 * 48 + drained * 4 * 32,
        outputs=48,
        scratchpad_words=words,
        weight_lines=12,
        parameter_lines=12,
        dram_read=64,
    )
    table = EnergyTable()
    parts = energy(CONFIG, found, 100, table)
    assert tuple(parts) == PARTS
    assert parts["multiply-accumulate"] == pytest.approx(144 * 0.3)
    assert parts["array registers"] == pytest.approx(found.register_bits * 0.009)
    # 2 banks of 4 memories in 16 KiB: 2 KiB each, half of 8 KiB twice, so half the energy; 4 bytes are half a word
    assert parts["scratchpad"] == pytest.approx(words * 10 / 2 / 2)
    assert parts["weights"] == pytest.approx(12 * table.sram_access(4096, 8))
    assert parts["parameters"] == pytest.approx(12 * table.sram_access(2048, 8)) == pytest.approx(12 * 5)
    assert parts["output stage"] == pytest.approx(48 * (1.55 + 0.3))
    assert parts["DRAM"] == pytest.approx(8 * 1950)
    assert parts["static"] == 0


def test_st_os_reads_a_weight_word_per_tap_and_a_line_per_row() -> None:
    row = count_events(CONFIG, [exec_of(Mode.STOS_CH, cout=4, out_w=4, kw=3)])
    assert (row.weight_lines, row.parameter_lines, row.outputs) == (3, 4, 16)
    assert row.register_bits == 4 * 16 * 48 + 10 * 4 * 32  # four lines shift in while three taps run
    column = count_events(CONFIG, [exec_of(Mode.STOS_LN, cout=1, out_w=4, out_h=4, kh=3)])
    assert column.weight_lines == 3
    assert column.register_bits == 6 * 16 * 48 + 10 * 4 * 32  # R + K - 1 lines


def test_second_operands_pooling_and_modes_past_the_array() -> None:
    fields = {"cout": 2, "out_w": 4}
    plain, added, pooled = (
        count_events(CONFIG, [exec_of(Mode.VEC, **fields, **more)])
        for more in ({}, {"res": int(ResidualOp.ADD)}, {"gap": 1})
    )
    assert plain.register_bits == plain.weight_lines == plain.comparisons == 0
    assert added.second_operands == 8 and added.scratchpad_words - plain.scratchpad_words == 2 * 4
    assert plain.scratchpad_words - pooled.scratchpad_words == pytest.approx(2 * 3 / CONFIG.sub_bytes)
    assert count_events(CONFIG, [exec_of(Mode.MAX, kh=2, kw=2, **fields)]).comparisons == 2 * 4 * 4


def test_transfers() -> None:
    """100 bytes from offset 4 touch 13 beats of 8; a store writes its own bytes only, and reads a beat's line each."""
    fields = {"rows": 1, "row_bytes": 100, "dram_offset": 4}
    load = {target: Instruction(Opcode.LOAD, {**fields, "target": int(target)}) for target in Target}
    act = count_events(CONFIG, [load[Target.ACT]])
    assert act.dram_read == 13 * 8 + 64
    assert act.scratchpad_words == pytest.approx(13 * (1 + 7 / CONFIG.sub_bytes))
    assert count_events(CONFIG, [load[Target.WEIGHT]]).weight_lines == 13
    assert count_events(CONFIG, [load[Target.PARAM]]).parameter_lines == 13
    store = count_events(CONFIG, [Instruction(Opcode.STORE, {**fields, "region": int(Region.WORK)})])
    assert (store.dram_written, store.dram_read, store.scratchpad_words) == (100, 64, 13 * 4)


def test_layers_add_up_and_more_traffic_costs_more() -> None:
    graph = block_net(0)[1]
    plain, dumped = (compile_graph(graph, CONFIG, dump_tensors=dump) for dump in (False, True))
    found, more = profile(plain), profile(dumped)
    for part in PARTS:
        layers = sum(layer.energy[part] for layer in found.layers)
        assert layers <= found.energy[part] <= layers * 1.5
    moved = traffic(plain)
    assert found.energy["DRAM"] == pytest.approx((moved.loaded + moved.stored + moved.instructions) / 8 * 1950)
    assert more.energy["DRAM"] > found.energy["DRAM"]
    assert more.energy["multiply-accumulate"] == found.energy["multiply-accumulate"]
    static = profile(plain, energies=EnergyTable(static_cycle=2.0))
    assert static.energy["static"] == pytest.approx(2 * found.timeline.cycles)


def test_memories_between_the_known_sizes() -> None:
    table = EnergyTable()
    assert [table.sram_access(1024 * size, 8) for size in (8, 32, 1024)] == pytest.approx([10, 20, 100])
    assert table.sram_access(16384, 8) == pytest.approx(200**0.5)
    assert table.sram_access(16384, 32) == pytest.approx(4 * 200**0.5)
    rising = [table.sram_access(1 << bits, 8) for bits in range(8, 24)]
    assert rising == sorted(set(rising))


def test_figures_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "energy.json"
    mine = dataclasses.replace(EnergyTable(), dram_read_64=100.0, sram=((1024.0, 1.0), (4096.0, 3.0)))
    path.write_text(json.dumps(mine.to_dict()))
    assert read_figures(EnergyTable, path) == mine
    path.write_text(json.dumps({"static_cycle": 30}))
    assert read_figures(EnergyTable, path) == EnergyTable(static_cycle=30)
    path.write_text(json.dumps({"sram": [[4096, 1], [8192, 2]]}))
    assert read_figures(EnergyTable, path).sram == ((4096, 1), (8192, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"add_8": -1}, "add_8=-1"),
        ({"add_8": "much"}, "add_8='much'"),
        ({"add_8": float("nan")}, "add_8=nan"),
        ({"typo": 1}, "unknown key 'typo'; there are multiply_8, "),
        ({"add_8": 10**400}, "add_8=1000"),
        ({"sram": [[8192, 10]]}, "two or more pairs"),
        ({"sram": [[8192, 10], [4096, 20]]}, "sizes must rise"),
        ({"sram": 5}, "no list of pairs"),
        ({"sram": [[8192, 10], 7]}, "no list of pairs"),
    ],
)
def test_wrong_figures(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "energy.json"
    path.write_text(json.dumps({**EnergyTable().to_dict(), **change}))
    with pytest.raises(FigureError, match="energy.json") as error:
        read_figures(EnergyTable, path)
    assert message in str(error.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "energy.json"
    with pytest.raises(FigureError, match="energy.json"):
        read_figures(EnergyTable, path)
    for text, message in (("{", "not a readable"), ("[]", "a JSON object with some of multiply_8")):
        path.write_text(text)
        with pytest.raises(FigureError, match=message):
            read_figures(EnergyTable, path)
