"""Rewrites of an exported graph that make more of it quantisable; none changes what the graph computes."""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Collection
from typing import Any

import torch
from torch.fx import GraphModule, Node

from sw.quant.arguments import pair

__all__ = [
    "copied",
    "free_batch",
    "hoist_activations",
    "normalise_operators",
    "normalise_pools",
    "remove_dropout",
    "remove_whole_slices",
]

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
    aten.sub_.Tensor: aten.sub.Tensor,
    aten.div_.Tensor: aten.div.Tensor,
    aten.concat.default: aten.cat.default,
    aten.concatenate.default: aten.cat.default,
}
_POOLS = (aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default)
_RESHAPES = (aten.view.default, aten.reshape.default, aten._unsafe_view.default)
_MAX_POOL = aten.max_pool2d.default
_RELU6 = (aten.relu6.default, aten.relu6_.default)
_CLAMP = (aten.clamp.default, aten.clamp_.default)
_END = 2**63 - 1  # "to the end" in an exported slice


def copied(model: GraphModule) -> GraphModule:
    """Return a graph and its tensors once more, without the warning that torch gives about its own way to copy one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return copy.deepcopy(model)


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
            if bounds == (0, None):
                node.target, node.args = aten.relu.default, node.args[:1]
                continue
            if any(not isinstance(bound, int | float) for bound in bounds):
                continue
            node.args = (node.args[0], *bounds)
        node.target = _SYNONYMS[node.target]
    model.recompile()


def normalise_pools(model: GraphModule) -> None:
    """Write average pooling one way: of the whole map as ``adaptive_avg_pool2d(x, (1, 1))``, else ``avg_pool2d``.

    An adaptive size that divides the map's is a window without overlap.
    """
    for node in model.graph.nodes:
        if node.op != "call_function" or node.target not in _POOLS:
            continue
        size = tuple(node.args[0].meta["val"].shape[2:])
        if node.target is aten.avg_pool2d.default:
            whole = tuple(pair(node.args[1])) == size and not any(pair((node.args[3:4] or (0,))[0]))
            if whole and len(node.args) < 7:
                node.target, node.args = aten.adaptive_avg_pool2d.default, (node.args[0], [1, 1])
        elif list(node.args[1]) != [1, 1] and all(
            isinstance(want, int) and have % want == 0 for have, want in zip(size, node.args[1], strict=True)
        ):
            window = [have // want for have, want in zip(size, node.args[1], strict=True)]
            node.target, node.args = aten.avg_pool2d.default, (node.args[0], window, window)
    model.recompile()


def free_batch(model: GraphModule) -> None:
    """Write -1 for the batch axis in reshapes that keep it, so that sizes do not depend on the batch."""
    for node in list(model.graph.nodes):
        if node.op != "call_function" or node.target not in _RESHAPES:
            continue
        before, after = node.args[0].meta["val"].shape, node.meta["val"].shape
        if after and str(before[0]) == str(after[0]) and all(isinstance(size, int) for size in after[1:]):
            node.args = (node.args[0], [-1, *after[1:]])
    for node in reversed(model.graph.nodes):
        if node.op == "call_function" and node.target is aten.sym_size.int and not node.users:
            model.graph.erase_node(node)
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
    model: GraphModule,
    clamps: Collection[Any],
    curves: Collection[Any],
    concats: Collection[Any],
    producers: Collection[Any],
) -> None:
    """Move an elementwise activation from behind a concatenation to its inputs, and a clamp from behind max pooling.

    Done where the concatenation or pooling has no other user and each input is a producer used once, so that each
    activation then fuses with its producer: convolutions, concatenation, ReLU6 becomes two convolutions with ReLU6 and
    a concatenation.  Clamps are monotone, so that the clamp of a maximum is the maximum of the clamped.
    """
    graph = model.graph
    for node in list(graph.nodes):
        if node.op != "call_function" or (node.target not in clamps and node.target not in curves):
            continue
        mover = node.args[0]
        movable = mover.op == "call_function" and len(mover.users) == 1
        pooling = mover.target is _MAX_POOL and node.target in clamps
        if not movable or not (mover.target in concats or pooling):
            continue
        inputs: list[Node] = [mover.args[0]] if pooling else list(mover.args[0])
        if any(source.target not in producers or len(source.users) != 1 for source in inputs):
            continue
        moved = []
        for source in inputs:
            with graph.inserting_after(source):
                activation = graph.call_function(node.target, (source, *node.args[1:]), dict(node.kwargs))
            activation.meta = {**node.meta, "val": source.meta.get("val")}
            moved.append(activation)
        mover.update_arg(0, moved[0] if pooling else moved)
        node.replace_all_uses_with(mover)
        graph.erase_node(node)
    model.recompile()
