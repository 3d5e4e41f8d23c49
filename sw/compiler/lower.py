"""Legalisation: every operator that is no view becomes one kernel, in the array's terms and with integer parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC, EXEC_LIMITS, Mode
from sw.compiler.cost import Extent, pick_mode
from sw.compiler.errors import CompileError, check
from sw.compiler.fold import OutputStage, Pool, fold, fold_pool
from sw.compiler.ir import (
    Activation,
    Add,
    ChannelScale,
    Concat,
    Conv,
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
from sw.compiler.views import View, resolve_views

__all__ = ["Kernel", "lower"]

_WIDTH = {field.name: field for field in EXEC.fields}


@dataclass(frozen=True, eq=False)
class Kernel:
    """One layer as EXEC instructions see it, before tiling.

    Parameters
    ----------
    name, kind
        Layer name, and conv, pointwise, fuse_row, fuse_col, depthwise, linear, pool, add or requantise.
    mode, depthwise
        Array mode; `depthwise` is the GEMM flag of the im2col baseline.
    source, target, residual
        Where input, output (pooled, if it pools) and second operand lie.
    map_shape
        Output channels, lines and pixels before pooling.
    kernel, stride, pad
        (y, x) each; pad is top and left.
    in_zp
        Input zero point, which padding reads.
    weights
        int8 (cout, cin or 1, kh, kw), or None (VEC).
    stage, pool
        Integer parameters.
    macs
        Multiply-accumulates.
    """

    name: str
    kind: str
    mode: Mode
    depthwise: bool
    source: View
    target: View
    residual: View | None
    map_shape: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    in_zp: int
    weights: npt.NDArray[np.int8] | None
    stage: OutputStage
    pool: Pool | None
    macs: int

    @property
    def dense(self) -> bool:
        """Whether every output channel reads every input channel."""
        return self.mode == Mode.GEMM and not self.depthwise

    @property
    def pointwise(self) -> bool:
        """Whether lines do not matter: kernel 1x1, stride 1, no padding."""
        same = self.source.shape[1:] == self.map_shape[1:]
        return self.kernel == (1, 1) and self.stride == (1, 1) and self.pad == (0, 0) and same

    def extent(self, cout: int, lines: int) -> Extent:
        """Return the extent of an EXEC over `cout` channels and `lines` lines, flattened where that is possible."""
        pixels = self.map_shape[2]
        if self.pointwise:
            lines, pixels = 1, lines * pixels
        return Extent(self.source.shape[0], cout, lines, pixels, *self.kernel, *self.stride)

    def words(self, cout: int, rows: int) -> int:
        """Weight words of `cout` channels on an array of `rows` rows."""
        if self.weights is None:
            return 0
        return -(-cout // rows) * (self.source.shape[0] if self.dense else 1) * self.kernel[0] * self.kernel[1]


def lower(graph: Graph, config: AcceleratorConfig) -> tuple[list[Kernel], dict[str, View]]:
    """Return the kernels in order and the place of every tensor.

    Raises
    ------
    CompileError
        Naming the layer, if the hardware does not run it.
    """
    views = resolve_views(graph)
    return [_lower(graph, op, views, config) for op in graph.ops if not isinstance(op, Slice | Reshape | Concat)], views


def _lower(graph: Graph, op: Op, views: dict[str, View], config: AcceleratorConfig) -> Kernel:
    match op:
        case Conv():
            return _conv(graph, op, views, config)
        case Linear():
            return _linear(graph, op, views)
        case Add() | Requantise() | GlobalAvgPool():
            return _vector(graph, op, views)
        case Activation():
            wanted = f"{op.kind} needs ISA field act={op.kind.upper()}, which ISA 1 reserves; use ReLU or ReLU6"
        case ChannelScale():
            wanted = "a squeeze-and-excite gate needs ISA field res=SCALE, reserved in ISA 1; use a network without SE"
        case MaxPool():
            wanted = "max pooling has no execution mode in ISA 1; use a convolution of stride 2"
        case _:
            wanted = f"operator {type(op).__name__} is unknown to the compiler"
    raise CompileError(op.name, wanted)


def _conv(graph: Graph, op: Conv, views: dict[str, View], config: AcceleratorConfig) -> Kernel:
    source, made = graph[op.input], graph[op.output]
    mapped = op.pooled or made
    (kh, kw), (sy, sx), cin, cout = op.kernel, op.stride, source.shape[0], op.weight.shape[0]
    limit = config.max_kernel
    check(max(kh, kw) <= limit, op.name, f"kernel {kh}x{kw} is larger than max_kernel={limit}; generate a larger one")
    for axis, stride in (("y", sy), ("x", sx)):
        most = EXEC_LIMITS[f"s{axis}"][1]
        fits = most is None or stride <= most
        check(fits, op.name, f"stride {stride} along {axis} is more than {most}; split the layer")
    for axis, pad in zip("yx", op.padding[:2], strict=True):
        field = _WIDTH[f"pad_{axis}"]
        check(pad <= field.maximum, op.name, f"padding {pad} along {axis} exceeds {field.maximum}")
    depthwise = op.groups > 1
    if depthwise:
        check(
            op.groups == cin == cout,
            op.name,
            f"groups={op.groups} with {cin} input and {cout} output channels; the array runs groups=1, and depthwise "
            f"with one filter per channel",
        )
    extent = Extent(cin, cout, mapped.shape[1], mapped.shape[2], kh, kw, sy, sx)
    mode, flag = pick_mode(config, extent) if depthwise else (Mode.GEMM, False)
    if not depthwise:
        kind = "pointwise" if (kh, kw) == (1, 1) else "conv"
    elif kh == 1 and kw > 1:
        kind = "fuse_row"
    elif kw == 1 and kh > 1:
        kind = "fuse_col"
    else:
        kind = "depthwise"
    residual = None if op.residual is None else graph[op.residual]
    return Kernel(
        name=op.name,
        kind=kind,
        mode=mode,
        depthwise=flag,
        source=views[op.input],
        target=views[op.output],
        residual=None if op.residual is None else views[op.residual],
        map_shape=mapped.shape,
        kernel=(kh, kw),
        stride=(sy, sx),
        pad=(op.padding[0], op.padding[1]),
        in_zp=source.zero_point,
        weights=op.weight,
        stage=fold(op.name, source, op.weight, op.weight_scale, op.bias, mapped, op.clamp, residual),
        pool=None if op.pooled is None else fold_pool(op.name, op.pooled, made),
        macs=mapped.size * op.weight[0].size,
    )


def _linear(graph: Graph, op: Linear, views: dict[str, View]) -> Kernel:
    source, made = graph[op.input], graph[op.output]
    where = views[op.input]
    return Kernel(
        name=op.name,
        kind="linear",
        mode=Mode.GEMM,
        depthwise=False,
        source=View(where.storage, where.offset, (source.size, 1, 1)),
        target=views[op.output],
        residual=None,
        map_shape=made.shape,
        kernel=(1, 1),
        stride=(1, 1),
        pad=(0, 0),
        in_zp=source.zero_point,
        weights=op.weight.reshape(*op.weight.shape, 1, 1),
        stage=fold(op.name, source, op.weight, op.weight_scale, op.bias, made, op.clamp),
        pool=None,
        macs=op.weight.size,
    )


def _vector(graph: Graph, op: Add | Requantise | GlobalAvgPool, views: dict[str, View]) -> Kernel:
    source, made = graph[op.input], graph[op.output]
    ones = np.ones(source.shape[0])
    residual: Tensor | None = None
    pool = None
    if isinstance(op, GlobalAvgPool):
        # the map passes unchanged: multiplier 1, the same zero point
        keep = Tensor(source.name, source.shape, source.scale, source.zero_point)
        stage = fold(op.name, source, None, ones, None, keep, (-128, 127))
        pool, kind = fold_pool(op.name, source, made), "pool"
    else:
        residual = graph[op.other] if isinstance(op, Add) else None
        stage = fold(op.name, source, None, ones, None, made, op.clamp, residual)
        kind = "add" if isinstance(op, Add) else "requantise"
    return Kernel(
        name=op.name,
        kind=kind,
        mode=Mode.VEC,
        depthwise=False,
        source=views[op.input],
        target=views[op.output],
        residual=views[residual.name] if residual is not None else None,
        map_shape=source.shape,
        kernel=(1, 1),
        stride=(1, 1),
        pad=(0, 0),
        in_zp=source.zero_point,
        weights=None,
        stage=stage,
        pool=pool,
        macs=0,
    )
