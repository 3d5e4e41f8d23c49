"""Recognition of h-swish and h-sigmoid written with additions, clamps and products of numbers."""

from __future__ import annotations

import math

import torch
from torch.fx import GraphModule, Node

from sw.quant.piecewise import Piece, near

__all__ = ["recognise_curves"]

aten = torch.ops.aten


def recognise_curves(model: GraphModule) -> None:
    """Write ``x * relu6(x + 3) / 6``, ``clamp(x / 6 + 0.5, 0, 1)`` and their like as hardswish and hardsigmoid.

    Expects the operators of :func:`sw.quant.rewrite.normalise_operators`.  Every elementwise function of one operand
    and numbers is followed as a :class:`~sw.quant.piecewise.Piece`; where one comes to a curve, it is replaced.  Other
    slopes and offsets stay as they are written.
    """
    pieces: dict[Node, Piece[Node]] = {}
    for node in list(model.graph.nodes):
        if node.op != "call_function":
            continue
        piece = _product(model, node, pieces) if node.target is aten.mul.Tensor else _function(node, pieces)
        if piece is None:
            continue
        replacement = _curve(model, node, piece)
        pieces[node] = piece
        if replacement is not None:
            node.replace_all_uses_with(replacement)
            pieces.setdefault(replacement, piece)
    for node in reversed(pieces):
        if not node.users:
            model.graph.erase_node(node)
    model.recompile()


def _piece(node: Node, pieces: dict[Node, Piece[Node]]) -> Piece[Node]:
    return pieces.get(node, Piece(node))


def _function(node: Node, pieces: dict[Node, Piece[Node]]) -> Piece[Node] | None:
    """Return a function of one operand and numbers as a piece, None for other operators."""
    if len(node.all_input_nodes) != 1 or node.kwargs or not isinstance(node.args[0], Node):
        return None
    source, numbers = _piece(node.args[0], pieces), node.args[1:]
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        return None
    if node.target is aten.hardsigmoid.default:
        return source.affine(1 / 6, 0.5).clamp(0.0, 1.0)
    if node.target is aten.relu.default:
        return source.clamp(0.0, math.inf)
    if node.target is aten.hardtanh.default:
        low, high = (*numbers, *(-1.0, 1.0)[len(numbers) :])
        return source.clamp(float(low), float(high))
    if len(numbers) != 1:
        return None
    number = float(numbers[0])
    if node.target is aten.add.Tensor:
        return source.affine(1.0, number)
    if node.target is aten.sub.Tensor:
        return source.affine(1.0, -number)
    if node.target is aten.div.Tensor and number:
        return source.affine(1 / number, 0.0)
    return None


def _product(model: GraphModule, node: Node, pieces: dict[Node, Piece[Node]]) -> Piece[Node] | None:
    """Return a product with a number, of a value with its own gate, or of a map with a gate as a piece."""
    operands = node.args[:2]
    numbers = [operand for operand in operands if not isinstance(operand, Node)]
    if numbers:
        value = next(operand for operand in operands if isinstance(operand, Node))
        number = numbers[0]
        usable = isinstance(number, int | float) and math.isfinite(number) and number != 0
        return _piece(value, pieces).affine(float(number), 0.0) if usable else None
    for source, other in (operands, operands[::-1]):
        factor, gate = _piece(source, pieces), _piece(other, pieces)
        height = gate.gate()
        if height is None or not near(6 * gate.slope / height, 1.0):
            continue
        if factor.linear and near(factor.offset, 0.0) and factor.base is gate.base:
            made = _call(model, node, aten.hardswish.default, gate.base)
            pieces[made] = Piece(made)
            return Piece(made, factor.slope * height)
        if gate.base is not factor.base and not near(height, 1.0):
            sigmoid = _call(model, node, aten.hardsigmoid.default, gate.base)
            made = _call(model, node, aten.mul.Tensor, source, sigmoid)
            pieces.update({sigmoid: Piece(sigmoid), made: Piece(made)})
            return Piece(made, height)
    return None


def _curve(model: GraphModule, node: Node, piece: Piece[Node]) -> Node | None:
    """Return what a node can be replaced with: a curve or product made here, or a new hardsigmoid."""
    if piece.linear and piece.plain and piece.base.target in (aten.hardswish.default, aten.mul.Tensor):
        return piece.base
    height = piece.gate()
    sigmoid = height is not None and near(height, 1.0) and near(6 * piece.slope, 1.0)
    if sigmoid and node.target is not aten.hardsigmoid.default:
        return _call(model, node, aten.hardsigmoid.default, piece.base)
    return None


def _call(model: GraphModule, node: Node, target: object, *args: Node) -> Node:
    """Insert a call in front of `node`, with its place in the source and the shape of its result."""
    with model.graph.inserting_before(node):
        made = model.graph.call_function(target, args)
    shape = args[0] if target is not aten.mul.Tensor else node
    made.meta = {**node.meta, "val": shape.meta.get("val")}
    return made
