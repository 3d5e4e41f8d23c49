"""Timelines and profiles as measured on RTL beside those predicted: the same form, and here the same times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hw.spec.config import PRESETS
from hw.spec.isa import Queue
from hw.spec.program import Program
from sim.run import main as run
from sw import profile
from sw.backends import BackendError
from sw.compiler import compile_graph
from sw.compiler.ir import Graph
from sw.measure import measure
from sw.model.channels import Memory
from sw.model.profile import profile as profiled
from sw.model.timeline import timeline
from sw.model.trace import chrome_trace
from tests.sw.ir_graphs import Builder


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Two layers on a few pixels, so small that no accesses meet in a bank."""
    build = Builder(0)
    return build.graph(build.conv(build.conv(build.input((4, 6, 6)), 8, (1, 1)), 4, (1, 1)))


@pytest.fixture(scope="module")
def program(graph: Graph) -> Program:
    return compile_graph(graph, PRESETS["tiny"])


def form(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return rows, and of each slice all but its times."""
    events = document["traceEvents"]
    rows = [(e["name"], e["tid"], e["args"]) for e in events if e["name"].startswith("thread")]
    slices = [e for e in events if e["ph"] == "X"]
    return [*rows, *sorted((e["cat"], e["args"]["pc"], e["name"], e["tid"], e["args"]) for e in slices)]


@pytest.mark.slow
def test_both_timelines_have_the_same_form(program: Program, tmp_path: Path) -> None:
    program.save(tmp_path / "prog")
    (spec,) = program.inputs
    np.save(tmp_path / "x.npy", np.zeros(spec.shape, np.int8))
    arguments = ["--backend", "verilator", "--input", str(tmp_path / "x.npy"), "--trace", str(tmp_path / "t.json")]
    assert run([str(tmp_path / "prog"), *arguments]) == 0
    measured = json.loads((tmp_path / "t.json").read_text())
    predicted = json.loads(json.dumps(chrome_trace(program, timeline(program).trace, source="model")))
    assert form(measured) == form(predicted)
    assert (measured["otherData"]["source"], predicted["otherData"]["source"]) == ("rtl", "model")

    def times(document: dict[str, Any], cats: set[str]) -> list[tuple[Any, ...]]:
        events = [e for e in document["traceEvents"] if e.get("cat") in cats]
        return [(e["cat"], e["args"]["pc"], e["ts"], e["dur"]) for e in events]

    execs = {Queue.EXEC.name}
    assert times(measured, execs) == times(predicted, execs) != []
    waits = [e for e in measured["traceEvents"] if e.get("cat") == "wait"]
    assert {"waits for fetch", "waits for LOAD", "waits for EXEC"} <= {e["name"] for e in waits}


@pytest.mark.slow
@pytest.mark.parametrize("latency", [4, 64])
def test_profile_of_a_measured_run(program: Program, latency: int) -> None:
    memory = Memory(latency=latency)
    found = measure(program, "verilator", memory)
    on_rtl, by_model = profiled(program, measured=found.timeline), profiled(program, memory)
    assert on_rtl.timeline.cycles == found.counters["CYCLES"] == by_model.timeline.cycles
    assert on_rtl.layers == by_model.layers
    assert on_rtl.energy == by_model.energy


def test_a_backend_without_a_clock(program: Program) -> None:
    with pytest.raises(BackendError, match="iss"):
        measure(program, "iss")


@pytest.mark.slow
def test_profile_command_on_rtl(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(profile, "network_graph", lambda *_: graph)
    facts = []
    for backend in ("rtl", "model"):
        assert profile.main(["digits", "--preset", "tiny", "--backend", backend, "--json"]) == 0
        facts.append(json.loads(capsys.readouterr().out))
    assert [fact["source"] for fact in facts] == ["rtl", "model"]
    assert list(facts[0]) == list(facts[1])
    assert facts[0]["counters"]["CYCLES"] == facts[0]["cycles"] == facts[1]["cycles"]
    assert facts[0]["layers"] == facts[1]["layers"]
    assert sum(layer["cycles"] for layer in facts[0]["layers"]) + facts[0]["store"] == facts[0]["cycles"]
