"""The FuSeConv authors' closed-form latency, as a named baseline: no memory, no overlap of fill and drain.

Source: the published model code of FuSeConv (DATE 2021, arXiv 2105.13434); `tests/sw/test_authors.py` holds it to
the figures that code gives for MobileNetV2.
"""

from __future__ import annotations

import math

from sw.compiler.ir import Graph
from sw.model.shapes import LayerShape, graph_shapes

__all__ = ["depthwise_cycles", "fuse_cycles", "gemm_cycles", "layer_cycles", "network_cycles"]


def gemm_cycles(m: int, k: int, n: int, rows: int, cols: int) -> int:
    """Cycles of (m x k) times (k x n), output-stationary: k + rows + cols - 1 per fold, partial folds credited."""
    total = 0
    for height, high in ((rows, m // rows), (m % rows, int(m % rows > 0))):
        for width, wide in ((cols, n // cols), (n % cols, int(n % cols > 0))):
            total += high * wide * (k + height + width - 1)
    return total


def depthwise_cycles(channels: int, pixels: int, taps: int, rows: int, cols: int) -> int:
    """Cycles of a depthwise convolution: im2col and one filter at a time."""
    return channels * gemm_cycles(pixels, taps, 1, rows, cols)


def fuse_cycles(lines: int, width: int, kernel: int, stride: int, rows: int, cols: int) -> int:
    """Cycles of 1-D convolutions, ``ceil(ceil(lines / rows) / stride * (cols + K) * ceil(padded width / cols))``.

    Parameters
    ----------
    lines
        Input height times channels.
    width
        Input width, padding not included; ``2 * (K // 2)`` is added.
    kernel, stride
        Taps and stride.
    rows, cols
        Array shape.
    """
    padded = width + 2 * (kernel // 2)
    return math.ceil(math.ceil(lines / rows) / stride * (cols + kernel) * math.ceil(padded / cols))


def layer_cycles(shape: LayerShape, rows: int, cols: int) -> int:
    """Cycles of one convolution or linear layer."""
    kh, kw = shape.kernel
    if shape.groups == 1:
        return gemm_cycles(shape.pixels, shape.depth, shape.outputs, rows, cols)
    if kh > 1 and kw > 1:
        return depthwise_cycles(shape.outputs, shape.pixels, kh * kw, rows, cols)
    return fuse_cycles(shape.height * shape.channels, shape.width, max(kh, kw), max(shape.stride), rows, cols)


def network_cycles(graph: Graph, rows: int, cols: int) -> int:
    """Cycles of all convolutions and linear layers of a network; everything else is free in this model."""
    return sum(layer_cycles(shape, rows, cols) for shape in graph_shapes(graph))
