"""Random networks on the simulator, every tensor bit for bit against torch's integers.

``ROWCAST_NETWORKS`` sets their number; ``nox -s networks`` runs 300.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from hw.spec.config import AcceleratorConfig
from sim.iss import IssBackend
from sw.compiler import CompileError, optimise
from sw.compiler.ir import Activation, AvgPool, ChannelScale, Conv, Linear, MaxPool
from sw.regions import read_tensor
from tests.sw.ir_graphs import Builder
from tests.sw.ir_reference import run_integer, run_real
from tests.sw.random_networks import CONFIGS, RandomNetwork, compile_in_smallest, networks_for, random_network

COUNT = int(os.environ.get("ROWCAST_NETWORKS", "60"))


def run(network: RandomNetwork, config: AcceleratorConfig, *, dump: bool) -> None:
    """Compare every tensor that reaches DRAM; the simulator also checks the tokens and overlaps."""
    program = compile_in_smallest(network.graph, config, dump_tensors=dump)
    fused = optimise(network.graph, program.config)
    want = run_integer(fused, program.config, network.inputs)
    result = IssBackend(program.config).run(program, network.inputs)
    assert set(result.outputs) == set(network.graph.outputs)
    for spec in program.tensors:
        np.testing.assert_array_equal(read_tensor(result.regions, spec), want[spec.name], err_msg=spec.name)
    if dump:
        assert {spec.name for spec in program.tensors} == set(fused.tensors)
        # and the integers are right: one LSB of real arithmetic, layer by layer
        for name, real in run_real(fused, network.inputs, want).items():
            assert np.abs(real.astype(int) - want[name]).max() <= 1, name


@pytest.mark.parametrize("seed", range(COUNT))
def test_random_network(seed: int) -> None:
    """On two configurations: as it would run, and with every tensor stored."""
    network, configs = random_network(seed), list(CONFIGS.values())
    run(network, configs[seed % len(configs)], dump=False)
    run(network, configs[(seed + 1 + seed // len(configs) % (len(configs) - 1)) % len(configs)], dump=True)


def test_the_networks_are_what_they_are_meant_to_be() -> None:
    graphs = [random_network(seed).graph for seed in range(60)]
    ops = [op for graph in graphs for op in graph.ops]
    convs = [op for op in ops if isinstance(op, Conv)]
    assert {type(op) for op in ops} >= {Activation, AvgPool, ChannelScale, Linear, MaxPool}
    assert {op.curve for op in ops if isinstance(op, Conv | Linear)} == {None, "hswish", "hsigmoid"}
    assert {size for op in convs for size in op.kernel} == set(range(1, 8))
    assert {op.stride for op in convs} >= {(1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (4, 1)}
    assert {1 < op.groups < op.weight.shape[0] for op in convs} == {False, True}
    inputs = [graph["x"].shape for graph in graphs]
    assert min(inputs)[1:] == (1, 1) and any(shape[1:] == (224, 224) for shape in inputs)
    assert sum(height != width for _, height, width in inputs) > 30


def test_growth_stops_at_errors_that_memory_does_not_cure() -> None:
    build = Builder(0)
    graph = build.graph(build.conv(build.input((2, 20, 20)), 2, (9, 9)))
    with pytest.raises(CompileError, match="max_kernel"):
        compile_in_smallest(graph, CONFIGS["tiny"])


def test_networks_for_one_accelerator_fit_it_and_its_simulation_time() -> None:
    config = CONFIGS["tiny"]
    found = list(networks_for(config, 10, macs=50_000))
    assert [program.config for _, program in found] == [config] * 10
    assert len({network.graph.name for network, _ in found}) == 10
    assert max(program.macs for _, program in found) <= 50_000
    assert all(len(program.tensors) >= len(network.graph.ops) for network, program in found)
    with pytest.raises(ValueError, match="only 0 of 40 networks fit the configuration and 0 MACs, not 2"):
        list(networks_for(config, 2, macs=0))
