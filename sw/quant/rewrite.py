"""Rewrites of an exported graph that make more of it quantisable; none changes what the graph computes."""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch
from torch.fx import GraphModule, Node

__all__ = ["hoist_activations", "normalise_operators", "remove_dropout", "remove_whole_slices"]

aten = torch.ops.aten
_DROPOUT = (aten.dropout.default, aten.feature_dropout.default)
_SYNONYMS = {
    aten.relu_.default: aten.relu.default,
    aten.relu6.default: aten.hardtanh.default,
    aten.relu6_.default: aten.hardtanh.default,
    aten.hardtanh_.default: aten.hardtanh.default,
    aten.clamp.default: aten.hardtanh.default,
    aten.clamp_.default: aten.hardtanh.default,
    aten.hardswish_.default: aten.hardswish.default,
    aten.hardsigmoid_.default: aten.hardsigmoid.default,
    aten.mul_.Tensor: aten.mul.Tensor,
    aten.add_.Tensor: aten.add.Tensor,
    aten.concat.default: aten.cat.default,
    aten.concatenate.default: aten.cat.default,
}
_RELU6 = (aten.relu6.default, aten.relu6_.default)
_CLAMP = (aten.clamp.default, aten.clamp_.default)
_END = 2**63 - 1  # "to the end" in an exported slice


def _writes_through_a_view(node: Node) -> bool:
    """Whether an in-place operation may change tensors other than its operand's own later uses.

    The exporter makes later uses of the operand refer to the operation's result; only views escape that.
    """
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return False
    operand = node.args[0]
    assert isinstance(operand, Node)
    aliased = [operand, *(user for user in operand.users if user is not node)]
    return any(
        other.op == "call_function" and (getattr(other.target, "is_view", False) or other.target is operator.getitem)
        for other in aliased
    )


def normalise_operators(model: GraphModule) -> None:
    """Write synonyms one way: no in-place operators; ReLU6 and two-sided clamps are ``hardtanh(x, low, high)``.

    An in-place operation on a view stays as it is (and the quantizer then refuses it).
    """
    for node in model.graph.nodes:
        if node.op != "call_function" or node.target not in _SYNONYMS or _writes_through_a_view(node):
            continue
        if node.target in _RELU6:
            node.args = (node.args[0], 0.0, 6.0)
        if node.target in _CLAMP:
            bounds = (*node.args[1:], None, None)[:2]
            if any(not isinstance(bound, int | float) for bound in bounds):
                continue
            node.args = (node.args[0], *bounds)
        node.target = _SYNONYMS[node.target]
    model.recompile()


def remove_dropout(model: GraphModule) -> None:
    """Remove dropout exported in evaluation mode, where it is the identity."""
    for node in list(model.graph.nodes):
        if node.op == "call_function" and node.target in _DROPOUT and not node.args[2]:
            node.replace_all_uses_with(node.args[0])
            model.graph.erase_node(node)
    model.recompile()


def remove_whole_slices(model: GraphModule) -> None:
    """Remove slices that take everything, such as the batch axis's in ``x[:, :8]``."""
    for node in list(model.graph.nodes):
        if node.op == "call_function" and node.target is aten.slice.Tensor:
            given = node.args[2:]
            start, end, step = (*given, *(None, None, 1)[len(given) :])
            if start in (None, 0) and end in (None, _END) and step == 1:
                node.replace_all_uses_with(node.args[0])
                model.graph.erase_node(node)
    model.recompile()


def hoist_activations(
    model: GraphModule, clamps: Collection[Any], concats: Collection[Any], producers: Collection[Any]
) -> None:
    """Move an elementwise clamp from behind a concatenation to each of its inputs.

    Done where the concatenation has no other user and each input is a producer used once, so that each clamp then
    fuses with its producer: convolutions, concatenation, ReLU6 becomes two convolutions with ReLU6 and a
    concatenation.
    """
    graph = model.graph
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target not in clamps:
            continue
        concat = node.args[0]
        if concat.op != "call_function" or concat.target not in concats or len(concat.users) != 1:
            continue
        inputs: list[Node] = list(concat.args[0])
        if any(source.target not in producers or len(source.users) != 1 for source in inputs):
            continue
        clamped = []
        for source in inputs:
            with graph.inserting_after(source):
                clamp = graph.call_function(node.target, (source, *node.args[1:]), dict(node.kwargs))
            clamp.meta = {**node.meta, "val": source.meta.get("val")}
            clamped.append(clamp)
        concat.update_arg(0, clamped)
        node.replace_all_uses_with(concat)
        graph.erase_node(node)
    model.recompile()
