"""Fusion and views: what is fused, what is not, and that results stay within one LSB."""

from __future__ import annotations

import dataclasses

import numpy as np

from sw.compiler.fuse import fuse_pool, fuse_residual
from sw.compiler.ir import Add, Conv, GlobalAvgPool, Requantise
from sw.compiler.validate import validate
from sw.compiler.views import View, insert_copies, resolve_views
from tests.sw.ir_graphs import Builder
from tests.sw.ir_reference import run_real


def _residual() -> Builder:
    build = Builder(5)
    x = build.conv(build.input((4, 9, 9)), 6)
    build.add(x, build.conv(x, 6, (3, 3)), clamp=(-100, 90))
    return build


def test_addition_moves_into_the_later_convolution() -> None:
    build = _residual()
    graph = build.graph("layer2")
    fused = fuse_residual(graph)
    validate(fused)
    conv = fused.ops[-1]
    assert isinstance(conv, Conv) and conv.residual == "layer0" and conv.clamp == (-100, 90) and len(fused.ops) == 2
    inputs = build.values()
    values = run_real(graph, inputs)
    plain, joined, inner = values["layer2"], run_real(fused, inputs)["layer2"], values["layer1"]
    # where the convolution's own int8 result is at its bound, only the fused sum is right
    differ = np.abs(plain.astype(int) - joined)[(inner > -128) & (inner < 127)]
    assert differ.max() <= 1 and differ.size > 0.9 * plain.size and len(np.unique(plain)) > 60


def test_addition_stays_where_fusing_would_change_the_result() -> None:
    build = _residual()
    # another reader, an output, a clamp of its own, a coarse scale
    assert any(isinstance(op, Add) for op in fuse_residual(build.graph("layer2", "layer1")).ops)
    for changes in ({"linear": False}, {"clamp": (0, 127)}, {"pooled": None, "residual": "layer0"}):
        other = _residual()
        other.ops[1] = dataclasses.replace(other.ops[1], **changes)
        assert any(isinstance(op, Add) for op in fuse_residual(other.graph("layer2")).ops), changes
    coarse = _residual()
    made = coarse.tensors["layer2"]
    coarse.tensors["layer1"] = dataclasses.replace(coarse.tensors["layer1"], scale=made.scale * 2.5)
    assert any(isinstance(op, Add) for op in fuse_residual(coarse.graph("layer2")).ops)
    twice = _residual()
    twice.ops[2] = dataclasses.replace(twice.ops[2], other="layer0")
    assert any(isinstance(op, Add) for op in fuse_residual(twice.graph("layer2")).ops)


def test_pool_moves_into_the_convolution_if_it_fits() -> None:
    build = Builder(6)
    build.pool(build.conv(build.input((4, 9, 9)), 6))
    graph = build.graph("layer1")
    fused = fuse_pool(graph, 1024)
    validate(fused)
    conv = fused.ops[0]
    assert len(fused.ops) == 1 and isinstance(conv, Conv) and conv.pooled == build.tensors["layer0"]
    inputs = build.values()
    assert np.array_equal(run_real(graph, inputs)["layer1"], run_real(fused, inputs)["layer1"])
    assert any(isinstance(op, GlobalAvgPool) for op in fuse_pool(graph, 300).ops)
    assert any(isinstance(op, GlobalAvgPool) for op in fuse_pool(build.graph("layer1", "layer0"), 1024).ops)


def test_fuse_halves_lie_inside_the_concatenated_tensor() -> None:
    build = Builder(7)
    made = build.fuse(build.input((6, 5, 7)), 3)
    graph = insert_copies(build.graph(made))
    assert [op.name for op in graph.ops] == [op.name for op in build.ops]
    views = resolve_views(graph)
    row, column = build.ops[2].output, build.ops[3].output
    assert views[row] == View(made, 0, (3, 5, 7)) and views[column] == View(made, 3 * 35, (3, 5, 7))
    assert views[build.ops[1].output] == View("x", 3 * 35, (3, 5, 7))


def test_parts_that_cannot_be_written_in_place_are_copied() -> None:
    build = Builder(8)
    x = build.input((6, 5, 7))
    y = build.conv(x, 6, like="x")
    made = build.concat(x, build.slice(y, 1, 4), y, y)
    graph = insert_copies(build.graph(made))
    validate(graph)
    copies = [op for op in graph.ops if isinstance(op, Requantise)]
    # the input, the slice, and the second use of y
    assert [op.input for op in copies] == [x, "layer1", y]
    inputs = build.values()
    assert np.array_equal(run_real(graph, inputs)[made], run_real(build.graph(made), inputs)[made])


def test_an_output_that_is_a_view_of_the_input_is_copied() -> None:
    build = Builder(9)
    made = build.slice(build.input((6, 5, 7)), 2, 4)
    graph = insert_copies(build.graph(made))
    assert graph.outputs == (f"{made}.output",) and isinstance(graph.ops[-1], Requantise)
