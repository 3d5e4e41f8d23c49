"""The command lines of training, killed, out of space, and with two processes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from sw.nn import zoo
from sw.nn.weights import read_arrays, read_provenance
from sw.nos.__main__ import main as nos
from sw.train.__main__ import main as train
from sw.train.checkpoint import read_checkpoint
from sw.train.data import Share, open_pictures
from sw.train.distributed import Processes
from sw.train.logs import read_log
from sw.train.loop import measure
from tests.sw.training_pictures import save_archive

ROOT = Path(__file__).parents[2]
NET = "mobilenet_v1_cifar"
SMALL = ["--width", "0.1", "--recipe", "cifar10", "--epochs", "3", "--batch", "16", "--device", "cpu"]
SMALL += ["--threads", "1", "--set", "resolution=16"]
EPOCH_DONE = "epoch 1: loss"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Iterator[Path]:
    """A folder with pictures and, in base, a trained depthwise network."""
    folder = tmp_path_factory.mktemp("interrupted")
    threads = torch.get_num_threads()
    save_archive(folder / "bars.npz")
    assert train([NET, "--data", str(folder / "bars.npz"), "--out", str(folder / "base"), *SMALL]) == 0
    yield folder
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def arguments(base: Path, program: str, out: str) -> list[str]:
    common = ["--data", str(base / "bars.npz"), "--out", str(base / out), *SMALL]
    if program == "sw.train":
        return [NET, *common]
    return [f"{NET}:fuse_half[0,2-12]", *common, "--teacher-weights", str(base / "base" / "weights.npz")]


def start_and_kill(command: list[str]) -> str:
    """Start a command line in a session of its own, kill all of it in its second epoch; return its messages."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
    )
    said = ""
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            said += line
            if line.startswith(EPOCH_DONE):
                os.killpg(process.pid, signal.SIGKILL)
                break
    assert process.wait(timeout=120) == -signal.SIGKILL, said
    return said


@pytest.mark.slow
@pytest.mark.parametrize("program", ["sw.train", "sw.nos"])
def test_a_killed_command_gives_the_weights_of_one_that_was_not(base, program):
    main = {"sw.train": train, "sw.nos": nos}[program]
    start_and_kill([program, *arguments(base, program, f"{program}-cut")])
    done = read_checkpoint(base / f"{program}-cut" / "last.pt")
    assert done is None or len(done["lines"]) < 3  # the checkpoint is written after the epoch's message
    assert not (base / f"{program}-cut" / "weights.npz").exists()
    assert main(arguments(base, program, f"{program}-cut")) == 0
    assert main(arguments(base, program, f"{program}-whole")) == 0
    cut, whole = (read_arrays(base / f"{program}-{name}" / "weights.npz") for name in ("cut", "whole"))
    assert cut.keys() == whole.keys()
    assert all(np.array_equal(cut[name], whole[name]) for name in whole)
    logs = [read_log(base / f"{program}-{name}" / "log.csv") for name in ("cut", "whole")]
    assert [[(line["loss"], line["top1"]) for line in log] for log in logs][0] == [
        (line["loss"], line["top1"]) for line in logs[1]
    ]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(base, capsys, monkeypatch):
    command = arguments(base, "sw.train", "full")
    folder = base / "full"
    monkeypatch.setattr("sw.train.loop.measure", stop_after(1))
    with pytest.raises(RuntimeError, match="enough"):
        train(command)
    monkeypatch.undo()
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(kept) == {"last.pt", "log.csv"}
    capsys.readouterr()
    with largest_file(1000):
        assert train(command) == 1
    said = capsys.readouterr().err
    assert "last.pt: " in said and "MB cannot be written (File too large); the last one is kept" in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
    assert train(command) == 0  # with space again
    assert all(
        np.array_equal(value, read_arrays(folder / "weights.npz")[name])
        for name, value in read_arrays(base / "base" / "weights.npz").items()
    )


def stop_after(epochs: int):
    """Return a measurement that fails in the epoch after some."""
    calls = []

    def measured(*arguments, **options):
        calls.append(0)
        if len(calls) > epochs:
            raise RuntimeError("enough")
        return measure(*arguments, **options)

    return measured


def test_no_space_for_the_weights_is_no_wrong_usage(base, capsys):
    """Everything is trained; only the last file cannot be written."""
    command = arguments(base, "sw.train", "base")
    before = (base / "base" / "weights.npz").read_bytes()
    with largest_file(1000):
        assert train(command) == 1
    assert "File too large" in capsys.readouterr().err
    assert (base / "base" / "weights.npz").read_bytes() == before


def test_a_gpu_that_is_too_small_is_said(base, capsys, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr("sw.train.command.fit", full)
    assert train(arguments(base, "sw.train", "gpu")) == 1
    assert capsys.readouterr().err == "error: CUDA out of memory. Tried to allocate 9 GiB\n"


@pytest.mark.slow
def test_two_processes_scaffold_killed_and_continued(base, capsys):
    """``torchrun`` for both programs; the second is killed in its second epoch."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    teacher = [*torchrun, "sw.train", *arguments(base, "sw.train", "teacher")]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    run = {"check": True, "env": env, "capture_output": True, "timeout": 300}
    subprocess.run([sys.executable, "-m", *teacher], **run)
    assert read_checkpoint(base / "teacher" / "last.pt")["run"]["processes"] == 2
    options = arguments(base, "sw.nos", "two")
    options[-1] = str(base / "teacher" / "weights.npz")
    command = [*torchrun, "sw.nos", *options]
    start_and_kill(command)
    before = read_checkpoint(base / "two" / "last.pt")
    subprocess.run([sys.executable, "-m", *command], **run)
    lines = read_log(base / "two" / "log.csv")
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert before is None or lines[: len(before["lines"])] == before["lines"]
    facts = read_provenance(base / "two" / "weights.npz")
    assert (facts["method"], facts["epochs"]) == ("nos", 3)
    name = options[0]
    model = zoo.create(name, width=0.1, resolution=16, classes=2, weights=base / "two" / "weights.npz")
    pictures = open_pictures(base / "bars.npz", zoo.metadata(name, resolution=16))
    assert measure(model, pictures.test, Processes(Share(), torch.device("cpu"))) == facts["top1"]
    # alone it would be another run
    assert nos(options) == 1
    assert "a run whose processes is 2, not 1" in capsys.readouterr().err
