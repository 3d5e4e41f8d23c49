"""Training of a supernet that is killed, spread over processes, out of space or out of numbers."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sw.search.__main__ import main
from sw.search.sampling import Sampling
from sw.search.training import SUPERNET
from sw.train.checkpoint import read_checkpoint
from sw.train.distributed import ProcessError
from sw.train.logs import read_log
from tests.sw.supernet_runs import OPTIONS
from tests.sw.training_pictures import save_archive

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_archive(tmp_path_factory.mktemp("pictures") / "bars.npz")


def train(data: Path, out: Path, *more: str) -> int:
    return main(["train", "--data", str(data), "--out", str(out), *OPTIONS, *more])


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has happened to."""
    out = tmp_path_factory.mktemp("search") / "whole"
    assert train(data, out) == 0
    return out


def killed(data: Path, out: Path, world: int, *moments: str) -> list[list[int]]:
    """Train until killed, once per moment, and to the end; return how the processes of each training ended."""
    command = [sys.executable, str(ROOT / "tests" / "sw" / "supernet_runs.py"), str(data), str(out), str(world)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *moments], capture_output=True, text=True, env=env, timeout=500)
    assert done.returncode == 0, done.stderr
    return [[int(status) for status in line.split()] for line in done.stdout.splitlines()]


def assert_same(one: Path, other: Path) -> None:
    """All that a training leaves is the same, but for times and leftovers of the killed."""
    first, second = np.load(one / SUPERNET), np.load(other / SUPERNET)
    assert first.files == second.files
    assert [name for name in first.files if not np.array_equal(first[name], second[name])] == []
    for run in ("largest", "all"):
        lines, others = (read_log(folder / run / "log.csv") for folder in (one, other))
        assert [{**line, "seconds": 0} for line in lines] == [{**line, "seconds": 0} for line in others]


def test_killed_at_any_moment_it_ends_like_a_run_that_was_not(data: Path, whole: Path, tmp_path: Path) -> None:
    # files: checkpoint and log of each epoch, at last the supernet; a run that goes on first writes its log anew
    moments = ("largest:2:1", "write:2", "write:3", "all:1:3", "all:2:2", "write:4", "write:3")
    ends = killed(data, tmp_path / "cut", 1, *moments)
    assert ends == [[-9]] * len(moments) + [[0]]
    assert_same(whole, tmp_path / "cut")
    assert not list((tmp_path / "cut").rglob(".last.pt.*"))


def test_two_processes_are_killed_and_go_on(data: Path, tmp_path: Path) -> None:
    assert killed(data, tmp_path / "whole", 2) == [[0, 0]]
    assert killed(data, tmp_path / "cut", 2, "all:2:3") == [[-9, -9], [0, 0]]
    assert_same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_torchrun_trains_a_supernet_in_mixed_precision(data: Path, tmp_path: Path) -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sw.search", "train"]
    options = ["--data", str(data), "--out", str(tmp_path / "out"), *OPTIONS, "--precision", "bf16", "--epochs", "1"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command, *options], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the largest has top-1") == 1
    for run in ("largest", "all"):
        assert [line["epoch"] for line in read_log(tmp_path / "out" / run / "log.csv")] == [1]
        identity = read_checkpoint(tmp_path / "out" / run / "last.pt")["run"]
        assert (identity["processes"], identity["precision"]) == (2, "bf16")


@pytest.mark.parametrize(("file", "status", "epochs"), [("last.pt", 1, 1), (SUPERNET, 1, 2)])
def test_a_full_disk_keeps_the_last_checkpoint(
    file: str,
    status: int,
    epochs: int,
    data: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write, full = Path.write_bytes, (2 if file == SUPERNET else 4) // 2
    seen: list[Path] = []

    def limited(self: Path, content: bytes) -> int:
        if file in self.name and (file == SUPERNET or self.parent.name == "all"):
            seen.append(self)
            if file == SUPERNET or len(seen) == full:
                write(self, content[: len(content) // 2])
                raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", limited)
    out = tmp_path / "out"
    assert train(data, out) == status
    message = capsys.readouterr().err
    assert file in message and "No space left on device" in message and "Traceback" not in message
    monkeypatch.undo()
    kept = read_checkpoint(out / "all" / "last.pt")
    assert kept is not None and len(kept["lines"]) == epochs
    assert not (out / SUPERNET).exists() and not list(out.rglob("*.tmp"))
    assert train(data, out) == 0
    assert_same(whole, out)


def test_another_process_that_ends_is_said(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(*args: object, **options: object) -> None:
        raise ProcessError("process 0 of 2 lost the others (closed)")

    monkeypatch.setattr("sw.search.stages.train_supernet", lost)
    assert train(data, tmp_path) == 1
    assert capsys.readouterr().err == "error: process 0 of 2 lost the others (closed)\n"


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loss, steps = Sampling.loss, []

    def broken(self: Sampling, logits: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        steps.append(1)
        return loss(self, logits, images, labels) * (float("nan") if len(steps) == 5 else 1.0)

    monkeypatch.setattr(Sampling, "loss", broken)
    assert train(data, tmp_path) == 1
    assert "epoch 2, step 2 of 3: the loss is nan" in (message := capsys.readouterr().err)
    assert "the checkpoint of epoch 1 is kept" in message
    monkeypatch.undo()
    kept = read_checkpoint(tmp_path / "all" / "last.pt")
    assert kept is not None and len(kept["lines"]) == 1
    assert train(data, tmp_path) == 0
    assert_same(whole, tmp_path)
