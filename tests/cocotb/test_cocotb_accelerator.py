"""Whole accelerator in cocotb, with random AXI back-pressure, against PyTorch, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.numerics import NUMERICS
from hw.spec.program import Program
from sim.backend import ExecutionError
from sim.broken_programs import broken_programs
from sim.cocotb.backend import CocotbBackend
from sim.random_programs import random_inputs
from sim.verilator.toolchain import ToolchainError
from sw.compiler import compile_graph, optimise
from sw.compiler.ir import Conv, Graph
from sw.compiler.lower import lower
from sw.nn.fuse import Variant
from tests.cocotb.torch_reference import fuse_conv
from tests.sw.ir_graphs import Builder
from tests.sw.ir_reference import run_integer

SMALL = {"act_kib": 32, "act_banks": 2, "weight_kib": 8, "param_entries": 256, "axi_data_width": 64}
CONFIGS = {
    "tiny": PRESETS["tiny"],
    "6x10": AcceleratorConfig(rows=6, cols=10, max_kernel=5, reset_low=True, **SMALL),
    "plain": AcceleratorConfig(rows=5, cols=4, stos=False, pipeline_mac=True, **SMALL),
}

pytestmark = pytest.mark.slow
every_config = pytest.mark.parametrize("name", CONFIGS)


def run(config: AcceleratorConfig, program: Program, values: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    result = CocotbBackend(config, stall_probability=0.2, seed=seed).run(program, values)
    assert result.counters["INSTRUCTIONS"] == program.instruction_count
    return result.outputs


def fuse_layer(graph: Graph, config: AcceleratorConfig, x: np.ndarray, variant: Variant, stride: int) -> np.ndarray:
    """The layer by PyTorch's FuSeConv module: sums of both branches in one tensor, then requantised."""
    row, column = (op for op in graph.ops if isinstance(op, Conv))
    kernels = {kernel.name: kernel for kernel in lower(graph, config)[0]}
    centred = x.astype(np.int64) - graph["x"].zero_point
    acc = fuse_conv(centred, row.weight[:, 0, 0, :], column.weight[:, 0, :, 0], variant=variant, stride=stride)
    parts = np.split(acc, [len(row.weight)])
    made = []
    for op, part in zip((row, column), parts, strict=True):
        bias = np.rint(op.bias / (graph["x"].scale * op.weight_scale)).astype(np.int64)
        stage = kernels[op.name].stage
        made.append(
            NUMERICS.output(
                part + bias.reshape(-1, 1, 1),
                0,
                stage.mult.reshape(-1, 1, 1),
                stage.shift.reshape(-1, 1, 1),
                out_zp=stage.out_zp,
                q_lo=stage.q_lo,
                q_hi=stage.q_hi,
                post_shift=stage.post_shift,
            )
        )
    return np.concatenate(made)


@every_config
@pytest.mark.parametrize(("variant", "stride"), [("half", 1), ("full", 2)])
def test_fuse_layer(name: str, variant: Variant, stride: int) -> None:
    config = CONFIGS[name]
    build = Builder(seed=stride)
    x = build.input((5, 7, 11))
    y = build.fuse(x, 5, (stride, stride), full=variant == "full")
    graph = optimise(build.graph(y), config)
    values = build.values()
    expected = fuse_layer(graph, config, values["x"], variant, stride)
    got = run(config, compile_graph(graph, config), values, seed=1)[y]
    assert np.array_equal(got, expected)
    assert len(np.unique(got)) > 50, "the layer must use the output range"


@every_config
def test_every_kind_of_layer(name: str) -> None:
    """Row and column filters of both strides, depthwise, 3x3, pointwise, residual: all outputs of one program."""
    config = CONFIGS[name]
    build = Builder(seed=3)
    x = build.input((6, 6, 9))
    outputs = [
        build.conv(x, 0, kernel, stride, depthwise=True)
        for kernel in ((1, 3), (5, 1), (3, 3))
        for stride in ((1, 1), (2, 2))
    ]
    outputs.append(build.conv(x, 5, (3, 3), (2, 2)))
    pointwise = build.conv(x, 6)
    outputs += [pointwise, build.add(x, build.conv(pointwise, 6, clamp=(-50, 90)))]
    outputs.append(build.conv(x, 4, (3, 3)))
    graph = optimise(build.graph(*outputs), config)
    values = build.values()
    expected = run_integer(graph, config, values)
    got = run(config, compile_graph(graph, config), values, seed=2)
    assert set(got) == set(graph.outputs)
    for output in graph.outputs:
        assert np.array_equal(got[output], expected[output]), output


@every_config
def test_error_reaches_the_registers(name: str) -> None:
    config = CONFIGS[name]
    broken = next(item for item in broken_programs(config) if item.cause == ErrorCause.MEM_RANGE)
    with pytest.raises(ExecutionError) as caught:
        CocotbBackend(config).run(broken.program, random_inputs(broken.program, 0))
    assert (caught.value.cause, caught.value.pc) == (broken.cause, broken.pc)


def test_options_of_the_other_backend_are_refused() -> None:
    with pytest.raises(ToolchainError, match="the cocotb backend has no option latency, waves"):
        CocotbBackend(PRESETS["tiny"], latency=3, waves="w.fst")
