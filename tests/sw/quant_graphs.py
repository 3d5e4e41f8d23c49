"""Quantised graphs of small networks, and what is found in them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from sw.nn.fuse import FuSeConv2d
from sw.quant import quantise

aten = torch.ops.aten
Q = torch.ops.quantized_decomposed.quantize_per_tensor.default
DQ = torch.ops.quantized_decomposed.dequantize_per_tensor.default
DQ_WEIGHT = torch.ops.quantized_decomposed.dequantize_per_channel.default
MATMUL = (aten.conv2d.default, aten.linear.default)


def convert_graph(model: nn.Module, *shape: int, observer: str = "histogram", scale: float = 1.0) -> GraphModule:
    torch.manual_seed(0)
    example = torch.zeros(1, *shape)
    return quantise(model.eval(), (example,), [torch.randn(8, *shape) * scale for _ in range(2)], observer=observer)


def find(graph: GraphModule, target: object) -> list[Node]:
    return [node for node in graph.graph.nodes if node.op == "call_function" and node.target is target]


def only(graph: GraphModule, target: object) -> Node:
    (node,) = find(graph, target)
    return node


def parameters(node: Node) -> tuple[float, int]:
    """Scale and zero point of a q or dq node, which must have this hardware's range."""
    assert node.target in (Q, DQ) and tuple(node.args[3:]) == (-128, 127, torch.int8)
    return node.args[1], node.args[2]


def quantiser_of(node: Node) -> Node:
    """The one quantize node that a node's result goes into."""
    (user,) = node.users
    assert user.target is Q, f"{node} goes into {user}"
    return user


class Block(nn.Module):
    """Expand, FuSe or depthwise, project with shortcut, as an inverted residual."""

    def __init__(self, *, relu_after: bool = False, channels: int = 5) -> None:
        super().__init__()
        hidden = channels
        self.expand = nn.Sequential(nn.Conv2d(3, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6())
        self.fuse = FuSeConv2d(hidden, 3, activation=nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(hidden, 3, 1, bias=False), nn.BatchNorm2d(3))
        self.relu_after = relu_after

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.project(self.fuse(self.expand(x)))
        return F.relu(y) if self.relu_after else y
