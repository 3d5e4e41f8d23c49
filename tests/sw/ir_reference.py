"""Two references for the IR, written independently of the compiler's folding: real-valued and integer.

The real-valued one quantises once per operator, as the q/dq graph of PyTorch does.

The integer one takes multipliers, shifts and bounds from the lowered kernels, but convolves in float64 with the zero
points where the definition has them, not folded into the bias, and has an output stage of its own in torch's integers.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from hw.spec.config import AcceleratorConfig
from sw.compiler.fold import OutputStage, Pool
from sw.compiler.ir import (
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
from sw.compiler.lower import lower


def _real(tensor: Tensor, q: np.ndarray) -> np.ndarray:
    return (q.astype(np.float64) - tensor.zero_point) * tensor.scale


def _to_int8(tensor: Tensor, real: np.ndarray, clamp: tuple[int, int] = (-128, 127)) -> np.ndarray:
    return np.clip(np.rint(real / tensor.scale) + tensor.zero_point, *clamp).astype(np.int8)


def _bias(graph: Graph, op: Conv | Linear) -> np.ndarray:
    if op.bias is None:
        return np.zeros(len(op.weight_scale))
    unit = graph[op.input].scale * op.weight_scale
    return op.bias * unit if np.issubdtype(op.bias.dtype, np.integer) else op.bias


def _padded(op: Conv | MaxPool | AvgPool, values: np.ndarray, fill: float) -> torch.Tensor:
    top, left, bottom, right = op.padding
    return F.pad(torch.from_numpy(values)[None], (left, right, top, bottom), value=fill)


def _convolve(op: Conv | Linear, centred: np.ndarray) -> np.ndarray:
    """Sum of (q - zp) * w, exact in float64."""
    if isinstance(op, Linear):
        return (op.weight.astype(np.float64) @ centred.reshape(-1)).reshape(-1, 1, 1)
    weight = torch.from_numpy(op.weight.astype(np.float64))
    return F.conv2d(_padded(op, centred, 0), weight, stride=op.stride, groups=op.groups)[0].numpy()


def _window_sum(op: AvgPool, centred: np.ndarray) -> np.ndarray:
    return F.avg_pool2d(_padded(op, centred, 0), op.kernel, op.stride, divisor_override=1)[0].numpy()


def _maximum(op: MaxPool, values: np.ndarray) -> np.ndarray:
    return F.max_pool2d(_padded(op, values, -np.inf), op.kernel, op.stride)[0].numpy()


def _curve(kind: str | None, real: np.ndarray) -> np.ndarray:
    """The non-linearity in real arithmetic, as PyTorch defines it."""
    if kind is None:
        return real
    function = {"hswish": F.hardswish, "hsigmoid": F.hardsigmoid}[kind]
    return function(torch.from_numpy(np.ascontiguousarray(real))).numpy()


def _views(op: Op, values: dict[str, np.ndarray], graph: Graph) -> np.ndarray | None:
    if isinstance(op, Slice):
        return values[op.input][op.start : op.stop]
    if isinstance(op, Reshape):
        return values[op.input].reshape(graph[op.output].shape)
    if isinstance(op, Concat):
        return np.concatenate([values[part] for part in op.parts])
    return None


def run_real(
    graph: Graph, inputs: dict[str, np.ndarray], given: dict[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Every tensor, computed in real arithmetic from its operator's inputs and rounded once.

    With `given`, inputs of operators are taken from there, so that errors do not add up from layer to layer.
    """
    values = dict(inputs)
    made: dict[str, np.ndarray] = {}
    for op in graph.ops:
        known = values if given is None else given
        made[op.output] = _real_op(graph, op, known)
        values[op.output] = made[op.output]
    return made


