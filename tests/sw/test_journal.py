"""The file that interrupted runs continue from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sw.journal import Journal, JournalError

RUN = {"network": "n", "limit": None, "list": (1, 2)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Journal(tmp_path / "state", RUN) as journal:
        for index in (2, 0):
            journal.append({"index": index, "value": index / 3})
    return tmp_path / "state"


def test_records_survive_exactly(path: Path) -> None:
    with Journal(path, RUN) as journal:
        assert journal.records == {2: {"index": 2, "value": 2 / 3}, 0: {"index": 0, "value": 0.0}}
        journal.append({"index": 2, "value": 5})
    with Journal(path, RUN) as journal:
        assert journal.records[2]["value"] == 5 and len(journal.records) == 2


def test_a_cut_last_line_is_dropped_wherever_it_is_cut(path: Path) -> None:
    text = path.read_bytes()
    head, first, _ = text.splitlines(keepends=True)
    for length in range(len(text)):
        path.write_bytes(text[:length])
        with Journal(path, RUN) as journal:
            assert len(journal.records) == (length >= len(head)) * (length - len(head) >= len(first))
            journal.append({"index": 7})
        lines = path.read_text().splitlines()
        assert json.loads(lines[-1]) == {"index": 7} and json.loads(lines[0])["run"]["network"] == "n"
        with Journal(path, RUN) as journal:
            assert 7 in journal.records


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({**RUN, "network": "m"}, "whose network is 'n', not 'm'"),
        ({**RUN, "more": 1}, "whose more is None, not 1"),
        ({"network": "n", "list": [1, 2], "limit": 3}, "whose limit is None, not 3"),
    ],
)
def test_another_run(path: Path, run: dict, message: str) -> None:
    before = path.read_bytes()
    with pytest.raises(JournalError, match=message):
        Journal(path, run)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"my notes", "holds no results of an evaluation"),
        (b"my notes\n", "holds no results of an evaluation"),
        (b'{"index": 3}\n', "holds no results of an evaluation"),
        (b"[]\n", "holds no results of an evaluation"),
        (b"\xff\x00\n", "holds no results of an evaluation"),
    ],
)
def test_other_files_are_left_alone(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "notes"
    path.write_bytes(text)
    with pytest.raises(JournalError, match=message):
        Journal(path, RUN)
    assert path.read_bytes() == text


def test_damage_within_is_named(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{\n" + lines[2])
    with pytest.raises(JournalError, match="line 2 is damaged; remove the file"):
        Journal(path, RUN)
    path.write_bytes(lines[0] + b"{}\n")
    with pytest.raises(JournalError, match="line 2 is no record"):
        Journal(path, RUN)


def test_two_runs_do_not_share_a_file(path: Path, tmp_path: Path) -> None:
    with Journal(path, RUN), pytest.raises(JournalError, match="another run is writing it"):
        Journal(path, RUN)
    Journal(path, RUN).close()
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(tmp_path, RUN)
