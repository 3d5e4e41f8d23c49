"""The table of cycles against networks compiled as a whole, its file, and what is read off it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from hw.spec.config import preset
from sw.compiler import compile_graph
from sw.explore.identity import shape_digest
from sw.frontends.torch_export import import_program
from sw.model.timeline import timeline
from sw.quant import export_program, quantise
from sw.search import latency
from sw.search.graph import network_graph
from sw.search.greedy import greedy_hybrid
from sw.search.latency import CycleTable, TableError, table_path, whole_cycles
from sw.search.space import Architecture, Space
from sw.search.study import TABLE_ERROR, Budget, InfeasibleError
from tests.sw.search_spaces import SPACE, supernet

CONFIG = preset("edge8")


@pytest.fixture(scope="module")
def table() -> CycleTable:
    seen: list[tuple[int, int]] = []
    result = CycleTable.build(SPACE, CONFIG, lambda done, total: seen.append((done, total)))
    assert seen == [(index, len(result.entries)) for index in range(1, len(result.entries) + 1)]
    return result


def networks(count: int) -> list[Architecture]:
    rng = random.Random(2)
    return [SPACE.largest, SPACE.smallest, SPACE.baseline, *(SPACE.draw(rng.randrange) for _ in range(count))]


def test_graphs_are_those_of_the_front_end() -> None:
    """Operators and shapes equal those of the exported, quantised network, so cycles do."""
    model = supernet()
    for architecture in networks(2):
        x = torch.randn(2, 3, 16, 16)
        module = quantise(model.subnet(architecture), (x[:1],), [x], observer="minmax", bias_correction=False)
        read = import_program(export_program(module, (x[:1],)), name="net")
        own = network_graph(SPACE, architecture)
        assert shape_digest(read) == shape_digest(own)
        assert timeline(compile_graph(read, CONFIG)).cycles == whole_cycles(SPACE, architecture, CONFIG)


def test_sums_are_near_whole_networks(table: CycleTable) -> None:
    for architecture in networks(12):
        whole = whole_cycles(SPACE, architecture, CONFIG)
        assert abs(table.cycles(SPACE, architecture) - whole) <= TABLE_ERROR * whole, str(architecture)


def test_waiting_is_not_counted(table: CycleTable) -> None:
    assert all(0 < busy < run for busy, run in table.entries.values())


def test_the_fastest_is_the_fastest(table: CycleTable) -> None:
    fastest = table.cycles(SPACE, table.fastest(SPACE))
    rng = random.Random(5)
    assert all(table.cycles(SPACE, SPACE.draw(rng.randrange)) >= fastest for _ in range(300))


def test_the_file_comes_back(table: CycleTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table_path(tmp_path, CONFIG)
    assert path != table_path(tmp_path, preset("edge16"))
    with pytest.raises(TableError, match=r"no such table; make it with 'python -m sw\.search table'"):
        CycleTable.load(path, SPACE, CONFIG)
    table.save(path)
    assert CycleTable.load(path, SPACE, CONFIG) == table
    with pytest.raises(TableError, match="of another config"):
        CycleTable.load(path, SPACE, preset("edge16"))
    with pytest.raises(TableError, match="of another space"):
        CycleTable.load(path, Space(), CONFIG)
    monkeypatch.setattr(latency, "sources_digest", lambda places: "0" * 64)
    with pytest.raises(TableError, match="compiler or models have changed"):
        CycleTable.load(path, SPACE, CONFIG)
    path.write_text(json.dumps({"identity": {}, "entries": 3}))
    with pytest.raises(TableError, match="no readable table"):
        CycleTable.load(path, SPACE, CONFIG)


def test_greedy_takes_the_largest_gains(table: CycleTable) -> None:
    base = SPACE.baseline
    found = greedy_hybrid(table, SPACE, base)
    chosen = [block.operator == "fuse_half" for block in found.blocks]
    assert sum(chosen) == len(chosen) // 2 == 2
    gains = [
        table.cycles(SPACE, base) - table.cycles(SPACE, base.with_operators({number: "fuse_half"}))
        for number in range(len(chosen))
    ]
    assert min(gain for gain, fused in zip(gains, chosen, strict=True) if fused) >= max(
        gain for gain, fused in zip(gains, chosen, strict=True) if not fused
    )
    assert greedy_hybrid(table, SPACE, base, share=0) == base


def test_greedy_leaves_blocks_that_gain_nothing(table: CycleTable) -> None:
    slow = {key: (busy + 10**6 * ("f" in key), run) for key, (busy, run) in table.entries.items()}
    assert greedy_hybrid(CycleTable({}, 0, slow), SPACE, SPACE.baseline) == SPACE.baseline


def test_an_infeasible_budget_states_the_fastest(table: CycleTable) -> None:
    fastest = table.fastest(SPACE)
    cycles = whole_cycles(SPACE, fastest, CONFIG)
    with pytest.raises(InfeasibleError) as caught:
        Budget(SPACE, CONFIG, table, cycles - 1).check()
    assert f"--max-cycles {cycles - 1}" in str(caught.value)
    assert f"the fastest takes {cycles} cycles: {fastest}" in str(caught.value)
    assert Budget(SPACE, CONFIG, table, cycles).check() == fastest
    assert Budget(SPACE, CONFIG, table).over(SPACE.largest) == 0
    assert Budget(SPACE, CONFIG, table, cycles).over(SPACE.largest) > 0
