"""Two references for the IR, written independently of the compiler's folding: real-valued and integer.

The real-valued one quantises once per operator, as the q/dq graph of PyTorch does.

The integer one takes multipliers from the lowered kernels, but convolves in float64 and with the zero points where
the definition has them, not folded into the bias.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from hw.spec.config import AcceleratorConfig
from hw.spec.numerics import NUMERICS
from sw.compiler.ir import Add, Concat, Conv, GlobalAvgPool, Graph, Linear, Op, Requantise, Reshape, Slice, Tensor
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


def _convolve(graph: Graph, op: Conv | Linear, centred: np.ndarray) -> np.ndarray:
    """Sum of (q - zp) * w, exact in float64."""
    if isinstance(op, Linear):
        return (op.weight.astype(np.float64) @ centred.reshape(-1)).reshape(-1, 1, 1)
    top, left, bottom, right = op.padding
    padded = F.pad(torch.from_numpy(centred)[None], (left, right, top, bottom))
    return F.conv2d(padded, torch.from_numpy(op.weight.astype(np.float64)), stride=op.stride, groups=op.groups)[
        0
    ].numpy()


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
    if isinstance(op, Conv | Linear):
        scale = (graph[op.input].scale * op.weight_scale).reshape(-1, 1, 1)
        centred = values[op.input].astype(np.float64) - graph[op.input].zero_point
        real = _convolve(graph, op, centred) * scale + _bias(graph, op).reshape(-1, 1, 1)
        if isinstance(op, Conv) and op.residual is not None:
            real = real + _real(graph[op.residual], values[op.residual])
        if isinstance(op, Conv) and op.pooled is not None:
            q = _to_int8(op.pooled, real, op.clamp)
            return _to_int8(made, _real(op.pooled, q).mean((1, 2), keepdims=True))
        return _to_int8(made, real, op.clamp)
    if isinstance(op, Add):
        return _to_int8(made, x + _real(graph[op.other], values[op.other]), op.clamp)
    if isinstance(op, GlobalAvgPool):
        return _to_int8(made, x.mean((1, 2), keepdims=True))
    assert isinstance(op, Requantise)
    return _to_int8(made, x, op.clamp)


def run_integer(graph: Graph, config: AcceleratorConfig, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every tensor of an optimised graph, bit for bit as the hardware must compute it."""
    kernels = {kernel.name: kernel for kernel in lower(graph, config)[0]}
    values = dict(inputs)
    for op in graph.ops:
        if (view := _views(op, values, graph)) is not None:
            values[op.output] = view
            continue
        source, stage = graph[op.input], kernels[op.name].stage
        centred = values[op.input].astype(np.float64) - source.zero_point
        if isinstance(op, Conv | Linear):
            bias = np.rint(_bias(graph, op) / (source.scale * op.weight_scale))
            acc = _convolve(graph, op, centred) + bias.reshape(-1, 1, 1)
        else:
            acc = centred
        residual = getattr(op, "residual", None) or getattr(op, "other", None)
        q = NUMERICS.output(
            acc.astype(np.int64),
            0,
            stage.mult.reshape(-1, 1, 1),
            stage.shift.reshape(-1, 1, 1),
            out_zp=stage.out_zp,
            q_lo=stage.q_lo,
            q_hi=stage.q_hi,
            post_shift=stage.post_shift,
            residual=None if residual is None else values[residual],
            res_zp=stage.res_zp,
            res_mult=stage.res_mult,
        )
        if (pool := kernels[op.name].pool) is not None:
            total = q.astype(np.int64).sum((1, 2), keepdims=True)
            q = NUMERICS.pool(total, bias=pool.bias, mult=pool.mult, shift=pool.shift, zp=pool.zp)
        values[op.output] = q
    return values
