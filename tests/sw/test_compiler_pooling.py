"""Pooling beside a map: which kernels do it, where the bytes go, and when a pass of its own is left."""

from __future__ import annotations

import pytest

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Opcode, ResidualOp
from hw.spec.program import Program
from sw.compiler import compile_graph
from sw.compiler.lower import lower
from sw.compiler.pooling import pool_beside
from sw.model.profile import profile
from tests.sw.compiled import check
from tests.sw.ir_graphs import Builder

SIZES = {"act_kib": 32, "act_banks": 2, "weight_kib": 8, "param_entries": 256, "axi_data_width": 64}
CONFIG = AcceleratorConfig(rows=4, cols=8, **SIZES)


def execs(program: Program) -> list[Instruction]:
    return [item for item in program.instructions() if item.opcode == Opcode.EXEC]


def pooling(program: Program) -> list[tuple[int, int]]:
    """Return first byte and number of the pooled bytes beside maps."""
    return [(item["res_base"], item["cout"]) for item in execs(program) if item["res"] == ResidualOp.POOL]


@pytest.mark.parametrize("cols", [8, 24])
def test_both_halves_of_a_concatenation_pool_their_channels(cols: int) -> None:
    """The bytes of the two kernels lie one after the other, and none of the layers is a pass for pooling."""
    build = Builder(3)
    x = build.conv(build.input((4, 7, 7)), 12)
    graph = build.graph(build.gate(build.fuse(x, 3), 5))
    program = check(graph, AcceleratorConfig(rows=4, cols=cols, **SIZES), build.values())
    (first, count), (second, rest) = pooling(program)
    assert (second, count, rest) == (first + 6, 6, 6)
    assert "pool" not in {layer.kind for layer in program.layers}


def test_pooling_costs_nothing_of_its_own() -> None:
    build = Builder(4)
    x = build.fuse(build.input((16, 14, 14)), 3)
    gated, plain = build.graph(build.gate(x, 4)), Builder(4)
    y = plain.fuse(plain.input((16, 14, 14)), 3)
    alone = plain.graph(y)
    layers = profile(compile_graph(gated, CONFIG)).layers
    cycles = [sum(layer.cycles for layer in layers if layer.kind.startswith("fuse"))]
    cycles.append(sum(layer.cycles for layer in profile(compile_graph(alone, CONFIG)).layers if "fuse" in layer.kind))
    assert cycles[0] - cycles[1] < 100  # a pass over the map reads 16 * 25 vectors


def test_groups_of_channels_pool_for_themselves() -> None:
    """Weights of one block of channels at a time are on chip: every EXEC writes the bytes of its channels."""
    build = Builder(5)
    x = build.conv(build.input((60, 6, 6)), 48)
    graph = build.graph(build.gate(x, 3))
    program = check(graph, AcceleratorConfig(rows=4, cols=8, **{**SIZES, "weight_kib": 1}), build.values())
    places = pooling(program)
    assert len(places) > 1
    assert [base for base, _ in places] == [places[0][0] + sum(n for _, n in places[:i]) for i in range(len(places))]
    assert sum(count for _, count in places) == 48


@pytest.mark.parametrize("elsewhere", [False, True])
def test_pooled_bytes_leave_the_accelerator(elsewhere: bool) -> None:
    """As a network output, pooled bytes are stored; a map that nothing else reads is not written at all."""
    build = Builder(6)
    x = build.conv(build.input((5, 9, 9)), 11)
    pooled = build.pool(x)
    outputs = (pooled, build.activation(x, "hswish")) if elsewhere else (pooled,)
    program = check(build.graph(*outputs), CONFIG, build.values())
    assert len(pooling(program)) == elsewhere
    assert [item["gap"] for item in execs(program)] == [1, 0][: len(outputs)]


def test_kernels_that_cannot_pool() -> None:
    """With a second operand, with a pooling of their own before, or in strips they leave it to a pass."""
    build = Builder(7)
    x = build.input((6, 8, 8))
    y = build.conv(x, 6, residual=x)
    made = build.conv(x, 6)
    twice = build.pool(made), build.pool(made)
    graph = build.graph(build.pool(y), y, *twice, made)
    kernels, _ = lower(graph, CONFIG)
    found = pool_beside(kernels, range(len(kernels)))
    assert [k.kind for k in found].count("pool") == 2
    assert [k.name for k in found if k.beside is not None] == [k.name for k in kernels if k.target.storage == made]
    assert pool_beside(kernels, ()) == kernels


def test_maps_too_large_for_the_chip_take_a_pass() -> None:
    build = Builder(8)
    x = build.fuse(build.conv(build.input((3, 30, 30)), 40), 3)
    graph = build.graph(build.conv(build.gate(x, 4), 3))
    program = check(graph, AcceleratorConfig(rows=4, cols=8, **{**SIZES, "act_kib": 16}), build.values())
    assert "pool" in {layer.kind for layer in program.layers}
