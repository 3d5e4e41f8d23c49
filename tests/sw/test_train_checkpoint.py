from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from sw.train.checkpoint import CheckpointError, check_run, read_checkpoint, write_checkpoint

STATE = {"epoch": 3, "weights": {"a": torch.arange(4.0)}}


def test_a_state_comes_back(tmp_path):
    path = tmp_path / "last.pt"
    assert read_checkpoint(path) is None
    write_checkpoint(path, STATE)
    found = read_checkpoint(path)
    assert found is not None
    assert found["epoch"] == 3
    assert torch.equal(found["weights"]["a"], torch.arange(4.0))


def test_a_full_disk_leaves_the_last_one(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    write_checkpoint(path, STATE)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CheckpointError, match="cannot be written .No space left on device.; the last one is kept"):
        write_checkpoint(path, {"epoch": 4})
    monkeypatch.undo()
    assert [item.name for item in tmp_path.iterdir()] == ["last.pt"]
    assert read_checkpoint(path)["epoch"] == 3


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b"text", lambda data: b""])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "last.pt"
    write_checkpoint(path, STATE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"last\.pt: not a readable checkpoint .*remove it to start again"):
        read_checkpoint(path)


def test_another_files_state_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="no checkpoint of a training run"):
        read_checkpoint(tmp_path / "last.pt")


def test_the_fact_that_differs_is_named(tmp_path):
    check_run(tmp_path, {"lr": 1, "seed": 0}, {"lr": 1, "seed": 0})
    with pytest.raises(CheckpointError, match="a run whose seed is 0, not 1; continue it with the old value"):
        check_run(tmp_path, {"lr": 1, "seed": 0}, {"lr": 1, "seed": 1})
