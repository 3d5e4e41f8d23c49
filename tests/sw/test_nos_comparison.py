"""bench/nos_cifar10.py: its runs, the table, and that it goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from bench import nos_cifar10 as bench
from sw.nn.weights import WeightsError, save_weights
from sw.nos.__main__ import parser as nos_parser
from sw.train.__main__ import parser as train_parser

TOP1 = {"depthwise": 90.0, "half_labels": 86.0, "half_distilled": 87.0, "half_nos": 89.0, "full_labels": 90.5}


@pytest.fixture
def plan(tmp_path):
    return bench.Plan(Path("cifar.npz"), tmp_path, "mobilenet_v2_cifar", 3, ("--width", "0.35"))


class Trainer:
    """Takes the commands, as the programs would, and writes their results."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []

    def __call__(self, command: list[str]) -> None:
        assert command[0] == "-m"
        options = {"sw.train": train_parser, "sw.nos": nos_parser}[command[1]]().parse_args(command[2:])
        method, _, seed = options.out.name.rpartition("-")
        teacher = getattr(options, "teacher_weights", None)
        assert teacher is None or (teacher.is_file() and teacher.parent.name == f"depthwise-{seed}")
        assert (options.recipe, options.epochs, options.seed, options.width) == ("cifar10", 3, int(seed), 0.35)
        self.done.append((method, int(seed)))
        options.out.mkdir()
        facts = {"top1": TOP1[method] + int(seed), "epochs": 3, "seed": int(seed), "seconds": 60.2, "parameters": 7}
        save_weights(nn.Linear(1, 1), options.out / "weights.npz", facts)


def test_all_methods_run_with_the_teacher_of_their_seed(plan):
    trainer = Trainer()
    rows = bench.run_all(plan, [0, 1], list(bench.METHODS), trainer)
    assert trainer.done == [(method, seed) for seed in (0, 1) for method in bench.METHODS]
    assert [(row["method"], row["seed"], row["top1"], row["epochs"]) for row in rows[:2]] == [
        ("depthwise", 0, 90.0, 3),
        ("half_labels", 0, 86.0, 3),
    ]


def test_finished_runs_are_not_made_again(plan):
    first, second = Trainer(), Trainer()
    bench.run_all(plan, [0], ["depthwise"], first)
    rows = bench.run_all(plan, [0], ["depthwise", "half_nos"], second)
    assert second.done == [("half_nos", 0)]
    assert len(rows) == 2
    longer = bench.Plan(plan.data, plan.out, plan.network, 9, plan.common)
    with pytest.raises(WeightsError, match="a run of 3 epochs; give another --out"):
        bench.run_all(longer, [0], ["depthwise"], second)


def test_means_spreads_and_what_is_recovered(plan):
    rows = bench.run_all(plan, [0, 1, 2], list(bench.METHODS), Trainer())
    found = bench.summary(rows)["half_nos"]
    assert found == {"mean": 90.0, "spread": pytest.approx(np.std([89, 90, 91], ddof=1)), "runs": 3}
    page = bench.page({"rows": rows})
    assert "| FuSe-Half, NOS | 90.00 | 1.00 | 3 | 60 |" in page
    assert "Gap between depthwise and FuSe-Half from labels alone: 4.00 points." in page
    assert "FuSe-Half, distilled recovers 25 % of it. FuSe-Half, NOS recovers 75 % of it." in page


def test_the_record_names_commands_without_folders_of_the_machine(plan, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "_call", Trainer())
    monkeypatch.setattr(bench, "_curves", lambda plan, rows: b"<svg/>")
    record = tmp_path / "record.json"
    arguments = ["--data", "/pictures/cifar.npz", "--epochs", "3", "--out", str(tmp_path / "runs"), "--seeds", "0"]
    (tmp_path / "runs").mkdir()
    assert bench.main([*arguments, "--record", str(record)]) == 0
    found = json.loads(record.read_text())
    assert [row["method"] for row in found["rows"]] == list(bench.METHODS)
    assert str(tmp_path) not in record.read_text()
    assert found["commands"]["half_nos"].startswith("python -m sw.nos mobilenet_v2_cifar:fuse_half --teacher-weights")
    assert "recovers 75 %" in capsys.readouterr().out
