"""Comparison of the simulator with PyTorch's q/dq graph, layer by layer."""

from __future__ import annotations

import numpy as np
import torch
from torch.export import ExportedProgram

from hw.spec.config import PRESETS
from sim.iss import IssBackend
from sw.compiler import compile_graph
from sw.compiler.ir import Graph
from sw.regions import quantise_input, read_tensor


class Compare(torch.fx.Interpreter):
    """Runs a q/dq graph on the simulator's tensors: each layer's result is compared, then replaced."""

    def __init__(self, module: torch.fx.GraphModule, nodes: dict[str, str], values: dict[str, np.ndarray]) -> None:
        super().__init__(module)
        self.tensor_of = {node: tensor for tensor, node in nodes.items() if tensor in values}
        self.given = values
        self.worst: dict[str, int] = {}

    def run_node(self, n: torch.fx.Node):
        result = super().run_node(n)
        if n.name not in self.tensor_of:
            return result
        tensor = self.tensor_of[n.name]
        mine = torch.from_numpy(self.given[tensor].copy()).reshape(result.shape)
        assert result.dtype == torch.int8
        self.worst[tensor] = int((result.int() - mine.int()).abs().max())
        return mine


def compare(exported: ExportedProgram, graph: Graph, preset: str, picture: torch.Tensor) -> dict[str, int]:
    """Largest difference in LSB between simulator and PyTorch of every tensor in DRAM, layer by layer."""
    config = PRESETS[preset]
    program = compile_graph(graph, config, dump_tensors=True)
    (source,) = program.inputs
    value = quantise_input(source, picture.numpy().reshape(source.shape))
    result = IssBackend(config).run(program, {source.name: value})
    regions = [np.frombuffer(region, np.uint8) for region in result.regions]
    values = {spec.name: read_tensor(regions, spec) for spec in program.tensors}
    runner = Compare(exported.module(), graph.sources, values)
    with torch.no_grad():
        runner.run(picture[None])
    assert set(runner.worst) == {spec.name for spec in program.tensors} & set(graph.sources)
    return runner.worst


def agrees(exported: ExportedProgram, graph: Graph, data: torch.Tensor, preset: str = "tiny") -> None:
    """Check that the simulator's tensors are PyTorch's within 1 LSB per layer, for up to 3 inputs."""
    for picture in data[:3]:
        worst = compare(exported, graph, preset, picture)
        off = {tensor: value for tensor, value in worst.items() if value > 1}
        assert worst and not off
