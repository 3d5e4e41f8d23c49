"""ONNX operators with weights or windows, those without effect and those left to the host: how each is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from sw.frontends.onnx_file import OnnxNode
from sw.frontends.onnx_layers import ChannelAffine
from sw.frontends.onnx_pointwise import pointwise_handlers
from sw.frontends.onnx_values import HostStep, Padded, Tail, Value
from sw.frontends.onnx_views import ints, map_shape, view_handlers
from sw.quant.piecewise import Piece

if TYPE_CHECKING:
    from sw.frontends.onnx_reader import Reader

__all__ = ["HANDLERS"]

Result = Value | tuple[Value, ...]
Handler = Callable[["Reader", OnnxNode], Result]
Pads = tuple[int, int, int, int]


def _window(node: OnnxNode, size: Sequence[int], kernel: Sequence[int]) -> tuple[tuple[int, int], Pads]:
    """Return strides and pads (top, left, bottom, right) of a convolution or pooling; `kernel` includes dilation."""
    sy, sx = node.attributes.get("strides", (1, 1))
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto == "NOTSET":
        top, left, bottom, right = node.attributes.get("pads", (0, 0, 0, 0))
        node.check(min(top, left, bottom, right) >= 0, "negative pads; cut the input on the host")
        return (sy, sx), (top, left, bottom, right)
    if auto == "VALID":
        return (sy, sx), (0, 0, 0, 0)
    node.check(auto in ("SAME_UPPER", "SAME_LOWER"), f"auto_pad={auto!r} is unknown")
    begins, ends = [], []
    for length, taps, stride in zip(size, kernel, (sy, sx), strict=True):
        total = max((math.ceil(length / stride) - 1) * stride + taps - length, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if auto == "SAME_UPPER" else large)
        ends.append(large if auto == "SAME_UPPER" else small)
    return (sy, sx), (begins[0], begins[1], ends[0], ends[1])


def _pad_layer(reader: Reader, source: str, pads: Pads, node: OnnxNode) -> str:
    top, left, bottom, right = pads
    return reader.layers.emit(nn.ZeroPad2d((left, right, top, bottom)), [source], [node.name], "_pad")


def _conv(reader: Reader, node: OnnxNode) -> Value:
    value = reader.value(node, 0)
    extra: Pads = (0, 0, 0, 0)
    nodes = [node.name]
    if isinstance(value, Padded):
        extra, nodes, value = value.pads, [*value.nodes, node.name], Piece(value.base)
    _, channels, height, width = map_shape(reader, node, value)
    weight = reader.constant(node, 1).astype(np.float32)
    node.check(weight.ndim == 4, f"its weight has shape {weight.shape}; only 2-D convolutions are executed")
    bias = reader.constant(node, 2).astype(np.float32) if len(node.inputs) > 2 and node.inputs[2] else None
    groups, dilation = node.attributes.get("group", 1), tuple(node.attributes.get("dilations", (1, 1)))
    cout, per_group, kh, kw = weight.shape
    node.check(
        per_group * groups == channels and cout % groups == 0,
        f"its weight {weight.shape} with group={groups} does not fit {channels} input channels",
    )
    reach = ((kh - 1) * dilation[0] + 1, (kw - 1) * dilation[1] + 1)
    size = (height + extra[0] + extra[2], width + extra[1] + extra[3])
    stride, pads = _window(node, size, reach)
    top, left, bottom, right = (own + more for own, more in zip(pads, extra, strict=True))
    source = reader.tensor(node, value)
    padding = (top, left)
    if (top, left) != (bottom, right):
        source, padding = _pad_layer(reader, source, (top, left, bottom, right), node), (0, 0)
    module = nn.Conv2d(channels, cout, (kh, kw), stride, padding, dilation, groups, bias=bias is not None)
    _load(module, weight, bias)
    return Piece(reader.layers.emit(module, [source], nodes))


def _load(module: nn.Conv2d | nn.Linear, weight: np.ndarray, bias: np.ndarray | None) -> None:
    module.weight = nn.Parameter(torch.from_numpy(weight.copy()), requires_grad=False)
    if bias is not None:
        module.bias = nn.Parameter(torch.from_numpy(bias.copy()), requires_grad=False)


def _batch_norm(reader: Reader, node: OnnxNode) -> Value:
    node.check(not node.attributes.get("training_mode", 0), "runs in training mode; export in evaluation mode")
    unused = all(not name or not reader.uses(name) for name in node.outputs[1:])
    node.check(unused, "its statistics are used; export in evaluation mode")
    gamma, beta, mean, variance = (reader.constant(node, index).astype(np.float64) for index in range(1, 5))
    source = reader.tensor(node, reader.value(node, 0))
    node.check(
        gamma.shape == (reader.layers.shapes[source][1],),
        f"its scale has shape {gamma.shape} for an activation {reader.layers.shapes[source]}",
    )
    scale = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    node.check(bool(np.all(np.isfinite(scale))), "its variance is negative or not finite")
    return Piece(reader.layers.emit(ChannelAffine(scale, beta - mean * scale), [source], [node.name]))


def _linear(reader: Reader, node: OnnxNode, weight: np.ndarray, bias: np.ndarray | None) -> Value:
    """Emit a linear layer; `weight` is (inputs, outputs)."""
    source = reader.tensor(node, reader.value(node, 0))
    shape = reader.layers.shapes[source]
    node.check(
        len(shape) == 2 and weight.ndim == 2 and weight.shape[0] == shape[1],
        f"multiplies {shape} by {weight.shape}; only (N, F) by a constant (F, G) is executed. Flatten the input first",
    )
    module = nn.Linear(*weight.shape, bias=bias is not None)
    _load(module, np.ascontiguousarray(weight.T, dtype=np.float32), bias)
    return Piece(reader.layers.emit(module, [source], [node.name]))


def _gemm(reader: Reader, node: OnnxNode) -> Value:
    node.check(not node.attributes.get("transA", 0), "transposes the activation (transA=1)")
    weight = reader.constant(node, 1) * np.float32(node.attributes.get("alpha", 1.0))
    weight = weight.T if node.attributes.get("transB", 0) else weight
    bias = None
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = reader.constant(node, 2) * np.float32(node.attributes.get("beta", 1.0))
        node.check(bias.size in (1, weight.shape[1]), f"its bias has shape {bias.shape}, not ({weight.shape[1]},)")
        bias = np.broadcast_to(bias.reshape(-1), (weight.shape[1],)).astype(np.float32)
    return _linear(reader, node, weight, bias)


def _matmul(reader: Reader, node: OnnxNode) -> Value:
    return _linear(reader, node, reader.constant(node, 1), None)


# --- pooling -------------------------------------------------------------------------------------------------------


def _global_pool(reader: Reader, node: OnnxNode) -> Value:
    value = reader.value(node, 0)
    map_shape(reader, node, value)
    return Piece(reader.layers.emit(nn.AdaptiveAvgPool2d(1), [reader.tensor(node, value)], [node.name]))


def _global_max_pool(reader: Reader, node: OnnxNode) -> Value:
    value = reader.value(node, 0)
    size = map_shape(reader, node, value)[2:]
    return Piece(reader.layers.emit(nn.MaxPool2d(size), [reader.tensor(node, value)], [node.name]))


def _reduce_mean(reader: Reader, node: OnnxNode) -> Value:
    shape = map_shape(reader, node, reader.value(node, 0))
    axes = ints(reader, node, 1, "axes") or range(4)
    node.check(
        {axis % 4 for axis in axes} == {2, 3},
        f"takes the mean over axes {list(axes)}; only lines and pixels (2, 3) together are averaged",
    )
    pooled = _global_pool(reader, node)
    assert isinstance(pooled, Piece)
    if node.attributes.get("keepdims", 1):
        return pooled
    return Piece(reader.layers.reshape(pooled.base, shape[:2], node.name))


def _average_pool(reader: Reader, node: OnnxNode) -> Value:
    value = reader.value(node, 0)
    size, kernel = map_shape(reader, node, value)[2:], tuple(node.attributes["kernel_shape"])
    stride, pads = _window(node, size, kernel)
    if kernel == size and not any(pads):
        return _global_pool(reader, node)
    node.check(set(node.attributes.get("dilations", (1, 1))) == {1}, "dilated average pooling is not executed")
    count, ceil = bool(node.attributes.get("count_include_pad", 0)), bool(node.attributes.get("ceil_mode", 0))
    source, padding = reader.tensor(node, value), pads[:2]
    if pads[:2] != pads[2:]:
        node.check(count, f"averages with unequal pads {pads} that do not count; use equal pads")
        source, padding = _pad_layer(reader, source, pads, node), (0, 0)
    module = nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=count)
    return Piece(reader.layers.emit(module, [source], [node.name]))


def _max_pool(reader: Reader, node: OnnxNode) -> Value:
    unused = len(node.outputs) == 1 or not reader.uses(node.outputs[1])
    node.check(unused, "its indices are used; only the maxima are computed")
    node.check(set(node.attributes.get("dilations", (1, 1))) == {1}, "dilated max pooling is not executed")
    value = reader.value(node, 0)
    size, kernel = map_shape(reader, node, value)[2:], tuple(node.attributes["kernel_shape"])
    stride, pads = _window(node, size, kernel)
    source, ceil, padding = reader.tensor(node, value), bool(node.attributes.get("ceil_mode", 0)), pads[:2]
    if pads[:2] != pads[2:] or any(2 * pad > taps for pad, taps in zip(padding, kernel, strict=True)):
        # torch's own padding is the same on both sides and at most half a window
        top, left, *_ = pads
        bottom, right = (_reach(size[i], kernel[i], stride[i], pads[i], pads[i + 2], ceil) for i in range(2))
        layer = nn.ConstantPad2d((left, right, top, bottom), -math.inf)
        source, ceil, padding = reader.layers.emit(layer, [source], [node.name], "_pad"), False, (0, 0)
    module = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
    return Piece(reader.layers.emit(module, [source], [node.name]))


def _reach(size: int, taps: int, stride: int, begin: int, end: int, ceil: bool) -> int:
    """Return how far the last window reaches beyond the map; with `ceil` it starts in the map or in front of it."""
    span = size + begin + end - taps
    count = span // stride + 1
    if ceil and span % stride:
        count += count * stride < size + begin
    return max((count - 1) * stride + taps - size - begin, 0)


# --- without effect, and left to the host --------------------------------------------------------------------------


def _identity(reader: Reader, node: OnnxNode) -> Value:
    return reader.value(node, 0)


def _dropout(reader: Reader, node: OnnxNode) -> Value:
    training = len(node.inputs) > 2 and node.inputs[2] and bool(reader.constant(node, 2))
    node.check(not training, "runs in training mode; export in evaluation mode")
    node.check(len(node.outputs) == 1 or not reader.uses(node.outputs[1]), "its mask is used")
    return reader.value(node, 0)


def _cast(reader: Reader, node: OnnxNode) -> Value:
    value = reader.value(node, 0)
    node.check(node.attributes["to"] == 1, "casts an activation to another type than float32; remove it")
    return value


def _host(reader: Reader, node: OnnxNode) -> Value:
    value = reader.value(node, 0)
    shape = reader.shape(value)
    # softmax before opset 13 takes all axes from `axis` on together, as one
    flat = node.op in ("Softmax", "LogSoftmax") and node.opset < 13
    axis = node.attributes.get("axis", 0 if node.op == "ArgMax" else 1 if flat else -1) % len(shape)
    keepdims = bool(node.attributes.get("keepdims", 1))
    node.check(not node.attributes.get("select_last_index", 0), "select_last_index=1; the first maximum is taken")
    step = HostStep(node.name, node.op, axis, flat, keepdims)
    if isinstance(value, Tail):
        return Tail(value.base, (*value.steps, step))
    return Tail(reader.tensor(node, value), (step,))


HANDLERS: dict[str, Handler] = {
    **pointwise_handlers,
    **view_handlers,
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_max_pool,
    "ReduceMean": _reduce_mean,
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
    "Softmax": _host,
    "LogSoftmax": _host,
    "ArgMax": _host,
    "Sigmoid": _host,
}
"""Operator type to its reader."""
