"""Design-space exploration: the front is the true one, runs continue, and bad input is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hw.spec.config import AcceleratorConfig, ConfigError
from sw.compiler.ir import Graph
from sw.explore.__main__ import main
from sw.explore.point import evaluate
from sw.explore.report import csv_text, table_text
from sw.explore.space import Space
from sw.explore.study import FINISHED, Setup, StudyError, explore, open_study, points
from sw.model.area import AreaTable
from tests.sw.ir_graphs import block_net

SPACE = Space(rows=(4, 8), cols=(4, 8), act_kib=(16,), weight_kib=(4, 8), axi_data_width=(64,))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return block_net(0)[1]


def test_a_space_counts_its_combinations() -> None:
    assert SPACE.size == 8
    assert Space(rows=(8,), act_kib=(64,), weight_kib=(32,), axi_data_width=(64,)).config(
        {"rows": 8, "act_kib": 64, "weight_kib": 32, "axi_data_width": 64, "stos": True}
    ) == AcceleratorConfig(rows=8, cols=8, act_kib=64, weight_kib=32, axi_data_width=64)
    with pytest.raises(ConfigError, match="rows: no values"):
        Space(rows=())
    with pytest.raises(ConfigError, match="act_kib: 64, 64 has a value twice"):
        Space(act_kib=(64, 64))


@pytest.mark.slow
def test_all_combinations_with_two_processes(graph: Graph, tmp_path: Path) -> None:
    setup = Setup(SPACE, objectives=("cycles", "area", "energy"), sampler="grid")
    where = str(tmp_path / "study.log")
    study = explore(where, "all", graph, setup, trials=100, jobs=2)
    found, infeasible = points(study)
    assert len(found) + infeasible == SPACE.size
    for row in found:
        point = evaluate(graph, SPACE.config(row["params"]))
        assert (point.cycles, point.area_mm2, point.energy_uj) == (row["cycles"], row["area_mm2"], row["energy_uj"])

    def figures(row: dict[str, float]) -> tuple[float, ...]:
        return row["cycles"], row["area_mm2"], row["energy_uj"]

    def beaten(row: dict[str, float], other: dict[str, float]) -> bool:
        pairs = list(zip(figures(other), figures(row), strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    for row in found:
        assert row["pareto"] != any(beaten(row, other) for other in found)


def test_a_study_continues(graph: Graph, tmp_path: Path) -> None:
    setup = Setup(SPACE)
    where = str(tmp_path / "study.log")
    first = explore(where, "net", graph, setup, trials=3)
    kept = [trial.params for trial in first.get_trials(states=FINISHED)]
    assert len(kept) == 3
    seen: list[tuple[int, int]] = []
    second = explore(where, "net", graph, setup, trials=5, progress=lambda done, total: seen.append((done, total)))
    finished = second.get_trials(states=FINISHED)
    assert [trial.params for trial in finished[:3]] == kept
    assert len(finished) == 5
    assert seen[-1] == (5, 5)
    explore(where, "net", graph, setup, trials=5)
    assert len(second.get_trials(states=FINISHED)) == 5


def test_a_study_of_something_else_is_refused(graph: Graph, tmp_path: Path) -> None:
    where = str(tmp_path / "study.log")
    open_study(where, "net", graph, Setup(SPACE))
    with pytest.raises(StudyError, match=r"study 'net' .* has area .* give another --study"):
        open_study(where, "net", graph, Setup(SPACE, area_table=AreaTable(pe=1.0)))
    with pytest.raises(StudyError, match="--storage nosuchdb://x: cannot be opened"):
        open_study("nosuchdb://x", "net", graph, Setup(SPACE))


def test_csv_and_table() -> None:
    rows = [
        {
            "params": {"rows": 8, "cols": 16, "act_kib": 64, "weight_kib": 32, "axi_data_width": 64, "stos": True},
            "cycles": 1000,
            "energy_uj": 2.5,
            "area_mm2": 0.5,
            "utilisation": 0.25,
            "dram_bytes": 7,
            "pareto": pareto,
        }
        for pareto in (True, False)
    ]
    parsed = list(csv.DictReader(csv_text(rows).splitlines()))
    assert [row["pareto"] for row in parsed] == ["1", "0"]
    assert [parsed[0][key] for key in ("rows", "stos", "cycles", "area_mm2")] == ["8", "1", "1000", "0.5"]
    text = table_text(rows, "net")
    assert "2 accelerators, 1 on the Pareto front" in text
    assert text.count("8x16") == 1


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    space = ["--rows", "8", "16", "--act-kib", "64", "--weight-kib", "32", "--axi-data-width", "64"]
    assert main(["digits:fuse_half", *space, "--sampler", "grid", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["network"] == "digits:fuse_half"
    assert sorted(row["params"]["rows"] for row in found["points"]) == [8, 16]
    assert (out / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert len((out / "points.csv").read_text().splitlines()) == 3
    # nothing fits: said with a reason, and the old results stay
    space = ["--rows", "16", "32", "--act-kib", "64", "--weight-kib", "1", "--axi-data-width", "64"]
    assert main(["digits:fuse_half", *space, "--study", "small", "--sampler", "grid", "--out", str(out)]) == 2
    assert "fits none of the 2 accelerators tried; one of them: " in capsys.readouterr().err
    assert (out / "points.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--area", "nosuch.json"], "nosuch.json"),
        (["--energy", "nosuch.json"], "nosuch.json"),
        (["--rows", "8", "8"], "rows: 8, 8 has a value twice"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["digits:fuse_half", *arguments, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
