"""Curves, channel gates, pooling windows and grouped convolutions: bit-exact on the simulator, and right in reals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Activation as Act
from hw.spec.isa import Mode, Opcode, ResidualOp, Target
from hw.spec.program import Program
from sw.compiler import CompileError, compile_graph, optimise
from sw.compiler.ir import Conv, Curve, MaxPool
from tests.sw.compiled import check
from tests.sw.ir_graphs import Builder

MICRO = AcceleratorConfig(rows=3, cols=5, act_kib=2, act_banks=2, weight_kib=1, param_entries=16, axi_data_width=64)
CONFIGS = {"tiny": PRESETS["tiny"], "tiny-plain": PRESETS["tiny"].twin(stos=False), "micro": MICRO}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
both_curves = pytest.mark.parametrize("curve", ["hswish", "hsigmoid"])


def executed(program: Program) -> list:
    return [instruction for instruction in program.instructions() if instruction.opcode == Opcode.EXEC]


@every_config
@both_curves
def test_curves_behind_every_kind_of_layer(config: AcceleratorConfig, curve: Curve) -> None:
    build = Builder(1, curve)
    x = build.conv(build.input((3, 11, 9)), 7, (3, 3), curve=curve)
    x = build.conv(x, 0, (3, 3), depthwise=True, curve=curve)
    x = build.conv(x, 8, curve=curve)
    y = build.linear(build.pool(x), 12, curve)
    program = check(build.graph(build.linear(y, 5), x), config, build.values())
    wanted = Act.HSWISH if curve == "hswish" else Act.NONE
    assert {i["act"] for i in executed(program) if not i["gap"]} >= {wanted}
    assert any(i["act"] for i in executed(program)) == (curve == "hswish")


@every_config
@both_curves
def test_curves_by_themselves(config: AcceleratorConfig, curve: Curve) -> None:
    build = Builder(2, curve)
    x = build.conv(build.input((5, 13, 9)), 6, (3, 3))
    # values from -6 to 6, in steps too coarse to add 3 in
    build.tensors[x] = dataclasses.replace(build.tensors[x], scale=0.047)
    program = check(build.graph(build.activation(x, curve)), config, build.values())
    assert program.layers[-1].kind == "activation" and program.layers[-1].macs == 0


@both_curves
@pytest.mark.parametrize("seed", range(4))
def test_curves_after_a_residual(curve: Curve, seed: int) -> None:
    build = Builder(seed, curve)
    x = build.conv(build.input((4, 9, 8)), 6, curve=curve)
    check(build.graph(build.conv(x, 6, (3, 3), curve=curve, residual=x)), MICRO, build.values(), lsb=2)


@both_curves
def test_pooling_of_a_curve_is_fused(curve: Curve) -> None:
    build = Builder(4)
    program = check(
        build.graph(build.pool(build.conv(build.input((4, 6, 5)), 9, curve=curve))), PRESETS["tiny"], build.values()
    )
    assert len(program.layers) == 1 and executed(program)[0]["gap"]


@both_curves
def test_every_byte_through_a_curve(curve: Curve) -> None:
    """All 256 values of the input, several scales and zero points, within one LSB of PyTorch's curve."""
    for scale in (0.004, 0.02, 0.05, 0.3):
        for seed in range(3):
            build = Builder(seed)
            x = build.input((1, 16, 16))
            build.tensors[x] = dataclasses.replace(build.tensors[x], scale=scale)
            graph = build.graph(build.activation(x, curve))
            ramp = np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16)
            check(graph, PRESETS["tiny"], {x: ramp})


@every_config
@pytest.mark.parametrize("alone", [False, True], ids=["fused", "alone"])
@pytest.mark.parametrize("curve", [None, "hswish"])
def test_squeeze_and_excite(config: AcceleratorConfig, alone: bool, curve: Curve | None) -> None:
    build = Builder(5, "se")
    x = build.conv(build.input((3, 13, 11)), 13, (3, 3), curve="hswish")
    x = build.gate(x, 5, alone=alone, curve=curve)
    graph = build.graph(build.conv(x, 4))
    program = check(graph, config, build.values())
    scaled = [i for i in executed(program) if i["res"] == ResidualOp.SCALE]
    assert scaled and all(i["mode"] == Mode.VEC for i in scaled)
    assert [layer.kind for layer in program.layers].count("scale") == 1
    assert all(i["act"] == (Act.NONE if curve is None else Act.HSWISH) for i in scaled)
    if config is MICRO:
        assert len(scaled) > 1 and len({i["res_base"] for i in scaled}) > 1, "strips and groups"


def test_a_gate_that_lies_in_dram_is_loaded_once() -> None:
    """With a scratchpad too small for anything to stay, in channel groups and strips of lines."""
    build = Builder(6)
    x, gate = build.input((40, 23, 31), "x"), build.input((40, 1, 1), "gate")
    program = check(build.graph(build.scale(x, gate)), MICRO.twin(act_kib=1, act_banks=1), build.values())
    stream = program.instructions()
    loads = [i for i in stream if i.opcode == Opcode.LOAD and i["target"] == Target.ACT and i["row_bytes"] == 40]
    groups = {i["res_base"] - loads[0]["mem_addr"] for i in executed(program)}
    assert len(loads) == 1 and len(groups) >= 3 and max(groups) < 40
    assert len(executed(program)) > 2 * len(groups)


