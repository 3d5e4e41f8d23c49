"""Figures in a file: found again by identity, and none lost to another process."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sim.measurements import Measurements
from sim.whole_cases import Case


def rows(path: Path) -> set[str]:
    return set(json.loads(path.read_text())["rows"])


def test_rows_of_two_runs_stay(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    runs = [Measurements(path) for _ in range(4)]

    def keep(number: int) -> None:
        for item in range(10):
            runs[number].keep(Case(f"net{number}", f"preset{item}"), {"identity": "x"})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(keep, range(4)))
    assert rows(path) == {f"net{number}@preset{item}" for number in range(4) for item in range(10)}


def test_fresh_finds_nothing_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    old = Measurements(path)
    for name in "ab":
        old.keep(Case(name, "p"), {"identity": "x", "cycles": 1})
    fresh = Measurements(path, fresh=True)
    assert fresh.find(Case("a", "p"), "x") is None
    fresh.keep(Case("a", "p"), {"identity": "x", "cycles": 2})
    again = Measurements(path)
    assert [again.find(Case(name, "p"), "x")["cycles"] for name in "ab"] == [2, 1]
    assert again.find(Case("a", "p"), "y") is None
