"""The stages of ``python -m sw.search`` on a small space and real files, from pictures to a compiled program."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hw.spec.program import Program
from sw.compile import main as compile_main
from sw.model.timeline import timeline
from sw.quant import load
from sw.search.__main__ import main
from sw.search.evaluation import Evaluator
from sw.search.space import Architecture
from sw.search.training import load_supernet
from tests.sw.training_pictures import save_archive

SIZE = ["--width", "0.25", "--stages", "16x1x1,24x2x2", "--kernels", "3,5", "--expansions", "2,3"]
RECIPE = ["--epochs", "2", "--batch", "12", "--set", "resolution=16"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_archive(tmp_path_factory.mktemp("pictures") / "bars.npz")


def train(data: Path, out: Path, *more: str) -> int:
    return main(["train", "--data", str(data), "--out", str(out), *SIZE, *RECIPE, "--threads", "1", *more])


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("search")
    assert train(data, out) == 0
    assert main(["table", "--out", str(out), "--preset", "edge8"]) == 0
    return out


@pytest.mark.slow
def test_all_stages(data: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--out", str(folder), "--data", str(data), "--threads", "1", "--json"]
    capsys.readouterr()
    assert main(["search", *given, "--preset", "edge8", "--trials", "12", "--seed", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in found["baselines"]] == ["depthwise", "greedy", "fuse_half"]
    front = found["front"]
    for one, other in zip(front, front[1:], strict=False):
        assert one["cycles"] < other["cycles"] and one["accuracy"] < other["accuracy"]
    rows = list(csv.DictReader((folder / "candidates.csv").open()))
    assert len(rows) == 12 + 3 and sum(int(row["pareto"]) for row in rows) == len(front)
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")

    assert main(["export", *given, "0", "greedy"]) == 0
    files = json.loads(capsys.readouterr().out)["networks"]
    assert [Path(name).name for name in files] == ["front-0.pt2", "greedy.pt2"]
    trained = load_supernet(folder)
    evaluator = Evaluator(trained.model, trained.pictures(data), batches=20, batch=12, device=torch.device("cpu"))
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for name, row in files.items():
        architecture = Architecture.parse(row["architecture"])
        exported = load(name).module()(x)
        torch.testing.assert_close(exported, evaluator.network(architecture)(x), rtol=0, atol=1e-5)
        assert evaluator.accuracy(architecture) == row["accuracy"]

    program = tmp_path / "program"
    file = next(iter(files))
    assert compile_main([file, "--calib", str(data), "--preset", "edge8", "--out", str(program)]) == 0
    compiled = Program.load(program)
    assert timeline(compiled).cycles == front[0]["cycles"]
    assert compiled.meta["search"]["architecture"] == front[0]["architecture"]


def test_training_continues_and_refuses_another_space(
    data: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = np.load(folder / "supernet.npz")
    assert train(data, folder) == 0
    after = np.load(folder / "supernet.npz")
    assert all(np.array_equal(before[name], after[name]) for name in before.files)
    assert train(data, folder, "--kernels", "3,5,7") == 1
    assert "a run whose space is" in capsys.readouterr().err


def test_a_space_of_files(folder: Path) -> None:
    trained = load_supernet(folder)
    assert trained.space.size == math.prod([4, 8 + 64])
    assert trained.record["pictures"]["test"] == 5 and trained.record["pictures"]["train"] == 43


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["search", "--max-cycles", "100"], "--max-cycles 100: no network of the space is that fast on 8x8; the"),
        (["search", "--preset", "edge16"], "no such table"),
        (["export", "7d7|3d3"], "stage 0 cannot have 7d7"),
        (["export", "1d3|hello"], "'hello' is no block"),
    ],
)
def test_wrong_usage(
    options: list[str], message: str, data: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = ["--preset", "edge8"] if options[0] == "search" and "--preset" not in options else []
    assert main([*options, *preset, "--out", str(folder), "--data", str(data)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error


def test_stages_in_the_wrong_order(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "--out", str(tmp_path)]) == 2
    assert "train the supernet with 'python -m sw.search train" in capsys.readouterr().err
    assert train(data, tmp_path, "--stages", "16x1") == 2
    assert "'16x1' is no stage" in capsys.readouterr().err
    assert train(tmp_path / "none.npz", tmp_path) == 2
    assert "none.npz" in capsys.readouterr().err


def test_other_pictures_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = save_archive(tmp_path / "other.npz", train=30)
    assert main(["search", "--preset", "edge8", "--out", str(folder), "--data", str(other)]) == 2
    assert "27 pictures to train with, not 43 as in training" in capsys.readouterr().err
