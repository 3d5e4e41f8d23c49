"""Constants of a graph: parameters and buffers behind ``get_attr`` nodes."""

from __future__ import annotations

from torch import Tensor
from torch.fx import GraphModule, Node

__all__ = ["constant"]


def constant(model: GraphModule, node: Node) -> Tensor:
    """Return the tensor that a ``get_attr`` node reads; changing it in place changes the network."""
    value: object = model
    for part in str(node.target).split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)
    return value
