"""The first EXEC in pieces of lines: the same bytes moved and computed, each piece with what it reads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hw.spec.config import PRESETS
from hw.spec.isa import Opcode, Target
from sim.iss import IssBackend
from sw.compiler import compile_graph, optimise
from sw.compiler.arrival import split_first
from sw.compiler.emit import emit
from sw.compiler.ir import Graph
from sw.compiler.lower import lower
from sw.compiler.plan import plan
from sw.compiler.steps import Span, Step
from sw.model.timeline import timeline
from sw.regions import read_tensor
from tests.sw.ir_graphs import Builder
from tests.sw.ir_reference import run_integer

CONFIG = PRESETS["edge8"]


def _graph(size: int = 33, kernel: int = 3, stride: int = 2, channels: int = 3) -> Graph:
    build = Builder(7)
    x = build.conv(build.input((channels, size, size + 4)), 12, (kernel, kernel), (stride, stride))
    return build.graph(build.conv(x, 8, (1, 1)))


def _steps(graph: Graph) -> list[Step]:
    graph = optimise(graph, CONFIG)
    kernels, views = lower(graph, CONFIG)
    return emit(plan(graph, kernels, views, CONFIG), CONFIG)[0]


def _bytes(spans: list[Span], memory: Target | None = None) -> set[tuple[tuple[str, int], int]]:
    return {
        (span.key, span.base + i * span.stride + j)
        for span in spans
        if memory is None or span.memory == memory
        for i in range(span.count)
        for j in range(span.length)
    }


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 2, 33), (3, 1, 20), (5, 2, 40), (7, 2, 50), (1, 2, 30)])
def test_pieces_load_and_compute_the_same(kernel: int, stride: int, size: int) -> None:
    before = _steps(_graph(size, kernel, stride))
    after = split_first(before)
    whole = next(step for step in before if step.opcode == Opcode.EXEC)
    cut = [step for step in after if step.opcode == Opcode.EXEC and step["kh"] == kernel and step["cin"] == 3]
    assert len(cut) > 2 and sum(step["out_h"] for step in cut) == whole["out_h"]
    assert _bytes([span for step in cut for span in step.writes]) == _bytes(whole.writes)
    for one, two in itertools.combinations(cut, 2):
        assert not _bytes(one.writes) & _bytes(two.writes)

    loads = [[step for step in steps if step.opcode == Opcode.LOAD and step.blob is None] for steps in (before, after)]
    moved = [sum(load["rows"] * load["row_bytes"] for load in part) for part in loads]
    assert moved[0] == moved[1]
    assert _bytes([s for load in loads[0] for s in load.writes]) == _bytes(
        [s for load in loads[1] for s in load.writes]
    )
    there: set[tuple[tuple[str, int], int]] = set()
    for step in after:
        if step.opcode == Opcode.LOAD:
            there |= _bytes(step.writes)
        elif step in cut:
            assert _bytes(step.reads, Target.ACT) <= there
    # the first piece waits for little
    first = after.index(cut[0])
    early = sum(s["rows"] * s["row_bytes"] for s in after[:first] if s.opcode == Opcode.LOAD and s.blob is None)
    assert early < moved[0] / 3


@pytest.mark.parametrize("stride", [1, 2])
def test_results_are_the_same_and_earlier(stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = _graph(47, 3, stride)
    program = compile_graph(graph, CONFIG)
    (spec,) = program.inputs
    inputs = {spec.name: np.random.default_rng(1).integers(-128, 128, spec.shape, np.int8)}
    result = IssBackend(CONFIG).run(program, inputs)
    want = run_integer(optimise(graph, CONFIG), CONFIG, inputs)
    for spec in program.outputs:
        np.testing.assert_array_equal(read_tensor(result.regions, spec), want[spec.name])
    monkeypatch.setattr("sw.compiler.driver.split_first", list)
    assert timeline(program).cycles < timeline(compile_graph(graph, CONFIG)).cycles - 200


def test_other_forms_stay_as_they_are() -> None:
    build = Builder(0)
    flat = build.graph(build.conv(build.input((16, 20, 20)), 8, (1, 1)))
    small = _graph(4, 3, 2)
    for graph in (flat, small):
        steps = _steps(graph)
        assert split_first(steps) == steps
    assert split_first([]) == []
