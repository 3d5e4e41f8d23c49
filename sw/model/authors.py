"""The FuSeConv authors' closed-form latency, as a named baseline: no memory, no overlap of fill and drain.

Source: the published model code of FuSeConv (DATE 2021, arXiv 2105.13434); `tests/sw/test_authors.py` holds it to
the figures that code gives for MobileNetV2.
"""

from __future__ import annotations

import math

from sw.compiler.ir import Conv, Graph, Linear

__all__ = ["depthwise_cycles", "fuse_cycles", "gemm_cycles", "network_cycles"]


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


def network_cycles(graph: Graph, rows: int, cols: int) -> int:
    """Cycles of all convolutions and linear layers of a network; everything else is free in this model."""
    total = 0
    for op in graph.ops:
        if isinstance(op, Linear):
            total += gemm_cycles(1, op.weight.shape[1], op.weight.shape[0], rows, cols)
        elif isinstance(op, Conv):
            out = op.pooled or graph[op.output]
            kh, kw = op.kernel
            if op.groups == 1:
                total += gemm_cycles(out.plane, op.weight[0].size, op.weight.shape[0], rows, cols)
            elif kh > 1 and kw > 1:
                total += depthwise_cycles(op.weight.shape[0], out.plane, kh * kw, rows, cols)
            else:
                channels, height, width = graph[op.input].shape
                total += fuse_cycles(height * channels, width, max(kh, kw), max(op.stride), rows, cols)
    return total
