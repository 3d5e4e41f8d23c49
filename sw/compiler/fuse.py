"""Fusion passes: residual additions and global average pooling move into the convolution in front of them."""

from __future__ import annotations

import dataclasses

from sw.compiler.ir import FULL_RANGE, Add, Conv, GlobalAvgPool, Graph, Op

__all__ = ["fuse_pool", "fuse_residual"]

MAX_SCALE_RATIO = 1.9
"""Largest (convolution's scale) / (sum's scale) at which an addition is fused.

Fusing skips the rounding of the convolution's own int8 result, which is worth at most half its scale: below a ratio
of 2 the sum stays within one LSB of the unfused network (where that result does not saturate; if it does, only the
fused sum is right).
"""


def fuse_residual(graph: Graph) -> Graph:
    """Let a convolution add the other summand itself, where nothing else reads its result and it has no activation.

    If both summands come from such convolutions, the later one takes the addition, as the other must exist by then.
    """
    users = graph.consumers()
    order = {op.output: index for index, op in enumerate(graph.ops)}
    producers = graph.producers()
    fused: dict[str, Op] = {}
    dropped: set[str] = set()
    for add in graph.ops:
        if not isinstance(add, Add) or add.input == add.other:
            continue
        for name in sorted(add.inputs, key=lambda n: order.get(n, -1), reverse=True):
            conv = producers.get(name)
            other = add.other if name == add.input else add.input
            if (
                isinstance(conv, Conv)
                and conv.residual is None
                and conv.pooled is None
                and conv.linear
                and conv.curve is None
                and conv.clamp == FULL_RANGE
                and len(users[name]) == 1
                and name not in graph.outputs
                and order.get(other, -1) < order[name]
                and graph[name].scale <= MAX_SCALE_RATIO * graph[add.output].scale
            ):
                fused[conv.name] = dataclasses.replace(conv, residual=other, clamp=add.clamp, output=add.output)
                dropped.add(add.name)
                break
    return graph.rewrite(fused.get(op.name, op) for op in graph.ops if op.name not in dropped)


def fuse_pool(graph: Graph, act_bytes: int) -> Graph:
    """Let a convolution pool its own output, where nothing else reads the map and its input fits on chip.

    A pooled layer is one strip, as its sum runs over the whole map, so `act_bytes` (the scratchpad) must hold the
    input and the pooled channels.  A layer with a residual keeps its pool apart: the residual is a map and has the
    output's channel stride, which is one byte when pooled.
    """
    users = graph.consumers()
    producers = graph.producers()
    fused: dict[str, Op] = {}
    dropped: set[str] = set()
    for pool in graph.ops:
        if not isinstance(pool, GlobalAvgPool):
            continue
        conv = producers.get(pool.input)
        if (
            isinstance(conv, Conv)
            and conv.residual is None
            and conv.pooled is None
            and users[pool.input] == [pool]
            and pool.input not in graph.outputs
            and graph[conv.input].size + graph[pool.output].size <= act_bytes
        ):
            fused[conv.name] = dataclasses.replace(conv, pooled=graph[pool.input], output=pool.output)
            dropped.add(pool.name)
    return graph.rewrite(fused.get(op.name, op) for op in graph.ops if op.name not in dropped)
