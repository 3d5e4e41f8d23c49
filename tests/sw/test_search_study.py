"""The evolution finds the front of a small space, keeps a budget, continues, and refuses others' studies."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hw.spec.config import preset
from sw.search.latency import CycleTable, table_identity
from sw.search.space import Architecture, Space, Stage
from sw.search.study import Budget, Setup, candidates, front, open_study, search
from sw.study.journal import StudyError

SPACE = Space(resolution=8, kernels=(3,), expansions=(2, 3), stages=(Stage(8, 1, 1, expand=False), Stage(8, 2, 1)))
CONFIG = preset("edge8")


class Table(CycleTable):
    """Cycles that need no compiler, and lie exactly on the sum."""

    def block(self, place, block):
        return 1000 * block.kernel * block.expansion // (2 if block.operator == "fuse_half" else 1)


TABLE = Table(table_identity(SPACE, CONFIG), 1000, {})


def accuracy(architecture: Architecture) -> float:
    return sum(b.kernel + b.expansion + (b.operator == "depthwise") for b in architecture.blocks)


def setup(max_cycles: int | None = None, seen: list[Architecture] | None = None, **facts: object) -> Setup:
    def measured(architecture: Architecture) -> float:
        if seen is not None:
            seen.append(architecture)
        return accuracy(architecture)

    return Setup(Budget(SPACE, CONFIG, TABLE, max_cycles), measured, facts, 0, (SPACE.largest,))


def every() -> list[Architecture]:
    first, second = SPACE.places
    last = [()] + [(block,) for block in SPACE.options(second[1])]
    return [
        Architecture(((a,), (b, *c))) for a in SPACE.options(first[0]) for b in SPACE.options(second[0]) for c in last
    ]


def test_the_front_of_all_networks(tmp_path: Path) -> None:
    seen: list[Architecture] = []
    study = search(str(tmp_path / "s.log"), "all", setup(seen=seen), trials=10**6)
    rows = candidates(study)
    assert len(rows) == SPACE.size == len(every()) == len(seen) == len(set(seen))
    expected = front(
        [{"table_cycles": TABLE.cycles(SPACE, a), "accuracy": accuracy(a)} for a in every()], "table_cycles"
    )
    found = [(row["table_cycles"], row["accuracy"]) for row in rows if row["pareto"]]
    assert found == [(row["table_cycles"], row["accuracy"]) for row in expected] and len(found) > 2


def test_a_budget_is_kept_and_others_are_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sw.search.study.whole_cycles", lambda space, network, config: TABLE.cycles(space, network))
    limit = 10_000
    seen: list[Architecture] = []
    study = search(str(tmp_path / "s.log"), "some", setup(limit, seen), trials=25)
    rows = candidates(study)
    assert rows and all(row["table_cycles"] <= limit for row in rows) and len(rows) == len(seen) < 25
    trials = [trial for trial in study.trials if trial.user_attrs["over"] > 0]
    assert trials and all(trial.values[1] == limit - trial.values[0] for trial in trials)
    assert study.trials[0].user_attrs["architecture"] == str(SPACE.largest)
    assert {Architecture.parse(trial.user_attrs["architecture"]) for trial in study.best_trials} <= set(seen)


def test_a_study_continues(tmp_path: Path) -> None:
    where = str(tmp_path / "s.log")
    seen: list[Architecture] = []
    search(where, "net", setup(seen=seen), trials=5)
    assert len(seen) == 5
    progress: list[tuple[int, int]] = []
    search(where, "net", setup(seen=seen), trials=9, progress=lambda done, total: progress.append((done, total)))
    assert len(seen) == len(set(seen)) == 9
    assert progress[0] == (5, 9) and progress[-1] == (9, 9)


def test_two_processes_share_a_study(tmp_path: Path) -> None:
    where = str(tmp_path / "s.log")
    search(where, "net", setup(), trials=3)
    code = (
        "import sys; from tests.sw.test_search_study import search, setup, candidates;"
        f"print(len(candidates(search({where!r}, 'net', setup(), trials=8))))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert run.stdout.strip() == "8", run.stderr
    assert len(candidates(open_study(where, "net", setup()))) == 8


_KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from tests.sw import test_search_study as t
def accuracy(architecture):
    if str(architecture) == {last!r}:
        os.kill(os.getpid(), signal.SIGKILL)
    return t.accuracy(architecture)
t.search({where!r}, "net", t.dataclasses.replace(t.setup(), accuracy=accuracy, anchors=({anchors})), trials=9)
"""


def test_a_killed_search_continues_and_loses_no_anchor(tmp_path: Path) -> None:
    where, other = str(tmp_path / "s.log"), SPACE.largest.with_operators({0: "fuse_half"})
    anchors = (SPACE.smallest, SPACE.largest, other)
    names = f"t.SPACE.smallest, t.SPACE.largest, t.Architecture.parse({str(other)!r})"
    code = _KILLED.format(root=str(Path(__file__).parents[2]), last=str(SPACE.largest), where=where, anchors=names)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert len(candidates(open_study(where, "net", setup()))) == 1
    seen: list[Architecture] = []
    study = search(where, "net", dataclasses.replace(setup(seen=seen), anchors=anchors), trials=9)
    assert len(candidates(study)) == 9 and len(seen) == 8
    assert set(seen[:2]) == {SPACE.largest, other}


@pytest.mark.parametrize(
    ("other", "key"),
    [
        (setup(max_cycles=10**6, supernet="a"), "max_cycles"),
        (setup(supernet="b"), "supernet"),
        (dataclasses.replace(setup(), budget=Budget(SPACE, CONFIG, Table({"config": {}}, 0, {}))), "config"),
    ],
)
def test_another_search_is_refused(other: Setup, key: str, tmp_path: Path) -> None:
    where = str(tmp_path / "s.log")
    open_study(where, "net", setup(supernet="a"))
    open_study(where, "net", setup(supernet="a"))
    with pytest.raises(StudyError, match=rf"study 'net' .* has {key} .* give another --study"):
        open_study(where, "net", other)


def test_a_front() -> None:
    rows = [{"cycles": c, "accuracy": a} for c, a in ((3, 5.0), (1, 2.0), (2, 2.0), (2, 4.0), (1, 1.0), (4, 5.0))]
    assert json.loads(json.dumps(front(rows, "cycles"))) == [
        {"cycles": 1, "accuracy": 2.0},
        {"cycles": 2, "accuracy": 4.0},
        {"cycles": 3, "accuracy": 5.0},
    ]
