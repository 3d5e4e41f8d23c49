"""bench/nos_cifar10.py: its runs, the table, and that it goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from bench import nos_cifar10 as bench
from sw.nn import zoo
from sw.nn.weights import WeightsError, read_arrays, read_provenance, save_weights
from sw.nos.__main__ import parser as nos_parser
from sw.train.__main__ import parser as train_parser

TOP1 = {"depthwise": 90.0, "half_labels": 86.0, "half_distilled": 87.0, "half_nos": 89.0, "full_labels": 90.5}
TOP1["half_longer"] = 88.0
DOCS = Path(__file__).parents[2] / "docs"


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
        epochs = 6 if method == "half_longer" else 3
        assert (options.recipe, options.epochs, options.seed, options.width) == ("cifar10", epochs, int(seed), 0.35)
        self.done.append((method, int(seed)))
        options.out.mkdir()
        facts = {"top1": TOP1[method] + int(seed), "epochs": epochs, "seed": int(seed)}
        facts |= {"network": options.network, "width": options.width}
        save_weights(nn.Linear(1, 1), options.out / "weights.npz", {**facts, "seconds": 60.2, "parameters": 7})


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
    finished = bench.run_all(plan, [0, 1], list(bench.METHODS), None)
    assert [(row["method"], row["seed"]) for row in finished] == [("depthwise", 0), ("half_nos", 0)]
    for change, said in (
        ({"epochs": 9}, "epochs is 3, not 9"),
        ({"common": ("--width", "0.5")}, r"width is 0\.35, not 0\.5"),
        ({"network": "mobilenet_v1_cifar"}, "network is mobilenet_v2_cifar, not mobilenet_v1_cifar"),
    ):
        with pytest.raises(WeightsError, match=f"a run whose {said}; give another --out"):
            bench.run_all(dataclasses.replace(plan, **change), [0], ["depthwise"], second)


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
    arguments += ["--width", "0.35"]
    (tmp_path / "runs").mkdir()
    assert bench.main([*arguments, "--record", str(record)]) == 0
    found = json.loads(record.read_text())
    assert [row["method"] for row in found["rows"]] == list(bench.METHODS)
    assert [row["epochs"] for row in found["rows"]] == [3, 3, 3, 3, 3, 6]
    assert str(tmp_path) not in record.read_text()
    assert found["commands"]["half_nos"].startswith("python -m sw.nos mobilenet_v1_cifar:fuse_half --teacher-weights")
    assert "recovers 75 %" in capsys.readouterr().out


def test_the_best_scaffolded_network_is_written_as_the_zoo_ships_it(plan, tmp_path):
    data = tmp_path / "cifar.npz"
    np.savez(data, classes=np.array(["bar", "pole"]))
    rows = []
    for seed, top1 in ((0, 70.0), (1, 72.0), (2, 71.0)):
        folder = tmp_path / f"half_nos-{seed}"
        folder.mkdir()
        network = zoo.create("mobilenet_v1_cifar:fuse_half", width=0.1, classes=2)
        facts = {"network": "mobilenet_v1_cifar:fuse_half", "width": 0.1, "classes": 2, "seed": seed, "top1": top1}
        save_weights(network, folder / "weights.npz", {**facts, "command": "python -m sw.nos --out /elsewhere"})
        rows.append({"method": "half_nos", "seed": seed, "top1": top1})
    path = tmp_path / "best.npz"
    plan = dataclasses.replace(plan, data=data)
    assert bench.save_checkpoint(path, plan, rows)["seed"] == 1
    facts = read_provenance(path)
    assert (facts["seed"], facts["top1"], facts["class_names"]) == (1, 72.0, ["bar", "pole"])
    assert facts["licence"] and "lossy JPEG" in facts["data"]
    assert str(tmp_path) not in facts["command"] and "/elsewhere" not in facts["command"]
    best, written = read_arrays(tmp_path / "half_nos-1" / "weights.npz"), read_arrays(path)
    assert all(np.array_equal(best[name], written[name]) for name in best)
    with pytest.raises(WeightsError, match="no run of half_nos"):
        bench.save_checkpoint(path, plan, [{"method": "depthwise", "seed": 0, "top1": 1.0}])


def test_the_page_has_the_figures_of_the_record():
    record = json.loads((DOCS / "data" / "nos_cifar10.json").read_text())
    page = (DOCS / "nos.md").read_text()
    assert bench.page(record) in page
    assert all(f"    {command}\n" in page.replace("\\\n        ", "") for command in record["commands"].values())
    means = bench.summary(record["rows"])
    for method in ("depthwise", "half_labels", "half_distilled", "half_nos", "full_labels"):
        rows = [row for row in record["rows"] if row["method"] == method]
        assert sorted(row["seed"] for row in rows) == [0, 1, 2] and len({row["epochs"] for row in rows}) == 1
    gap = means["depthwise"]["mean"] - means["half_labels"]["mean"]
    assert means["half_nos"]["mean"] - means["half_labels"]["mean"] > gap / 2  # most of the gap
    half, scaffolded, twin = (means[method]["mean"] for method in ("half_labels", "half_nos", "depthwise"))
    readme = " ".join((DOCS.parent / "README.md").read_text().split())
    assert f"from {half:.1f} to {scaffolded:.1f} % on CIFAR-10, where the twin has {twin:.1f} %" in readme
    assert f"together, it reaches {means['half_longer']['mean']:.1f} %" in readme


def test_the_page_has_the_figures_of_the_shipped_network():
    page = (DOCS / "nos.md").read_text()
    record = json.loads((DOCS / "data" / "nos_checkpoint.json").read_text())
    for backend, report in record.items():
        agreement = "" if backend == "torch" else f"{report['agreement']:.2f}"
        assert f"| `{backend}` | {report['n']:,} | {report['top1']:.2f} | {agreement} |" in page
