"""bench/search_cifar10.py: its commands, the network it chooses, and the figures it writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bench import search_cifar10 as bench
from sw.search.__main__ import parser

DOCS = Path(__file__).parents[2] / "docs"
PLAN = bench.Plan(Path("p/cifar.npz"), Path("out"), "edge8", 4, 2, 30)


def row(cycles: int, accuracy: float, **more: str) -> dict[str, object]:
    return {"architecture": f"{cycles}", "cycles": cycles, "table_cycles": cycles + 1, "accuracy": accuracy, **more}


RESULT = {
    "front": [row(10, 40.0), row(20, 60.0), row(30, 70.0)],
    "baselines": [row(40, 61.0, kind="depthwise"), row(35, 59.5, kind="greedy"), row(33, 50.0, kind="fuse_half")],
    "networks": 1000,
    "candidates": 30,
}


def test_commands_are_taken() -> None:
    stages = [parser().parse_args(command[1:]) for command in PLAN.stages]
    assert [options.stage for options in stages] == ["train", "table", "search", "export"]
    assert all(options.out == Path("out") for options in stages)
    assert (stages[0].epochs, stages[0].largest_epochs, stages[2].trials) == (4, 2, 30)
    assert PLAN.compiling("front-0")[:2] == ["sw.compile", "out/networks/front-0.pt2"]


def test_the_fastest_network_as_good_as_the_greedy_hybrid_is_chosen() -> None:
    assert bench.chosen(RESULT) == "front-1"
    better = {**RESULT, "baselines": [row(35, 99.0, kind="greedy")]}
    assert bench.chosen(better) == "front-2"


def test_the_record_and_its_table(tmp_path: Path) -> None:
    plan = bench.Plan(PLAN.data, tmp_path, *(getattr(PLAN, name) for name in ("preset", "epochs")), 2, 30)
    for run, top1 in (("largest", 50.0), ("all", 62.123)):
        (tmp_path / run).mkdir()
        (tmp_path / run / "log.csv").write_text(f"epoch,top1\n1,{top1}\n")
    tested = {item["architecture"]: item["accuracy"] + 1 for item in (*RESULT["front"], *RESULT["baselines"])}
    rtl = {"network": "front-1", "predicted": 20, "measured": 16, "equals_iss": True}
    record = bench.record_of(plan, RESULT, tested, rtl)
    assert record["training"][1] == {"run": "all", "epochs": 1, "top1_largest": 62.12}
    assert [item["network"] for item in record["rows"]] == ["front-0", "front-1", "front-2", *bench.TITLES]
    assert str(tmp_path) not in str(record) and record["commands"][-1].endswith("results/search/programs/front-1")
    text = bench.page(record)
    assert "| greedy hybrid | 35 | 36 | 59.50 | 60.50 | `35` |" in text
    assert "On RTL, front-1 took 16 cycles on `edge8`, predicted 20 (+25.00 %)." in text


def test_a_stage_that_fails_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "_call", lambda command: subprocess.run(["false"], check=True))
    assert bench.main(["--data", str(tmp_path / "none.npz"), "--out", str(tmp_path / "out")]) == 1
    assert "a command ended with status 1; the same command continues" in capsys.readouterr().err


def test_the_page_has_the_record() -> None:
    record = json.loads((DOCS / "data" / "search_cifar10.json").read_text())
    text = (DOCS / "search.md").read_text()
    assert bench.page(record) in text
    assert f"a space of {record['networks']:,} networks" in text
    assert f", {record['candidates']} of them measured" in text
    assert record["rtl"]["equals_iss"] and abs(record["rtl"]["predicted"] / record["rtl"]["measured"] - 1) <= 0.01
    for command in record["commands"][:-1]:
        parser().parse_args(command.split()[3:])
