"""Elementwise ONNX operators: numbers accumulate in a :class:`Piece`, tensors become layers, gates are recognised."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from sw.frontends.onnx_file import OnnxError, OnnxNode
from sw.frontends.onnx_layers import ChannelAffine, ChannelScale, Sum
from sw.frontends.onnx_values import Padded, Tail, Value
from sw.quant.piecewise import Piece, near

if TYPE_CHECKING:
    from sw.frontends.onnx_reader import Reader

__all__ = ["materialise", "pointwise_handlers"]


def materialise(reader: Reader, piece: Piece) -> str:
    """Emit what a piece still has to do; return the tensor of its values."""
    if piece.linear and piece.plain:
        # the factors cancelled: their nodes are part of what made the base
        if piece.base in reader.layers.layers:
            reader.layers.layers[piece.base].nodes += piece.nodes
        return piece.base
    if piece.linear:
        return _scaled(reader, piece.base, piece.slope, piece.offset, piece.nodes)
    if not piece.low < piece.high:
        raise OnnxError(f"node {piece.nodes[-1]!r}: the bounds {piece.low:g} and {piece.high:g} leave only a constant")
    height = piece.gate()
    if height is not None and near(height, 1.0):
        # torch's hardsigmoid(u) is clip(u / 6 + 1 / 2, 0, 1)
        source = _scaled(reader, piece.base, 6 * piece.slope, 6 * piece.offset - 3, piece.nodes, "_scale")
        result = reader.layers.emit(nn.Hardsigmoid(), [source], piece.nodes)
        reader.recognised("hsigmoid", result)
        return result
    source = _scaled(reader, piece.base, piece.slope, piece.offset, piece.nodes, "_scale")
    if near(piece.low, 0.0) and math.isinf(piece.high):
        return reader.layers.emit(nn.ReLU(), [source], piece.nodes)
    if near(piece.low, 0.0) and near(piece.high, 6.0):
        return reader.layers.emit(nn.ReLU6(), [source], piece.nodes)
    return reader.layers.emit(nn.Hardtanh(piece.low, piece.high), [source], piece.nodes)


def _scaled(reader: Reader, source: str, scale: float, offset: float, nodes: tuple[str, ...], suffix: str = "") -> str:
    if near(scale, 1.0) and near(offset, 0.0):
        return source
    channels = reader.layers.shapes[source][1]
    affine = ChannelAffine(np.full(channels, scale), np.full(channels, offset))
    return reader.layers.emit(affine, [source], nodes, suffix)


def _affine(reader: Reader, node: OnnxNode, value: Value, scale: np.ndarray, offset: np.ndarray) -> Value:
    """Return ``scale * value + offset`` for constants, one of which is a single 1 or 0."""
    shape = reader.shape(value)
    constant = max(scale, offset, key=lambda part: (part.size, part.ndim))
    fits = all(new in (1, old) for old, new in zip(shape[::-1], constant.shape[::-1], strict=False))
    node.check(
        fits and constant.ndim <= len(shape),
        f"a constant of shape {constant.shape} does not broadcast to the activation's shape {shape}",
    )
    node.check(bool(np.all(scale != 0)), "multiplies an activation by 0; remove it from the network")
    node.check(bool(np.all(np.isfinite(scale)) and np.all(np.isfinite(offset))), "a constant is not finite")
    if constant.size == 1:
        return reader.piece(node, value).affine(float(scale.item()), float(offset.item()), node.name)
    aligned = (1,) * (len(shape) - constant.ndim) + constant.shape
    node.check(
        aligned[1] == constant.size,
        f"a constant of shape {constant.shape} for an activation {shape}; only numbers and one value per channel "
        f"(1, C, 1, 1) can go into a convolution",
    )
    parts = [np.broadcast_to(part.reshape(-1), (shape[1],)).astype(np.float64) for part in (scale, offset)]
    source = reader.tensor(node, value)
    return Piece(reader.layers.emit(ChannelAffine(*parts), [source], [node.name]))


def _operands(reader: Reader, node: OnnxNode) -> tuple[Value, Value]:
    node.check(len(node.inputs) == 2, f"has {len(node.inputs)} operands; write it as a chain of two each")
    left, right = (reader.value(node, index) for index in range(2))
    for value, name in ((left, node.inputs[0]), (right, node.inputs[1])):
        if isinstance(value, Tail):
            first = value.steps[0]
            raise node.error(f"uses {name!r} of node {first.name!r} ({first.op}), which only the host can compute")
    return left, right


def _number(value: Value) -> np.ndarray | None:
    return None if isinstance(value, Piece | Padded | Tail) else np.asarray(value, dtype=np.float64)


_ONE, _ZERO = np.ones(1), np.zeros(1)


def _add(reader: Reader, node: OnnxNode) -> Value:
    left, right = _operands(reader, node)
    for value, other in ((left, right), (right, left)):
        constant = _number(other)
        if constant is not None:
            return _affine(reader, node, value, _ONE, constant)
    shapes = [reader.shape(value) for value in (left, right)]
    node.check(
        shapes[0] == shapes[1], f"adds {shapes[0]} and {shapes[1]}; only activations of one shape are added to another"
    )
    sources = [reader.tensor(node, value) for value in (left, right)]
    return Piece(reader.layers.emit(Sum(), sources, [node.name]))


def _sub(reader: Reader, node: OnnxNode) -> Value:
    left, right = _operands(reader, node)
    subtracted, from_ = _number(right), _number(left)
    if subtracted is not None:
        return _affine(reader, node, left, _ONE, -subtracted)
    if from_ is not None:
        # two steps, so that a constant per channel may stand in front
        return _affine(reader, node, _affine(reader, node, right, -_ONE, _ZERO), _ONE, from_)
    raise node.error("subtracts two activations; negate the weights of one branch and add")


def _neg(reader: Reader, node: OnnxNode) -> Value:
    return _affine(reader, node, reader.value(node, 0), -_ONE, _ZERO)


def _div(reader: Reader, node: OnnxNode) -> Value:
    left, right = _operands(reader, node)
    divisor = _number(right)
    if divisor is None:
        raise node.error("divides by an activation; there is no division hardware")
    node.check(bool(np.all(divisor != 0)), "divides by 0")
    return _affine(reader, node, left, 1 / divisor, _ZERO)


def _mul(reader: Reader, node: OnnxNode) -> Value:
    left, right = _operands(reader, node)
    for value, other in ((left, right), (right, left)):
        constant = _number(other)
        if constant is not None:
            return _affine(reader, node, value, constant, _ZERO)
    x, gate = reader.piece(node, left), reader.piece(node, right)
    shapes = [reader.shape(piece) for piece in (x, gate)]
    if x.base == gate.base:
        if gate.linear:
            x, gate = gate, x
        return _hswish(reader, node, x, gate)
    if shapes[0] != shapes[1] and shapes[1] == (*shapes[0][:2], *[1] * (len(shapes[0]) - 2)):
        return _channel_scale(reader, node, x, gate)
    if shapes[0] != shapes[1] and shapes[0] == (*shapes[1][:2], *[1] * (len(shapes[1]) - 2)):
        return _channel_scale(reader, node, gate, x)
    if shapes[0] == shapes[1] and len(shapes[0]) == 4 and shapes[0][2:] == (1, 1):
        # one pixel: which one is the gate does not show in the shapes
        first = x.gate() is not None or reader.is_gate(x.base)
        return _channel_scale(reader, node, *((gate, x) if first else (x, gate)))
    raise node.error(
        f"multiplies activations {shapes[0]} and {shapes[1]}; products are executed only for a gate per channel "
        f"(N, C, 1, 1), as in squeeze-and-excite, and for h-swish"
    )


def _hswish(reader: Reader, node: OnnxNode, x: Piece, gate: Piece) -> Value:
    """Recognise ``(p * u + q) * clip(a * u + b, 0, h)`` as a multiple of h-swish."""
    bounded = near(gate.low, 0.0) and 0 < gate.high < math.inf
    node.check(
        x.linear and bounded,
        "multiplies an activation by a function of itself that is no hard sigmoid; only h-swish, "
        "x * clip(a * x + 0.5, 0, 1), is such a product with hardware",
    )
    height = gate.high
    # with z = u + q / p, the product is p * h * z * clip(slope * z + middle, 0, 1)
    shift = x.offset / x.slope
    slope, middle = gate.slope / height, (gate.offset - gate.slope * shift) / height
    node.check(
        near(middle, 0.5) and slope > 0,
        f"multiplies x by clip({slope:.6g} * x + {middle:.6g}, 0, 1); h-swish has the form clip(a * x + 0.5, 0, 1) "
        f"with a > 0",
    )
    # torch's hardswish(v) is v * clip(v / 6 + 1 / 2, 0, 1)
    scale = 1.0 if near(6 * slope, 1.0) else 6 * slope
    nodes = (*x.nodes, *gate.nodes, node.name)
    source = _scaled(reader, x.base, scale, scale * shift, nodes, "_scale")
    result = reader.layers.emit(nn.Hardswish(), [source], nodes)
    reader.recognised("hswish", result)
    return Piece(result, x.slope * height / scale, nodes=(node.name,))


def _channel_scale(reader: Reader, node: OnnxNode, x: Piece, gate: Piece) -> Value:
    """Emit a product with a gate; factors of either that are plain numbers come behind it."""
    factor, height = 1.0, gate.gate()
    nodes: tuple[str, ...] = (node.name,)
    if height is not None:
        # the gate's layer keeps the name of its own last node
        factor, gate = height, dataclasses.replace(gate.affine(1 / height, 0.0, node.name), nodes=gate.nodes)
    if x.linear and near(x.offset, 0.0):
        factor, nodes, x = factor * x.slope, (*x.nodes, node.name), Piece(x.base)
    sources = [materialise(reader, x), materialise(reader, gate)]
    result = reader.layers.emit(ChannelScale(), sources, nodes)
    reader.recognised("channel_scale", result)
    return Piece(result, factor, nodes=(node.name,))


# --- bounds --------------------------------------------------------------------------------------------------------


def _relu(reader: Reader, node: OnnxNode) -> Value:
    return reader.piece(node, reader.value(node, 0)).clamp(0.0, math.inf, node.name)


def _clip(reader: Reader, node: OnnxNode) -> Value:
    ends = [-math.inf, math.inf]
    for index in (1, 2):
        if len(node.inputs) > index and node.inputs[index]:
            ends[index - 1] = float(_scalar(reader, node, index))
    # exporters write the largest float32 for "no bound"
    big = float(np.finfo(np.float32).max)
    low, high = (math.copysign(math.inf, end) if abs(end) >= big else end for end in ends)
    return reader.piece(node, reader.value(node, 0)).clamp(low, high, node.name)


def _scalar(reader: Reader, node: OnnxNode, index: int) -> float:
    constant = reader.constant(node, index)
    node.check(constant.size == 1, f"its bound {node.inputs[index]!r} has shape {constant.shape}, not one number")
    return float(constant.item())


def _bound(reader: Reader, node: OnnxNode) -> Value:
    values = [reader.value(node, index) for index in range(len(node.inputs))]
    tensors = [value for value in values if _number(value) is None]
    node.check(len(tensors) == 1, f"takes the {node.op.lower()} of activations; only bounds by numbers are executed")
    piece = reader.piece(node, tensors[0])
    for index, value in enumerate(values):
        if value is not tensors[0]:
            limit = _scalar(reader, node, index)
            ends = (-math.inf, limit) if node.op == "Min" else (limit, math.inf)
            piece = piece.clamp(*ends, node.name)
    return piece


def _hard_sigmoid(reader: Reader, node: OnnxNode) -> Value:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    node.check(alpha != 0, "alpha is 0: a constant")
    return reader.piece(node, reader.value(node, 0)).affine(alpha, beta, node.name).clamp(0.0, 1.0, node.name)


def _hard_swish(reader: Reader, node: OnnxNode) -> Value:
    source = reader.tensor(node, reader.value(node, 0))
    result = reader.layers.emit(nn.Hardswish(), [source], [node.name])
    reader.recognised("hswish", result)
    return Piece(result)


pointwise_handlers = {
    "Add": _add,
    "Sum": _add,
    "Sub": _sub,
    "Neg": _neg,
    "Mul": _mul,
    "Div": _div,
    "Relu": _relu,
    "Clip": _clip,
    "Min": _bound,
    "Max": _bound,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
}
"""Operator type to its reader."""