def _real_op(graph: Graph, op: Op, values: dict[str, np.ndarray]) -> np.ndarray:
    made = graph[op.output]
    if (view := _views(op, values, graph)) is not None:
        return view
    x = _real(graph[op.input], values[op.input])
    match op:
        case Conv() | Linear():
            scale = (graph[op.input].scale * op.weight_scale).reshape(-1, 1, 1)
            centred = values[op.input].astype(np.float64) - graph[op.input].zero_point
            real = _convolve(op, centred) * scale + _bias(graph, op).reshape(-1, 1, 1)
            if isinstance(op, Conv) and op.residual is not None:
                real = real + _real(graph[op.residual], values[op.residual])
            real = _curve(op.curve, real)
            if isinstance(op, Conv) and op.pooled is not None:
                q = _to_int8(op.pooled, real, op.clamp)
                return _to_int8(made, _real(op.pooled, q).mean((1, 2), keepdims=True))
            return _to_int8(made, real, op.clamp)
        case Add():
            return _to_int8(made, x + _real(graph[op.other], values[op.other]), op.clamp)
        case ChannelScale():
            return _to_int8(made, _curve(op.curve, x * _real(graph[op.gate], values[op.gate])))
        case GlobalAvgPool():
            return _to_int8(made, x.mean((1, 2), keepdims=True))
        case AvgPool():
            return _to_int8(made, _window_sum(op, x) / np.prod(op.kernel))
        case MaxPool():
            return _to_int8(made, _maximum(op, x))
        case Activation():
            return _to_int8(made, _curve(op.kind, x))
    assert isinstance(op, Requantise)
    return _to_int8(made, x, op.clamp)


def _accumulate(graph: Graph, op: Op, values: dict[str, np.ndarray]) -> np.ndarray:
    """Accumulator with bias, in integers of the layer's finest unit: the sum that the channel multiplier meets."""
    source = graph[op.inputs[0]]
    centred = values[source.name].astype(np.float64) - source.zero_point
    match op:
        case Conv() | Linear():
            unit = source.scale * op.weight_scale
            three = 3 if op.curve == "hsigmoid" else 0
            if op.bias is not None and np.issubdtype(op.bias.dtype, np.integer):
                bias = op.bias + np.rint(three / unit)
            else:
                bias = np.rint((_bias(graph, op) + three) / unit)
            return _convolve(op, centred) + bias.reshape(-1, 1, 1)
        case AvgPool():
            return _window_sum(op, centred)
        case MaxPool():
            return _maximum(op, values[source.name].astype(np.float64)) - source.zero_point
        case Activation(kind="hsigmoid"):
            return 127 * centred + round(3 * 127 / source.scale)
    return centred


def _halve(value: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Divide by a power of two, rounding to nearest, ties to even."""
    low = value >> bits
    rest = 2 * (value - (low << bits)) - (torch.ones_like(bits) << bits)
    return low + ((rest > 0) | ((rest == 0) & (low & 1 == 1))).to(torch.int64)


def _output(acc: np.ndarray, stage: OutputStage, second: np.ndarray | None, scale: bool) -> np.ndarray:
    """The output stage of the instruction set's EXEC section, bias already in `acc`."""
    mult, shift = (torch.from_numpy(value).reshape(-1, 1, 1) for value in (stage.mult, stage.shift))
    mid = _halve(torch.from_numpy(acc).to(torch.int64) * mult, shift).clamp(-(2**23), 2**23 - 1)
    other = 0 if second is None else torch.from_numpy(second.astype(np.int64)) - stage.res_zp
    if scale:
        mid = mid.clamp(-(2**15), 2**15 - 1) * other
    else:
        mid = mid + other * stage.res_mult
    if stage.hswish is not None:
        mid = _halve(mid, torch.tensor(8)) if scale else mid.clamp(-(2**15), 2**15 - 1)
        mid = mid * (mid + stage.hswish[0]).clamp(0, stage.hswish[1])
    q = _halve(mid, torch.tensor(stage.post_shift)) + stage.out_zp
    return q.clamp(stage.q_lo, stage.q_hi).numpy().astype(np.int8)


def _pool(q: np.ndarray, pool: Pool) -> np.ndarray:
    total = torch.from_numpy(q.astype(np.int64).sum((1, 2), keepdims=True)) + pool.bias
    mean = _halve(total * pool.mult, torch.tensor(pool.shift)).clamp(-(2**23), 2**23 - 1) + pool.zp
    return mean.clamp(-128, 127).numpy().astype(np.int8)


def run_integer(graph: Graph, config: AcceleratorConfig, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every tensor of an optimised graph, bit for bit as the hardware must compute it."""
    kernels = {kernel.name: kernel for kernel in lower(graph, config)[0]}
    values = dict(inputs)
    for op in graph.ops:
        if (view := _views(op, values, graph)) is not None:
            values[op.output] = view
            continue
        kernel = kernels[op.name]
        second = next((getattr(op, name) for name in ("residual", "other", "gate") if getattr(op, name, None)), None)
        q = _output(
            _accumulate(graph, op, values),
            kernel.stage,
            None if second is None else values[second],
            isinstance(op, ChannelScale),
        )
        values[op.output] = q if kernel.pool is None else _pool(q, kernel.pool)
    return values
