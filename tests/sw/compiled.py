"""Compiles a graph, runs it on the simulator and compares every tensor with the references."""

from __future__ import annotations

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.program import Program
from sim.iss import IssBackend
from sw.compiler import compile_graph, optimise
from sw.compiler.ir import Graph
from sw.regions import read_tensor
from tests.sw.ir_reference import run_integer, run_real


def check(graph: Graph, config: AcceleratorConfig, inputs: dict[str, np.ndarray], *, lsb: int = 1) -> Program:
    """Compile with and without dumps, run both, compare every tensor in DRAM; return the program with dumps.

    The integers themselves are right: within `lsb` of real arithmetic, layer by layer.
    """
    fused = optimise(graph, config)
    want = run_integer(fused, config, inputs)
    for dump in (False, True):
        program = compile_graph(graph, config, dump_tensors=dump)
        result = IssBackend(config).run(program, inputs)
        regions = [np.frombuffer(region, np.uint8) for region in result.regions]
        for spec in program.tensors:
            np.testing.assert_array_equal(read_tensor(regions, spec), want[spec.name], err_msg=spec.name)
        for name in graph.outputs:
            np.testing.assert_array_equal(result.outputs[name], want[name])
    assert {spec.name for spec in program.tensors} == set(fused.tensors)
    for name, real in run_real(fused, inputs, want).items():
        assert np.abs(real.astype(int) - want[name]).max() <= lsb, name
    return program
