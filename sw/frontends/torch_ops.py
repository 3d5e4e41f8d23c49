"""How each aten operator is read: operands are values of :mod:`sw.frontends.values`, and so is the result."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.fx import Node

from sw.compiler.errors import CompileError, check
from sw.compiler.ir import Curve, Reshape, Slice
from sw.frontends.torch_pooling import POOLING
from sw.frontends.values import (
    Gated,
    Joined,
    Matmul,
    Padded,
    Pending,
    QuantConstant,
    Real,
    Sum,
    Value,
    bounded,
    curved,
)
from sw.quant.arguments import arguments, pair
from sw.quant.needs import need

if TYPE_CHECKING:
    from sw.frontends.torch_export import Importer

__all__ = ["HANDLERS"]

Handler = Callable[["Importer", Node], Value]


def _bias(importer: Importer, node: Any) -> npt.NDArray[np.float64] | None:
    if node is None:
        return None
    value = importer.values[node]
    if isinstance(value, QuantConstant):
        return value.data * value.scale
    assert isinstance(value, torch.Tensor)
    return value.detach().cpu().double().numpy()


def _weight(importer: Importer, node: Any, layer: str) -> QuantConstant:
    value = importer.values[node]
    check(isinstance(value, QuantConstant), layer, "its weight is no quantised constant; quantise with sw.quant")
    assert isinstance(value, QuantConstant)
    return value


def _conv(importer: Importer, node: Node) -> Value:
    layer = importer.layer(node)
    source, weight, bias, stride, padding, dilation, groups = arguments(
        node, "input weight bias stride padding dilation groups", stride=1, padding=0, dilation=1, groups=1
    )
    check(pair(dilation) == (1, 1), layer, f"dilation {dilation}: taps must be neighbours; use dilation 1")
    check(not isinstance(padding, str), layer, f"padding={padding!r}; give numbers")
    quantised = _weight(importer, weight, layer)
    check(quantised.data.ndim == 4, layer, f"its weight is {quantised.data.shape}; only 2-D convolutions run")
    value = importer.values[source]
    zeros = isinstance(value, Padded) and value.value == 0
    outer = value.padding if zeros else (0, 0, 0, 0)
    tensor = value.tensor if zeros else importer.tensor_of(source, layer)
    return Matmul(
        layer=layer,
        source=tensor,
        weight=quantised,
        bias=_bias(importer, bias),
        conv=True,
        stride=pair(stride),
        padding=tuple(more + own for more, own in zip(outer, pair(padding) * 2, strict=True)),
        groups=int(groups),
    )


def _convolution(importer: Importer, node: Node) -> Value:
    transposed = arguments(node, "input weight bias stride padding dilation transposed output_padding groups")[6]
    check(not transposed, importer.layer(node), need("aten.conv_transpose2d"))
    original = node.args
    try:
        # the arguments of conv2d are the same, without the two of transposed convolutions
        node.args = (*original[:6], original[8])
        return _conv(importer, node)
    finally:
        node.args = original


def _linear(importer: Importer, node: Node) -> Value:
    layer = importer.layer(node)
    source, weight, bias = arguments(node, "input weight bias")
    tensor = importer.tensor_of(source, layer)
    quantised = _weight(importer, weight, layer)
    shape = importer.tensors[tensor].shape
    check(
        shape[1:] == (1, 1) and shape[0] == quantised.data.shape[1],
        layer,
        f"a linear layer of {quantised.data.shape[1]} inputs over {shape}; flatten the input first",
    )
    return Matmul(layer=layer, source=tensor, weight=quantised, bias=_bias(importer, bias), conv=False)


def _pad(importer: Importer, node: Node) -> Value:
    layer = importer.layer(node)
    source, pads, mode, number = arguments(node, "input pad mode value", mode="constant")
    number = 0.0 if number is None else float(number)
    check(
        mode == "constant" and number in (0, -math.inf),
        layer,
        f"pads in mode {mode!r} with {number}; {need('aten.pad')}",
    )
    check(
        len(pads) in (2, 4) and min(pads) >= 0,
        layer,
        f"pads by {list(pads)}; only lines and pixels can be padded, by 0 or more",
    )
    left, right, top, bottom = (*pads, 0, 0)[:4]
    return Padded(importer.tensor_of(source, layer), (top, left, bottom, right), number)


def _clamp_to(low: float, high: float) -> Handler:
    def handler(importer: Importer, node: Node) -> Value:
        return _bound(importer, node, low, high)

    return handler


def _bound(importer: Importer, node: Node, low: float | None, high: float | None) -> Value:
    layer = importer.layer(node)
    value = importer.values[node.all_input_nodes[0]]
    bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    result = bounded(value, bounds, layer)
    if result is None:
        raise CompileError(layer, "a clamp on this value needs a quantize in front of it; quantise with sw.quant")
    return result


def _hardtanh(importer: Importer, node: Node) -> Value:
    _, low, high = arguments(node, "input min_val max_val", min_val=-1.0, max_val=1.0)
    return _bound(importer, node, low, high)


def _clamp(importer: Importer, node: Node) -> Value:
    _, low, high = arguments(node, "input min max")
    return _bound(importer, node, low, high)


def _curve(kind: Curve) -> Handler:
    def handler(importer: Importer, node: Node) -> Value:
        layer = importer.layer(node)
        result = curved(importer.values[node.all_input_nodes[0]], kind, layer)
        if result is None:
            raise CompileError(layer, f"{kind} of this value needs a quantize in front of it; quantise with sw.quant")
        return result

    return handler


def _mul(importer: Importer, node: Node) -> Value:
    layer = importer.layer(node)
    left, right = node.args
    # the gate is the operand of one pixel
    pixels = {operand: importer.tensors[importer.tensor_of(operand, layer)].plane for operand in (left, right)}
    source, gate = (left, right) if pixels[right] == 1 else (right, left)
    names = [importer.tensor_of(operand, layer) for operand in (source, gate)]
    shapes = [importer.tensors[name].shape for name in names]
    check(shapes[1] == (shapes[0][0], 1, 1), layer, f"multiplies {shapes[0]} by {shapes[1]}; {need('aten.mul')}")
    return Gated(layer, *names)


def _add(importer: Importer, node: Node) -> Value:
    layer = importer.layer(node)
    left, right, alpha = arguments(node, "input other alpha", alpha=1)
    tensors = isinstance(left, Node) and isinstance(right, Node)
    check(tensors, layer, "adds a number; fold it into a bias")
    check(alpha == 1, layer, f"alpha={alpha}; only a plain sum is executed")
    values = [importer.values[operand] for operand in (left, right)]
    reals = [value for value in values if isinstance(value, Real)]
    if len(reals) == 2:
        shapes = [importer.tensors[value.tensor].shape for value in reals]
        check(shapes[0] == shapes[1], layer, f"adds {shapes[0]} and {shapes[1]}; broadcasting is not executed")
        return Sum(layer, reals[0].tensor, reals[1].tensor)
    others = [value for value in values if isinstance(value, Matmul)]
    if len(reals) == len(others) == 1 and others[0].residual is None and others[0].linear:
        fields = {**others[0].__dict__, "residual": reals[0].tensor}
        return Matmul(**fields)
    raise CompileError(layer, "the summands must be int8, or one of them a plain convolution; quantise with sw.quant")


def _cat(importer: Importer, node: Node) -> Value:
    layer = importer.layer(node)
    nodes, axis = arguments(node, "tensors dim", dim=0)
    check(axis in (1, -3), layer, f"concatenates along axis {axis}; only channels (axis 1) are supported")
    parts = tuple(importer.values[part] for part in nodes)
    check(all(isinstance(part, Real | Pending) for part in parts), layer, "a part is no activation")
    return Joined(layer, parts)


def _slice(importer: Importer, node: Node) -> Value:
    layer = importer.layer(node)
    _, axis, start, stop, step = arguments(node, "input dim start end step", dim=0, start=0, step=1)
    tensor = importer.tensor_of(node.args[0], layer)
    channels, *rest = importer.tensors[tensor].shape
    if axis == 0:
        return Real(tensor)
    check(axis in (1, -3) and step == 1, layer, f"slices axis {axis} with step {step}; only channels (axis 1), step 1")
    first, last, _ = slice(start, stop).indices(channels)
    if (first, last) == (0, channels):
        return Real(tensor)
    check(first < last, layer, f"channels {first} to {last} are none")
    return importer.view(layer, Slice, tensor, (last - first, *rest), start=first, stop=last)


def _narrow(importer: Importer, node: Node) -> Value:
    layer = importer.layer(node)
    _, axis, start, length = arguments(node, "input dim start length")
    check(axis in (1, -3), layer, f"narrows axis {axis}; only channels (axis 1)")
    tensor = importer.tensor_of(node.args[0], layer)
    _, *rest = importer.tensors[tensor].shape
    return importer.view(layer, Slice, tensor, (length, *rest), start=start, stop=start + length)


def _pieces(importer: Importer, node: Node, sizes: Callable[[int], list[int]], axis: int) -> Value:
    layer = importer.layer(node)
    check(axis in (1, -3), layer, f"splits axis {axis}; only channels (axis 1)")
    tensor = importer.tensor_of(node.args[0], layer)
    channels, *rest = importer.tensors[tensor].shape
    parts, start = [], 0
    for size in sizes(channels):
        parts.append(importer.view(layer, Slice, tensor, (size, *rest), start=start, stop=start + size))
        start += size
    return tuple(parts)


def _equal(channels: int, size: int) -> list[int]:
    return [min(size, channels - start) for start in range(0, channels, size)]


def _chunk(importer: Importer, node: Node) -> Value:
    _, count, axis = arguments(node, "input chunks dim", dim=0)
    return _pieces(importer, node, lambda channels: _equal(channels, -(-channels // count)), axis)


def _split(importer: Importer, node: Node) -> Value:
    _, size, axis = arguments(node, "input split_size dim", dim=0)
    return _pieces(importer, node, lambda channels: _equal(channels, size), axis)


def _split_with_sizes(importer: Importer, node: Node) -> Value:
    _, sizes, axis = arguments(node, "input split_sizes dim", dim=0)
    return _pieces(importer, node, lambda _: list(sizes), axis)


def _getitem(importer: Importer, node: Node) -> Value:
    parts, index = node.args
    assert isinstance(parts, Node)
    value = importer.values[parts]
    check(isinstance(value, tuple), importer.layer(node), "indexes something that is no list of activations")
    assert isinstance(value, tuple) and isinstance(index, int)
    return value[index]


def _reshape(importer: Importer, node: Node) -> Value:
    layer = importer.layer(node)
    tensor = importer.tensor_of(node.args[0], layer)
    meta = node.meta.get("val")
    check(meta is not None, layer, "the result's shape is unknown; pass torch.export's ExportedProgram")
    sizes = [int(size) if not isinstance(size, torch.SymInt) else -1 for size in meta.shape][1:]
    shape = (*sizes, 1, 1) if len(sizes) == 1 else tuple(sizes)
    check(len(shape) == 3 and min(shape) > 0, layer, f"reshapes to {tuple(meta.shape)}; only (1, F) or (1, C, H, W)")
    check(
        math.prod(shape) == importer.tensors[tensor].size, layer, f"{tuple(meta.shape)} mixes the batch with other axes"
    )
    if shape == importer.tensors[tensor].shape:
        return Real(tensor)
    return importer.view(layer, Reshape, tensor, shape)


def _same(importer: Importer, node: Node) -> Value:
    return importer.values[node.all_input_nodes[0]]


def _dropout(importer: Importer, node: Node) -> Value:
    check(not node.args[2], importer.layer(node), "dropout in training mode; call eval() before export")
    return _same(importer, node)


HANDLERS: dict[str, Handler] = {
    "conv2d": _conv,
    "convolution": _convolution,
    "linear": _linear,
    "pad": _pad,
    "relu": _clamp_to(0.0, math.inf),
    "relu6": _clamp_to(0.0, 6.0),
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "hardswish": _curve("hswish"),
    "hardsigmoid": _curve("hsigmoid"),
    "add": _add,
    "mul": _mul,
    "cat": _cat,
    **POOLING,
    "slice": _slice,
    "narrow": _narrow,
    "chunk": _chunk,
    "split": _split,
    "split_with_sizes": _split_with_sizes,
    "getitem": _getitem,
    "flatten": _reshape,
    "view": _reshape,
    "_unsafe_view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "contiguous": _same,
    "clone": _same,
    "alias": _same,
    "detach": _same,
    "dropout": _dropout,
}
"""Operator name without namespace, overload and in-place underscore to its reader."""
