"""Legalisation: every operator that is no view becomes one kernel, in the array's terms and with integer parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC, EXEC_LIMITS, Mode, ResidualOp
from hw.spec.packing import Packing
from sw.compiler.cost import Extent, pick_mode
from sw.compiler.errors import CompileError, check
from sw.compiler.fold import OutputStage, Pool, fold, fold_gate, fold_pool
from sw.compiler.ir import (
    FULL_RANGE,
    Activation,
    Add,
    AvgPool,
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

_FINE = 127
"""Weight of a copy through the array: its bias then counts in 127ths of an input LSB."""

_BLOCK = 100
"""Cycles that another EXEC per block must save, over all lines: the layer may run in several strips."""

_LOWEST = -128
"""What padding reads where a maximum is taken."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """One layer as EXEC instructions see it, before tiling.

    Parameters
    ----------
    name, kind
        Layer name, and conv, pointwise, fuse_row, fuse_col, depthwise, linear, pool, avg_pool, max_pool, add, scale,
        activation, requantise or relayout.
    mode, depthwise
        Array mode; `depthwise` is the GEMM flag of the im2col baseline.
    source, target, residual
        Where input, output (pooled, if it pools) and second operand lie.
    residual_op
        What the second operand is for: a map to add or a gate to multiply with.
    map_shape
        Output channels, lines and pixels before pooling; those of the packed plane if it is packed.
    kernel, stride, pad
        (y, x) each; pad is top and left.
    in_zp
        What padding reads: the input's zero point, or the lowest value where the maximum is taken.
    weights
        int8 (cout, cin or 1, kh, kw), or None (VEC, MAX).
    stage, pool
        Integer parameters.
    macs
        Multiply-accumulates.
    packing
        How target and a residual map are packed (see :mod:`sw.compiler.packing`), and the source unless `spread`; None
        if they are not.
    spread, source_packing
        Whether the source is packed differently, and how (see :mod:`sw.compiler.spread`).
    beside
        Where the pooled bytes lie if the map is written as well; then `target` is the map.
    open
        Whether what it writes between segments may hold anything: then a packed plane is a plain one to it.
    """

    name: str
    kind: str
    mode: Mode
    depthwise: bool
    source: View
    target: View
    residual: View | None
    residual_op: ResidualOp
    map_shape: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    in_zp: int
    weights: npt.NDArray[np.int8] | None
    stage: OutputStage
    pool: Pool | None
    macs: int
    packing: Packing | None = None
    spread: bool = False
    source_packing: Packing | None = None
    beside: View | None = None
    open: bool = False

    @property
    def reduced(self) -> bool:
        """Whether the pooled bytes are all it writes."""
        return self.pool is not None and self.beside is None

    @property
    def relayout(self) -> bool:
        """Whether it copies a tensor into another layout."""
        return self.kind == "relayout"

    @property
    def fold(self) -> bool:
        """Whether, not spread, the lines above or below a segment are in another one."""
        return self.packing is not None and not self.spread and self.kernel[0] > 1

    @property
    def whole(self) -> bool:
        """Whether it reads all lines, whatever lines it makes, and so is no strip."""
        return self.spread or self.fold

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Output channels, lines and pixels, of the image if it is packed."""
        if self.packing is None or self.reduced:
            return self.target.shape
        return self.target.shape[0], self.packing.image_height, self.packing.image_width

    @property
    def dense(self) -> bool:
        """Whether every output channel reads every input channel."""
        return self.mode == Mode.GEMM and not self.depthwise

    @property
    def pointwise(self) -> bool:
        """Whether lines do not matter: kernel 1x1, stride 1, no padding, not packed or open."""
        whole = self.packing is None or self.open
        same = self.source.shape[1:] == self.map_shape[1:] and whole and not self.spread
        return self.kernel == (1, 1) and self.stride == (1, 1) and self.pad == (0, 0) and same

    def extent(self, cout: int, lines: int) -> Extent:
        """Return the extent of an EXEC over `cout` channels and `lines` lines, flattened where that is possible."""
        pixels = self.map_shape[2]
        if self.pointwise:
            lines, pixels = 1, lines * pixels
        return Extent(self.source.shape[0], cout, lines, pixels, *self.kernel, *self.stride)

    def block(self, cout: int, config: AcceleratorConfig) -> int:
        """Return the channels of a block: the array's rows, or fewer where even blocks take fewer cycles."""
        rows, taps = config.rows, self.words(1, config.rows)
        blocks = -(-cout // rows)
        size = -(-cout // blocks)
        if not self.dense or self.spread or self.pool is not None or taps >= rows or size == rows:
            return rows
        last = cout - (blocks - 1) * rows
        saved = (blocks - 1) * rows + max(taps, last) - blocks * max(taps, size)
        extent = self.extent(cout, self.map_shape[1])
        tiles = extent.out_h * -(-extent.out_w // config.cols)
        return size if saved * tiles > _BLOCK * blocks else rows

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
            return _conv(graph, op, views, config, _conv_kind(op))
        case Linear():
            return _linear(graph, op, views)
        case AvgPool():
            return _conv(graph, _mean(graph, op), views, config, "avg_pool")
        case Activation(kind="hsigmoid"):
            return _conv(graph, _hsigmoid(graph, op), views, config, "activation")
        case MaxPool():
            return _max_pool(graph, op, views, config)
        case Add() | Requantise() | Activation() | ChannelScale() | GlobalAvgPool():
            return _vector(graph, op, views)
    raise CompileError(op.name, f"operator {type(op).__name__} is unknown to the compiler")


def _mean(graph: Graph, op: AvgPool) -> Conv:
    """Return a windowed mean as a depthwise convolution: the sum is exact, padding contributes zeros."""
    channels, (kh, kw) = graph[op.input].shape[0], op.kernel
    return Conv(
        name=op.name,
        input=op.input,
        output=op.output,
        weight=np.ones((channels, 1, kh, kw), np.int8),
        weight_scale=np.full(channels, 1 / (kh * kw)),
        stride=op.stride,
        padding=op.padding,
        groups=channels,
    )


def _hsigmoid(graph: Graph, op: Activation) -> Conv:
    """Return h-sigmoid by itself as a 1x1 depthwise convolution.

    In whole input LSB the 3 that it adds would be rounded too coarsely.
    """
    channels = graph[op.input].shape[0]
    return Conv(
        name=op.name,
        input=op.input,
        output=op.output,
        weight=np.full((channels, 1, 1, 1), _FINE, np.int8),
        weight_scale=np.full(channels, 1 / _FINE),
        groups=channels,
        curve=op.kind,
    )


def _conv_kind(op: Conv) -> str:
    kh, kw = op.kernel
    if op.groups == 1:
        return "pointwise" if (kh, kw) == (1, 1) else "conv"
    if kh == 1 and kw > 1:
        return "fuse_row"
    return "fuse_col" if kw == 1 and kh > 1 else "depthwise"


def _check_window(op: Conv | MaxPool, config: AcceleratorConfig) -> None:
    (kh, kw), limit = op.kernel, config.max_kernel
    check(max(kh, kw) <= limit, op.name, f"kernel {kh}x{kw} is larger than max_kernel={limit}; generate a larger one")
    for axis, stride in zip("yx", op.stride, strict=True):
        most = EXEC_LIMITS[f"s{axis}"][1]
        fits = most is None or stride <= most
        check(fits, op.name, f"stride {stride} along {axis} is more than {most}; split the layer")
    for axis, pad in zip("yx", op.padding[:2], strict=True):
        field = _WIDTH[f"pad_{axis}"]
        check(pad <= field.maximum, op.name, f"padding {pad} along {axis} exceeds {field.maximum}")


def _conv(graph: Graph, op: Conv, views: dict[str, View], config: AcceleratorConfig, kind: str) -> Kernel:
    source, made = graph[op.input], graph[op.output]
    mapped = op.pooled or made
    (kh, kw), (sy, sx), cin, cout = op.kernel, op.stride, source.shape[0], op.weight.shape[0]
    _check_window(op, config)
    depthwise = op.groups > 1
    assert not depthwise or op.groups == cin == cout  # split_groups leaves no others
    extent = Extent(cin, cout, mapped.shape[1], mapped.shape[2], kh, kw, sy, sx)
    mode, flag = pick_mode(config, extent) if depthwise else (Mode.GEMM, False)
    residual = None if op.residual is None else graph[op.residual]
    return Kernel(
        name=op.name,
        kind=kind,
        mode=mode,
        depthwise=flag,
        source=views[op.input],
        target=views[op.output],
        residual=None if op.residual is None else views[op.residual],
        residual_op=ResidualOp.NONE if op.residual is None else ResidualOp.ADD,
        map_shape=mapped.shape,
        kernel=(kh, kw),
        stride=(sy, sx),
        pad=(op.padding[0], op.padding[1]),
        in_zp=source.zero_point,
        weights=op.weight,
        stage=fold(op.name, source, op.weight, op.weight_scale, op.bias, mapped, op.clamp, residual, op.curve),
        pool=None if op.pooled is None else fold_pool(op.name, op.pooled, made),
        # pooling and activations count as none, as everywhere in the literature
        macs=0 if kind in ("avg_pool", "activation") else mapped.size * op.weight[0].size,
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
        residual_op=ResidualOp.NONE,
        map_shape=made.shape,
        kernel=(1, 1),
        stride=(1, 1),
        pad=(0, 0),
        in_zp=source.zero_point,
        weights=op.weight.reshape(*op.weight.shape, 1, 1),
        stage=fold(op.name, source, op.weight, op.weight_scale, op.bias, made, op.clamp, curve=op.curve),
        pool=None,
        macs=op.weight.size,
    )


def _max_pool(graph: Graph, op: MaxPool, views: dict[str, View], config: AcceleratorConfig) -> Kernel:
    source, made = graph[op.input], graph[op.output]
    _check_window(op, config)
    return Kernel(
        name=op.name,
        kind="max_pool",
        mode=Mode.MAX,
        depthwise=False,
        source=views[op.input],
        target=views[op.output],
        residual=None,
        residual_op=ResidualOp.NONE,
        map_shape=made.shape,
        kernel=op.kernel,
        stride=op.stride,
        pad=(op.padding[0], op.padding[1]),
        in_zp=_LOWEST,
        weights=None,
        stage=fold(op.name, source, None, np.ones(source.shape[0]), None, made, FULL_RANGE),
        pool=None,
        macs=0,
    )


def _vector(
    graph: Graph, op: Add | Requantise | Activation | ChannelScale | GlobalAvgPool, views: dict[str, View]
) -> Kernel:
    source, made = graph[op.input], graph[op.output]
    ones = np.ones(source.shape[0])
    second, residual_op, pool = None, ResidualOp.NONE, None
    match op:
        case GlobalAvgPool():
            # the map passes unchanged: multiplier 1, the same zero point
            keep = Tensor(source.name, source.shape, source.scale, source.zero_point)
            stage = fold(op.name, source, None, ones, None, keep, FULL_RANGE)
            pool, kind = fold_pool(op.name, source, made), "pool"
        case ChannelScale():
            second, residual_op, kind = op.gate, ResidualOp.SCALE, "scale"
            stage = fold_gate(op.name, source, graph[op.gate], made, op.curve)
        case Activation():
            stage, kind = fold(op.name, source, None, ones, None, made, FULL_RANGE, curve=op.kind), "activation"
        case Add():
            second, residual_op, kind = op.other, ResidualOp.ADD, "add"
            stage = fold(op.name, source, None, ones, None, made, op.clamp, graph[op.other])
        case Requantise():
            stage, kind = fold(op.name, source, None, ones, None, made, op.clamp), "requantise"
    return Kernel(
        name=op.name,
        kind=kind,
        mode=Mode.VEC,
        depthwise=False,
        source=views[op.input],
        target=views[op.output],
        residual=None if second is None else views[second],
        residual_op=residual_op,
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
