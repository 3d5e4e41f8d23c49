"""How aten's pooling operators are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from sw.compiler.errors import check
from sw.frontends.values import Mean, Padded, Pooled, Value
from sw.quant.arguments import arguments, pair
from sw.quant.needs import need

if TYPE_CHECKING:
    from sw.frontends.torch_export import Importer

__all__ = ["POOLING"]


def _pool(importer: Importer, node: Node) -> Value:
    layer = importer.layer(node)
    _, size = arguments(node, "input output_size")
    check(pair(size) == (1, 1), layer, f"pools to {size}; only (1, 1), global average pooling, is read: use avg_pool2d")
    return Mean(layer, importer.tensor_of(node.args[0], layer))


def _windows(importer: Importer, node: Node, mean: bool, kernel: Any, stride: Any, padding: Any, ceil: bool) -> Pooled:
    """Return a windowed pooling; the end padding becomes what the windows reach (perhaps less than is given)."""
    layer = importer.layer(node)
    value = importer.values[node.args[0]]
    outer, tensor = (0, 0, 0, 0), ""
    if isinstance(value, Padded) and value.value == (0 if mean else -math.inf):
        outer, tensor = value.padding, value.tensor
    else:
        tensor = importer.tensor_of(node.args[0], layer)
    begins, ends = [], []
    for axis, (taps, step, pad) in enumerate(zip(kernel, stride, padding, strict=True)):
        size = importer.tensors[tensor].shape[1 + axis] + outer[axis] + outer[axis + 2]
        count = (size + 2 * pad - taps) // step + 1
        if ceil and (size + 2 * pad - taps) % step:
            check(not mean, layer, f"ceil_mode with windows beyond the map; {need('aten.avg_pool2d')}")
            # a window must start in the map or in front of it
            count += count * step < size + pad
        begins.append(outer[axis] + pad)
        ends.append(max((count - 1) * step + taps - size - pad + outer[axis + 2], 0))
    return Pooled(layer, tensor, mean, kernel, stride, (begins[0], begins[1], ends[0], ends[1]))


def _max_pool(importer: Importer, node: Node) -> Value:
    _, kernel, stride, padding, dilation, ceil = arguments(
        node, "input kernel_size stride padding dilation ceil_mode", padding=0, dilation=1, ceil_mode=False
    )
    check(pair(dilation) == (1, 1), importer.layer(node), f"dilation {dilation}: {need('aten.max_pool2d')}")
    return _windows(importer, node, False, pair(kernel), pair(stride or kernel), pair(padding), ceil)


def _avg_pool(importer: Importer, node: Node) -> Value:
    layer = importer.layer(node)
    _, kernel, stride, padding, ceil, counted, divisor = arguments(
        node,
        "input kernel_size stride padding ceil_mode count_include_pad divisor_override",
        padding=0,
        ceil_mode=False,
        count_include_pad=True,
    )
    check(divisor is None, layer, f"divisor_override={divisor}: {need('aten.avg_pool2d')}")
    check(counted or not any(pair(padding)), layer, f"count_include_pad=False: {need('aten.avg_pool2d')}")
    return _windows(importer, node, True, pair(kernel), pair(stride or kernel), pair(padding), ceil)


def _mean(importer: Importer, node: Node) -> Value:
    layer = importer.layer(node)
    _, axes = arguments(node, "input dim")
    tensor = importer.tensor_of(node.args[0], layer)
    spatial = {axis % 4 for axis in (axes if isinstance(axes, list | tuple) else [axes])}
    check(spatial == {2, 3}, layer, f"means over axes {axes}; only lines and pixels (2, 3) together are executed")
    return Mean(layer, tensor)


POOLING: dict[str, Callable[[Importer, Node], Value]] = {
    "adaptive_avg_pool2d": _pool,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "mean": _mean,
}
"""Operator name to its reader."""
