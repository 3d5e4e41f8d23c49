"""Design-space exploration: the front is the true one, runs continue, and bad input is refused."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from hw.spec.config import AcceleratorConfig, ConfigError
from sw.compiler.ir import Graph
from sw.explore.__main__ import main
from sw.explore.identity import shape_digest
from sw.explore.point import evaluate
from sw.explore.report import csv_text, table_text
from sw.explore.space import Space
from sw.explore.study import Setup, explore, open_study, points
from sw.model.area import AreaTable
from sw.study.journal import StudyError
from sw.study.sampler import combination, finished
from tests.sw.ir_graphs import Builder, block_net

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


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["grid", "nsga2"])
def test_a_study_continues(sampler: str, graph: Graph, tmp_path: Path) -> None:
    setup = Setup(SPACE, sampler=sampler)
    where = str(tmp_path / "study.log")
    kept = set(finished(explore(where, "net", graph, setup, trials=3)))
    assert len(kept) == 3
    seen: list[tuple[int, int]] = []
    second = explore(where, "net", graph, setup, trials=5, progress=lambda done, total: seen.append((done, total)))
    assert len(finished(second)) == 5 and kept < set(finished(second))
    assert seen[-1] == (5, 5)
    before = len(second.trials)
    explore(where, "net", graph, setup, trials=5)
    assert len(second.trials) == before
    # NSGA-II draws known ones again and again: they do not count, and the last missing ones are found all the same
    assert len(finished(explore(where, "net", graph, setup, trials=100))) == SPACE.size


LARGER = Space(rows=(4, 6, 8), cols=(4, 6, 8), act_kib=(16, 32), weight_kib=(4, 8, 16), axi_data_width=(64,))


@pytest.mark.slow
def test_a_killed_process_loses_nothing(graph: Graph, tmp_path: Path) -> None:
    setup, where = Setup(LARGER, sampler="grid"), str(tmp_path / "study.log")
    done: list[int] = []

    def kill(finished_trials: int, total: int) -> None:
        if finished_trials and not done:
            done.append(finished_trials)
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)

    with pytest.raises(StudyError, match="1 of 1 processes failed .* the same command continues"):
        explore(where, "all", graph, setup, trials=LARGER.size, progress=kill)
    kept = finished(open_study(where, "all", graph, setup))
    assert done[0] <= len(kept) < LARGER.size
    study = explore(where, "all", graph, setup, trials=LARGER.size, jobs=2)
    found, infeasible = points(study)
    assert len(found) + infeasible == LARGER.size == len(finished(study))
    assert kept.keys() < finished(study).keys()


@pytest.mark.slow
def test_two_explorations_at_once(graph: Graph, tmp_path: Path) -> None:
    setup, where = Setup(LARGER, sampler="grid", seed=0), str(tmp_path / "study.log")
    open_study(where, "all", graph, setup)
    failures: list[Exception] = []

    def run() -> None:
        try:
            explore(where, "all", graph, setup, trials=LARGER.size)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    study = open_study(where, "all", graph, setup)
    found, infeasible = points(study)
    assert len(found) + infeasible == LARGER.size
    # both may take one at the same moment, at the start and for the last one
    assert len(study.trials) <= LARGER.size + 8


def test_what_a_dead_process_had_begun_is_taken_last(graph: Graph, tmp_path: Path) -> None:
    study = open_study(str(tmp_path / "study.log"), "all", graph, Setup(SPACE, sampler="grid", seed=0))

    def ask() -> tuple[object, int]:
        trial = study.ask()
        return combination(
            {name: trial.suggest_categorical(name, v) for name, v in SPACE.choices.items()}
        ), trial.number

    first, _ = ask()  # never finished
    others = set()
    for _ in range(SPACE.size - 1):
        chosen, number = ask()
        others.add(chosen)
        study.tell(number, [1.0, 1.0])
    assert len(others) == SPACE.size - 1 and first not in others
    assert ask()[0] == first


def test_draws_depend_on_seed_and_trial(graph: Graph, tmp_path: Path) -> None:
    space = Space()

    def draws(where: Path, seed: int | None, number: int) -> list[object]:
        study = open_study(str(where), "net", graph, Setup(space, seed=seed))
        trials = [study.ask() for _ in range(number)]
        return [
            combination({name: trial.suggest_categorical(name, v) for name, v in space.choices.items()})
            for trial in trials
        ]

    first = draws(tmp_path / "a", 0, 6)
    assert draws(tmp_path / "b", 0, 6) == first
    assert draws(tmp_path / "c", 1, 6) != first
    assert draws(tmp_path / "d", None, 6) != draws(tmp_path / "e", None, 6)
    # a later run, or another machine, with the same seed goes on instead of drawing the same
    assert draws(tmp_path / "b", 0, 6) != first


def test_a_study_of_something_else_is_refused(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = str(tmp_path / "study.log")
    open_study(where, "net", graph, Setup(SPACE))
    with pytest.raises(StudyError, match=r"study 'net' .* has area .* give another --study"):
        open_study(where, "net", graph, Setup(SPACE, area_table=AreaTable(pe=1.0)))
    with pytest.raises(StudyError, match="--storage nosuchdb://x: cannot be opened"):
        open_study("nosuchdb://x", "net", graph, Setup(SPACE))
    other = dataclasses.replace(block_net(1)[1], name=graph.name)
    open_study(where, "net", other, Setup(SPACE))  # other weights only
    with pytest.raises(StudyError, match=r"study 'net' .* has shapes '"):
        open_study(where, "net", strided(2, name=graph.name), Setup(SPACE))
    monkeypatch.setattr("sw.explore.study.figure_sources", lambda: "0" * 64)
    with pytest.raises(StudyError, match=r"has sources .*'0000000000000000'; .* models have changed"):
        open_study(where, "net", graph, Setup(SPACE))


def test_of_two_who_make_a_study_at_once_one_is_refused(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one's facts come in after this one has seen none."""
    import optuna

    write = optuna.Study.set_user_attr

    def second(study: optuna.Study, key: str, value: dict[str, object]) -> None:
        write(study, key, value)
        write(study, key, {**value, "network": "another"})

    monkeypatch.setattr(optuna.Study, "set_user_attr", second)
    with pytest.raises(StudyError, match="has network 'another'"):
        open_study(str(tmp_path / "study.log"), "net", graph, Setup(SPACE))