def test_a_gate_inside_a_larger_tensor() -> None:
    build = Builder(7)
    x = build.conv(build.input((3, 5, 7)), 6)
    gates = build.conv(build.pool(x), 15, curve="hsigmoid")
    y = build.scale(x, build.slice(gates, 7, 13))
    check(build.graph(build.scale(y, build.slice(gates, 2, 8)), gates), MICRO, build.values())


def test_a_gate_of_a_single_pixel_map_may_be_the_map() -> None:
    build = Builder(8)
    x = build.input((9, 1, 1))
    check(build.graph(build.scale(x, x)), MICRO, build.values())


@every_config
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0)),
        ((3, 3), (2, 2), (1, 1, 1, 1)),
        ((3, 3), (2, 2), (0, 0, 1, 1)),
        ((3, 2), (1, 1), (2, 1, 0, 1)),
        ((1, 1), (1, 1), (0, 0, 0, 0)),
        ((1, 1), (3, 2), (0, 0, 0, 0)),
        ((7, 5), (4, 1), (3, 2, 3, 2)),
    ],
    ids=str,
)
def test_maximum_and_mean_of_windows(config: AcceleratorConfig, kernel: tuple, stride: tuple, padding: tuple) -> None:
    for factor in (1.0, 0.7):
        build = Builder(9, "pool")
        x = build.input((7, 13, 15))
        graph = build.graph(
            build.window(x, kernel, stride, padding, factor=factor),
            build.window(x, kernel, stride, padding, mean=True, factor=factor),
        )
        program = check(graph, config, build.values())
        assert [layer.kind for layer in program.layers] == ["max_pool", "avg_pool"]
        assert program.macs == 0


def test_padding_is_never_the_maximum() -> None:
    build = Builder(10)
    x = build.input((2, 3, 3))
    graph = build.graph(build.window(x, (3, 3), (1, 1), (1, 1, 1, 1)))
    values = {x: np.full((2, 3, 3), -120, np.int8)}
    assert graph["layer0"].zero_point > -120
    program = check(graph, PRESETS["tiny"], values)
    assert executed(program)[0]["in_zp"] == -128 and executed(program)[0]["mode"] == Mode.MAX


def test_a_maximum_larger_than_the_scratchpad_runs_in_strips() -> None:
    build = Builder(11)
    x = build.window(build.input((3, 45, 40)), (3, 3), (2, 2), (1, 1, 1, 1))
    program = check(build.graph(x), MICRO, build.values())
    assert len(executed(program)) > 3 and MICRO.act_bytes < 3 * 45 * 40


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "message"),
    [
        ((9, 9), (1, 1), (0, 0, 0, 0), "kernel 9x9 is larger than max_kernel=7"),
        ((3, 3), (3, 3), (0, 0, 0, 0), "stride 3 along x"),
        ((3, 3), (2, 2), (3, 0, 0, 0), "leaves windows without any pixel"),
    ],
)
def test_windows_beyond_the_hardware_are_refused(kernel: tuple, stride: tuple, padding: tuple, message: str) -> None:
    build = Builder(12)
    graph = build.graph(build.window(build.conv(build.input((2, 20, 20)), 3), kernel, stride, padding))
    with pytest.raises(CompileError, match=f"layer layer1: .*{message}"):
        compile_graph(graph, PRESETS["tiny"])
    assert isinstance(graph.ops[-1], MaxPool)


@every_config
@pytest.mark.parametrize(("cin", "cout", "groups"), [(6, 10, 2), (9, 3, 3), (5, 15, 5)])
def test_grouped_convolutions(config: AcceleratorConfig, cin: int, cout: int, groups: int) -> None:
    build = Builder(13, "grouped")
    x = build.conv(build.input((3, 9, 8)), cin)
    y = build.conv(x, cout, (3, 3), (1, 2), groups=groups, curve="hswish" if cin == 6 else None)
    z = build.add(y, build.conv(y, cout, groups=groups if cin != cout else 1))
    graph = build.graph(build.pool(z))
    added = sum(op.residual is not None for op in optimise(graph, config).ops if isinstance(op, Conv))
    assert added == (1 if cout == groups else groups)  # one filter per channel stays as it is
    program = check(graph, config, build.values())
    assert program.macs == sum(
        build.tensors[op.output].size * op.weight[0].size for op in build.ops if isinstance(op, Conv)
    )


@every_config
def test_grouped_convolutions_pool_their_parts(config: AcceleratorConfig) -> None:
    build = Builder(14, "grouped")
    graph = build.graph(build.pool(build.conv(build.input((6, 9, 8)), 10, (3, 3), groups=2)))
    assert [op.pooled is not None for op in optimise(graph, config).ops if isinstance(op, Conv)] == [True, True]
    check(graph, config, build.values())
