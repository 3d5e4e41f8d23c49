"""EXECs cut in two: the pieces make up the whole, overlap, and compute the same bytes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Mode, Opcode, Target
from sw.compiler import compile_graph, optimise
from sw.compiler.emit import emit
from sw.compiler.ir import Graph
from sw.compiler.lower import lower
from sw.compiler.packing import pack
from sw.compiler.plan import plan
from sw.compiler.steps import Span, Step
from sw.compiler.tokens import overlaps
from sw.compiler.turns import take_turns
from tests.sw.compiled import check
from tests.sw.ir_graphs import Builder

CONFIG = PRESETS["tiny"]
WIDE = AcceleratorConfig(rows=4, cols=24, act_kib=64, act_banks=2, weight_kib=16, param_entries=256, axi_data_width=64)


def _chain(size: tuple[int, int] = (9, 11)) -> Graph:
    """Three pointwise layers, the last one with a residual."""
    build = Builder(3)
    x = build.conv(build.input((5, *size)), 14)
    y = build.conv(x, 9)
    return build.graph(build.add(build.conv(y, 14), x))


def _rows() -> Graph:
    """A row convolution between pointwise layers."""
    build = Builder(4)
    x = build.conv(build.input((7, 12, 8)), 8)
    return build.graph(build.conv(build.conv(x, 0, (1, 3), depthwise=True), 12))


def _seven() -> Graph:
    """Pointwise layers on packed 7x7 maps."""
    build = Builder(5)
    x = build.conv(build.input((6, 7, 7)), 40)
    x = build.conv(build.fuse(x, 3), 24)
    x = build.conv(build.conv(x, 40), 24)
    return build.graph(build.linear(build.pool(x), 9))


def _steps(graph: Graph, config: AcceleratorConfig) -> list[Step]:
    graph = optimise(graph, config)
    made = pack(graph, *lower(graph, config), config)
    return emit(plan(made.graph, made.kernels, made.views, config), config)[0]


def _execs(steps: list[Step]) -> list[Step]:
    return [step for step in steps if step.opcode == Opcode.EXEC]


def _bytes(spans: list[Span]) -> set[int]:
    return {
        span.base + i * span.stride + j
        for span in spans
        if span.memory == Target.ACT
        for i in range(span.count)
        for j in range(span.length)
    }


@pytest.mark.parametrize(("graph", "config"), [(_chain(), CONFIG), (_rows(), CONFIG), (_seven(), WIDE)])
def test_pieces_make_up_the_whole(graph: Graph, config: AcceleratorConfig) -> None:
    before = _steps(graph, config)
    after = take_turns(before, config)
    assert len(_execs(after)) > len(_execs(before))
    assert [step for step in after if step.opcode != Opcode.EXEC] == [
        step for step in before if step.opcode != Opcode.EXEC
    ]
    pieces = iter(_execs(after))
    for whole in _execs(before):
        mine, pixels = [], 0
        while pixels < whole["out_h"] * whole["out_w"]:
            mine.append(next(pieces))
            pixels += mine[-1]["out_h"] * mine[-1]["out_w"]
        assert pixels == whole["out_h"] * whole["out_w"]
        assert set().union(*(_bytes(piece.writes) for piece in mine)) == _bytes(whole.writes)
        assert set().union(*(_bytes(piece.reads) for piece in mine)) <= _bytes(whole.reads)
        for one, two in itertools.combinations(mine, 2):
            assert not _bytes(one.writes) & _bytes(two.writes)
    assert next(pieces, None) is None


@pytest.mark.parametrize(("graph", "config"), [(_chain(), CONFIG), (_rows(), CONFIG), (_seven(), WIDE)])
def test_fewer_execs_wait(graph: Graph, config: AcceleratorConfig) -> None:
    before = _steps(graph, config)
    after = take_turns(before, config)

    def waiting(steps: list[Step]) -> int:
        flags = [flag for flag, step in zip(overlaps(steps), steps, strict=True) if step.opcode == Opcode.EXEC]
        return flags.count(0)

    assert waiting(after) < waiting(before)


def test_tiles_stay_whole() -> None:
    """Pixels are cut where a tile ends, so that no further tile is needed."""
    cut = [step for step in _execs(take_turns(_steps(_chain(), CONFIG), CONFIG)) if step["out_h"] == 1]
    starts = [step for step in cut if step["out_w"] < 99]
    assert starts
    total = sum(-(-step["out_w"] // CONFIG.cols) for step in cut)
    assert total == 3 * -(-99 // CONFIG.cols)


def test_short_execs_stay_whole() -> None:
    """Pieces too short to hide a drain would only add instructions."""
    build = Builder(6)
    x = build.conv(build.input((2, 2, 4)), 3)
    steps = _steps(build.graph(build.conv(x, 2)), PRESETS["edge16"])
    assert len(_execs(take_turns(steps, PRESETS["edge16"]))) == len(_execs(steps)) == 2


def test_missing_segments_stay_at_the_end() -> None:
    steps = [step for step in _execs(_steps(_seven(), WIDE)) if step["seg_missing"] and step["mode"] == Mode.GEMM]
    cut = [step for step in _execs(take_turns(_steps(_seven(), WIDE), WIDE)) if step["seg"]]
    assert steps
    assert sum(step["seg_missing"] for step in cut if step["mode"] == Mode.GEMM) == sum(
        step["seg_missing"] for step in steps
    )


@pytest.mark.parametrize(("graph", "config"), [(_chain(), CONFIG), (_rows(), CONFIG), (_seven(), WIDE)])
def test_the_same_bytes(graph: Graph, config: AcceleratorConfig) -> None:
    shape = graph[graph.inputs[0]].shape
    inputs = {graph.inputs[0]: np.random.default_rng(1).integers(-128, 128, shape, dtype=np.int8)}
    check(graph, config, inputs)
    assert any(i["overlap"] for i in compile_graph(graph, config).instructions() if i.opcode == Opcode.EXEC)
