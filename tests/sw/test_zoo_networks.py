"""Every kind of network of the zoo, small and untrained, from its name to the simulator's bytes.

MobileNetV2 and EfficientNet-Lite0 go the same way in test_zoo_compile.py.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from sw.compiler.ir import Activation, ChannelScale, Conv, Graph, Linear, MaxPool
from sw.frontends.torch_export import import_program
from sw.nn import zoo
from sw.quant import export_program, quantise
from tests.sw.qdq import agrees

torch.set_num_threads(1)

RESOLUTION = 32

NETWORKS: dict[str, dict[str, int]] = {
    "mobilenet_v1": {},
    "mobilenet_v3_small": {"hswish": 19, "hsigmoid": 9, "gates": 9},
    "mobilenet_v3_large:fuse_half": {"hswish": 25, "hsigmoid": 8, "gates": 8},
    "mnasnet_b1": {},
    "efficientnet_edgetpu_s": {},
    "resnet50": {"max": 1},
}
"""Network to what its graph must hold beside convolutions; everything else must be 0."""


def spread(network: nn.Module) -> nn.Module:
    """Give an untrained network activations and logits of a trained one's size, so that rounding is seen."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.6)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, (2 / module.in_features) ** 0.5)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(16, 3, RESOLUTION, RESOLUTION))  # statistics of the normalisation
    return network.eval()


def found(graph: Graph) -> dict[str, int]:
    curves = Counter(op.kind if isinstance(op, Activation) else getattr(op, "curve", None) for op in graph.ops)
    kinds = Counter(type(op) for op in graph.ops)
    counts = {"hswish": curves["hswish"], "hsigmoid": curves["hsigmoid"], "gates": kinds[ChannelScale]}
    assert not any(isinstance(op, Activation) and op.kind == "hsigmoid" for op in graph.ops)
    assert kinds[Conv] and kinds[Linear]
    return {name: count for name, count in {**counts, "max": kinds[MaxPool]}.items() if count}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_agrees_with_pytorch_within_one_lsb_per_layer(name: str) -> None:
    torch.manual_seed(0)
    network = spread(zoo.create(name, width=0.5, resolution=RESOLUTION, classes=20))
    data = torch.randn(8, 3, RESOLUTION, RESOLUTION)
    exported = export_program(quantise(network, (data[:1],), [data], observer="minmax"), (data[:1],))
    graph = import_program(exported, name=name)
    assert found(graph) == NETWORKS[name]
    agrees(exported, graph, data[:1], "edge16")
