"""Validation of the graph IR: every pass's result goes through it."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from sw.compiler.errors import CompileError, check
from sw.compiler.ir import (
    FULL_RANGE,
    Activation,
    Add,
    AvgPool,
    ChannelScale,
    Concat,
    Conv,
    Curve,
    GlobalAvgPool,
    Graph,
    Linear,
    MaxPool,
    Op,
    Requantise,
    Reshape,
    Slice,
    Tensor,
)

__all__ = ["validate"]

Shape = tuple[int, int, int]


def validate(graph: Graph) -> None:
    """Check names, order, shapes and number ranges.

    Raises
    ------
    CompileError
        Naming the layer (or, for tensors and the graph's frame, the tensor or network).
    """
    for name, tensor in graph.tensors.items():
        if name != tensor.name:
            raise CompileError(graph.name, f"tensor {tensor.name} is filed under {name}")
        _tensor(tensor)
    known = set(graph.inputs)
    names: set[str] = set()
    for name in (*graph.inputs, *graph.outputs):
        if name not in graph.tensors:
            raise CompileError(graph.name, f"input or output {name} is no tensor of the graph")
    for op in graph.ops:
        check(op.name not in names, op.name, "its name is used by an earlier layer")
        names.add(op.name)
        for name in op.inputs:
            check(name in known, op.name, f"reads tensor {name}, which no earlier layer makes")
        check(op.output in graph.tensors, op.name, f"makes tensor {op.output}, which is not declared")
        check(op.output not in known, op.name, f"makes tensor {op.output}, which already exists")
        known.add(op.output)
        want, got = _shape(graph, op), graph[op.output].shape
        check(want == got, op.name, f"makes {want}, but tensor {op.output} is declared {got}")
        _numbers(graph, op)
    for name in graph.outputs:
        if name not in known:
            raise CompileError(graph.name, f"output {name} is made by no layer")


def _tensor(tensor: Tensor) -> None:
    if len(tensor.shape) != 3 or min(tensor.shape) < 1:
        raise CompileError(tensor.name, f"tensor shape {tensor.shape} is not (C, H, W) with positive sizes")
    if not (math.isfinite(tensor.scale) and tensor.scale > 0):
        raise CompileError(tensor.name, f"tensor scale {tensor.scale} must be positive and finite")
    if not -128 <= tensor.zero_point <= 127:
        raise CompileError(tensor.name, f"tensor zero point {tensor.zero_point} is outside -128 to 127")


def _window(op: Conv | MaxPool | AvgPool, shape: Shape) -> tuple[int, int]:
    (top, left, bottom, right), (kh, kw), (sy, sx) = op.padding, op.kernel, op.stride
    check(min(sy, sx) >= 1, op.name, f"stride {op.stride} must be at least 1")
    check(min(op.padding) >= 0, op.name, f"padding {op.padding} must not be negative")
    height, width = shape[1] + top + bottom - kh, shape[2] + left + right - kw
    check(
        min(height, width) >= 0, op.name, f"kernel {kh}x{kw} is larger than the padded input {shape[1:]} + {op.padding}"
    )
    return height // sy + 1, width // sx + 1


def _shape(graph: Graph, op: Op) -> Shape:
    """Return the output shape that the operator's inputs imply."""
    first = graph[op.inputs[0]].shape
    match op:
        case Conv():
            cout, per_group = op.weight.shape[0], op.weight.shape[1]
            check(op.weight.ndim == 4, op.name, f"weight has {op.weight.ndim} dimensions, not 4")
            check(
                per_group * op.groups == first[0] and cout % op.groups == 0,
                op.name,
                f"weight {op.weight.shape} with groups={op.groups} does not fit {first[0]} input channels",
            )
            height, width = _window(op, first)
            mapped = (cout, height, width)
            if op.pooled is not None:
                check(op.pooled.shape == mapped, op.name, f"makes {mapped}, but pools {op.pooled.shape}")
            if op.residual is not None:
                other = graph[op.residual].shape
                check(other == mapped, op.name, f"residual {op.residual} is {other}, the output {mapped}")
            return mapped if op.pooled is None else (cout, 1, 1)
        case Linear():
            check(
                op.weight.ndim == 2 and op.weight.shape[1] == graph[op.input].size,
                op.name,
                f"weight {op.weight.shape} does not fit {graph[op.input].size} inputs",
            )
            return (op.weight.shape[0], 1, 1)
        case Add():
            other = graph[op.other].shape
            check(other == first, op.name, f"summands are {first} and {other}; broadcasting is not supported")
            return first
        case GlobalAvgPool():
            return (first[0], 1, 1)
        case Slice():
            check(0 <= op.start < op.stop <= first[0], op.name, f"channels {op.start}:{op.stop} of {first[0]}")
            return (op.stop - op.start, *first[1:])
        case Reshape():
            made = graph[op.output]
            check(made.size == graph[op.input].size, op.name, f"{first} and {made.shape} differ in size")
            return made.shape
        case Concat():
            shapes = [graph[name].shape for name in op.parts]
            check(all(s[1:] == first[1:] for s in shapes), op.name, f"parts differ in height or width: {shapes}")
            return (sum(s[0] for s in shapes), *first[1:])
        case ChannelScale():
            gate = graph[op.gate].shape
            check(gate == (first[0], 1, 1), op.name, f"gate is {gate}, expected {(first[0], 1, 1)}")
            check(op.curve in (None, "hswish"), op.name, f"curve {op.curve!r} behind a gate; only h-swish is computed")
            return first
        case MaxPool():
            inside = all(pad < size for pad, size in zip(op.padding, op.kernel * 2, strict=True))
            check(inside, op.name, f"padding {op.padding} of kernel {op.kernel} leaves windows without any pixel")
            return (first[0], *_window(op, first))
        case AvgPool():
            return (first[0], *_window(op, first))
        case Requantise() | Activation():
            return first
    raise CompileError(op.name, f"unknown operator {type(op).__name__}")


def _numbers(graph: Graph, op: Op) -> None:
    low, high = getattr(op, "clamp", FULL_RANGE)
    check(-128 <= low <= high <= 127, op.name, f"clamp ({low}, {high}) is no range within -128 to 127")
    curve = op.kind if isinstance(op, Activation) else getattr(op, "curve", None)
    check(curve is None or curve in get_args(Curve), op.name, f"curve {curve!r} is none of {get_args(Curve)}")
    if isinstance(op, Conv | Linear):
        _weights(op, op.weight, op.weight_scale, op.bias)
    if isinstance(op, Slice | Reshape | Concat):
        made = graph[op.output]
        for name in op.inputs:
            part = graph[name]
            check(
                (part.scale, part.zero_point) == (made.scale, made.zero_point),
                op.name,
                f"is a view, but tensor {name} is quantised ({part.scale}, {part.zero_point}) and {made.name} "
                f"({made.scale}, {made.zero_point}); insert a Requantise",
            )


def _weights(op: Op, weight: npt.NDArray[Any], scale: npt.NDArray[Any], bias: npt.NDArray[Any] | None) -> None:
    cout = weight.shape[0]
    check(weight.dtype == np.int8, op.name, f"weight is {weight.dtype}, not int8")
    check(scale.shape == (cout,), op.name, f"weight_scale has shape {scale.shape}, not ({cout},)")
    check(bool(np.all(np.isfinite(scale)) and np.all(scale > 0)), op.name, "weight scales must be positive and finite")
    if bias is not None:
        check(bias.shape == (cout,), op.name, f"bias has shape {bias.shape}, not ({cout},)")
        check(bool(np.all(np.isfinite(bias))), op.name, "bias is not finite")
