"""Studies that many add to: whose facts they are of, how many trials they get, and what a killed process leaves."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sqlite3
from pathlib import Path

import pytest
from optuna import Study
from optuna.trial import Trial

from sw.study.command import need_packages, progress_bar, seed
from sw.study.joined import add_trials, check_facts, join_study, open_storage
from sw.study.journal import StudyError
from sw.study.sampler import Chooser, combination, finished

CHOICES = {"a": [1, 2, 3], "b": [True, False]}


def join(where: Path, facts: dict[str, object], *, grid: bool = True) -> Study:
    sampler = Chooser(CHOICES, grid=grid, seed=0)
    return join_study(str(where), "s", sampler=sampler, directions=["minimize", "maximize"], facts=facts)


def values(trial: Trial) -> tuple[float, float]:
    chosen = {name: trial.suggest_categorical(name, known) for name, known in CHOICES.items()}
    return float(chosen["a"]), float(chosen["b"])


def done(study: Study) -> int:
    return len(finished(study))


def test_trials_of_several_runs_count_together(tmp_path: Path) -> None:
    where, seen = tmp_path / "s.log", []
    add_trials(join(where, {}), values, 2, done=done)
    add_trials(join(where, {}), values, 5, done=done, progress=lambda *at: seen.append(at))
    assert seen == [(2, 5), (3, 5), (4, 5), (5, 5)]
    add_trials(join(where, {}), values, 5, done=done, progress=lambda *at: seen.append(at))
    assert seen[4:] == [(5, 5)]
    assert done(join(where, {})) == 5


def test_evolution_without_repeats_in_the_end_tries_everything(tmp_path: Path) -> None:
    study = join(tmp_path / "s.log", {}, grid=False)

    def counting(trial: Trial) -> tuple[float, float]:
        found = values(trial)
        study.sampler.repeats = study.sampler.repeats + 1 if combination(trial.params) in finished(study) else 0
        return found

    add_trials(study, counting, 6, done=done)
    assert done(study) == 6


@pytest.mark.parametrize("other", [{"a": 1, "b": [2, 4]}, {"a": 1}, {"a": 1, "b": [2, 3], "c": 0}])
def test_other_facts_are_refused(other: dict[str, object], tmp_path: Path) -> None:
    facts = {"a": 1, "b": (2, 3)}
    study = join(tmp_path / "s.log", facts)
    join(tmp_path / "s.log", facts)
    with pytest.raises(StudyError, match=r"study 's' in .*s\.log has [bc] .*; give another --study"):
        join(tmp_path / "s.log", other)
    with pytest.raises(StudyError, match=r"has sources None, not 'x'; specification, compiler or models have changed"):
        check_facts(study, "here", {**facts, "sources": "x"})


@pytest.mark.parametrize("where", ["nosuchdb://x", "folder", "text"])
def test_what_is_no_storage_is_said(where: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no study\n")
    place = where if "://" in where else str(tmp_path / where)
    with pytest.raises(StudyError, match=rf"--storage .*{where}: cannot be opened"):
        open_storage(place)


@pytest.mark.parametrize("length", [1, 5000])
def test_half_a_line_of_a_killed_process_is_cut_off(length: int, tmp_path: Path) -> None:
    where = tmp_path / "s.log"
    add_trials(join(where, {}), values, 2, done=done)
    whole = where.read_bytes()
    where.write_bytes(whole + b"{" * length)
    add_trials(join(where, {}), values, 4, done=done)
    assert done(join(where, {})) == 4
    assert where.read_bytes().startswith(whole + b'{"')
    assert all(isinstance(json.loads(line), dict) for line in where.read_text().splitlines())


@pytest.mark.parametrize("writes", [0, 3])  # what fails: the trial's beginning, or its end, where Optuna fails too
def test_a_full_disk_keeps_what_is_finished(writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = tmp_path / "s.log"
    study = join(where, {})
    add_trials(study, values, 2, done=done)
    seen: list[int] = []

    def full(number: int) -> None:
        seen.append(number)
        if len(seen) <= writes:
            return
        os.truncate(where, where.stat().st_size - 3)  # part of the line is there
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StudyError, match=r"s\.log: cannot be written .No space left on device.; what is fin"):
        add_trials(study, values, 6, done=done)
    monkeypatch.undo()
    assert done(join(where, {})) == 2
    add_trials(join(where, {}), values, 6, done=done)
    assert done(join(where, {})) == 6
    assert list(tmp_path.iterdir()) == [where]


def test_a_database_that_fails_is_said(tmp_path: Path) -> None:
    study = join_study(
        f"sqlite:///{tmp_path / 's.db'}",
        "s",
        sampler=Chooser(CHOICES, grid=True, seed=0),
        directions=["minimize"] * 2,
        facts={},
    )

    def spoiled(trial: Trial) -> tuple[float, float]:
        found = values(trial)
        with sqlite3.connect(tmp_path / "s.db") as file:
            file.execute("drop table trial_values")
        return found

    with pytest.raises(StudyError, match=r"cannot be stored .*; the same command continues"):
        add_trials(study, spoiled, 2, done=done)


def test_a_seed_is_no_less_than_0() -> None:
    assert seed("0") == 0
    for text in ("-1", "x", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="no number, 0 or more"):
            seed(text)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    need_packages("this")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"this needs Optuna: install rowcast\[explore\]"):
        need_packages("this")


def test_no_bar_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("trying") as progress:
        progress(1, 2)
    assert capsys.readouterr() == ("", "")