def strided(stride: int, name: str = "random", seed: int = 0) -> Graph:
    build = Builder(seed, name)
    build.conv(build.input((4, 9, 9)), 4, (3, 3), (stride, 1))
    return build.graph()


def test_the_digest_of_shapes_leaves_values_out() -> None:
    assert shape_digest(strided(1)) == shape_digest(strided(1, seed=5))
    assert shape_digest(strided(1)) != shape_digest(strided(2))
    (conv,) = strided(1).ops
    wider = np.zeros((4, 4, 3, 5), np.int8)
    assert shape_digest(strided(1)) != shape_digest(strided(1).rewrite([dataclasses.replace(conv, weight=wider)]))


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
    grid = ["digits:fuse_half", *space, "--sampler", "grid", "--out", str(out)]
    assert main([*grid, "--trials", "1"]) == 0
    assert "1 of 2 combinations were tried" in capsys.readouterr().out
    assert main([*grid, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["tried"], found["combinations"]) == (2, 2)
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
def test_bad_arguments(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["digits:fuse_half", *arguments, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("module", ["optuna", "matplotlib"])
def test_what_is_not_installed_is_said_before_work_starts(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find(name))
    monkeypatch.setattr("sw.explore.__main__.network_graph", None)
    assert main(["digits", "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert module in message.lower() and "install rowcast[explore]" in message


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--seed", "-1", "no number, 0 or more"), ("--trials", "0", "'0' is no number, 1 or more")],
)
def test_numbers_out_of_range(option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["digits", f"{option}={value}", "--out", "x"])
    assert stopped.value.code == 2 and message in capsys.readouterr().err
