"""Grouped convolutions become one convolution per group, over slices of the input and into parts of the output."""

from __future__ import annotations

import dataclasses

from sw.compiler.ir import Concat, Conv, Graph, Op, Slice, Tensor

__all__ = ["split_groups"]


def split_groups(graph: Graph) -> Graph:
    """Split every convolution whose groups the array does not run at once: neither one, nor one filter per channel.

    Slices and concatenation are views, so nothing is copied.
    """
    ops: list[Op] = []
    extra: list[Tensor] = []
    for op in graph.ops:
        if (
            isinstance(op, Conv)
            and op.groups > 1
            and (graph[op.input].shape[0], op.weight.shape[0]) != (op.groups,) * 2
        ):
            made = [_group(graph, op, group, extra) for group in range(op.groups)]
            ops += [piece for pieces in made for piece in pieces]
            ops.append(Concat(name=op.name, output=op.output, parts=tuple(pieces[-1].output for pieces in made)))
        else:
            ops.append(op)
    return graph.rewrite(ops, extra)


def _group(graph: Graph, op: Conv, group: int, extra: list[Tensor]) -> list[Op]:
    """Return the slices that one group reads, and its convolution; their tensors go to `extra`."""
    name = f"{op.name}.group{group}"

    def part(tensor: Tensor, label: str) -> tuple[Tensor, int]:
        size = tensor.shape[0] // op.groups
        return dataclasses.replace(tensor, name=label, shape=(size, *tensor.shape[1:])), group * size

    slices: list[Op] = []
    for role, source in (("input", op.input), ("residual", op.residual)):
        if source is not None:
            made, start = part(graph[source], f"{name}.{role}")
            extra.append(made)
            slices.append(
                Slice(name=made.name, input=source, output=made.name, start=start, stop=start + made.shape[0])
            )
    made, start = part(graph[op.output], name)
    extra.append(made)
    channels = slice(start, start + made.shape[0])
    conv = dataclasses.replace(
        op,
        name=name,
        input=slices[0].output,
        output=name,
        weight=op.weight[channels],
        weight_scale=op.weight_scale[channels],
        bias=None if op.bias is None else op.bias[channels],
        groups=1,
        residual=None if op.residual is None else slices[1].output,
        pooled=None if op.pooled is None else part(op.pooled, f"{name}.map")[0],
    )
    return [*slices, conv]
