"""Folding real-valued quantisation into the output stage's integers, and the proof that the accumulator holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.spec.isa import EXEC
from hw.spec.numerics import NUMERICS, QuantRangeError, quantize_multiplier
from sw.compiler.curves import HSIGMOID_BIAS, HSIGMOID_DIVISOR, INT8_SPAN, gate_shift, hsigmoid_clamp, hswish, map_reach
from sw.compiler.errors import CompileError
from sw.compiler.ir import FULL_RANGE, Curve, Tensor

__all__ = ["OutputStage", "Pool", "fold", "fold_gate", "fold_pool", "residual_shift"]

Ints = npt.NDArray[np.int64]

_SIDE = 2 * INT8_SPAN
"""|t| from which clamp(t + zp) is at a bound whatever the zero point, in output LSB."""


@dataclass(frozen=True, eq=False)
class OutputStage:
    """Parameters of :meth:`hw.spec.numerics.Numerics.output`; the first three have one entry per output channel.

    `res_zp` is the zero point of a residual or gate, `hswish` (act_offset, act_limit) or None.
    """

    bias: Ints
    mult: Ints
    shift: Ints
    out_zp: int
    q_lo: int
    q_hi: int
    post_shift: int = 0
    res_zp: int = 0
    res_mult: int = 0
    hswish: tuple[int, int] | None = None


@dataclass(frozen=True)
class Pool:
    """Parameters of :meth:`hw.spec.numerics.Numerics.pool`."""

    bias: int
    mult: int
    shift: int
    zp: int


def residual_shift(ratio: float, largest: float) -> int:
    """Return the most fraction bits (``post_shift``) a residual sum can carry.

    Parameters
    ----------
    ratio
        Residual's scale / output's scale; ``res_mult = round(ratio * 2**post_shift)`` must fit its field.
    largest
        Largest channel multiplier at post_shift 0; times ``2**post_shift`` it must be a valid multiplier.

    The 24-bit middle value saturates at ``2**(23 - post_shift)`` output LSB.  That is harmless if even the largest
    residual of the other sign, ``255 * ratio``, leaves the sum beyond every clamp bound, so that the result is the
    same bound with and without saturation.

    Raises
    ------
    QuantRangeError
        If not even 0 bits fit.
    """
    limit = (1 << NUMERICS.mult_width) - 1
    for bits in reversed(range(1 << NUMERICS.post_width)):
        harmless = math.ldexp(1, NUMERICS.mid_width - 1 - bits) >= INT8_SPAN * ratio + _SIDE
        if harmless and round(math.ldexp(ratio, bits)) <= limit and math.ldexp(largest, bits) < limit:
            return bits
    raise QuantRangeError(f"residual scale is {ratio:.4g} times the output's (limit about {(1 << 15) / INT8_SPAN:.0f})")


def fold(
    layer: str,
    source: Tensor,
    weight: npt.NDArray[np.int8] | None,
    weight_scale: npt.NDArray[np.float64],
    bias: npt.NDArray[Any] | None,
    target: Tensor,
    clamp: tuple[int, int],
    residual: Tensor | None = None,
    curve: Curve | None = None,
) -> OutputStage:
    """Return the output stage of a layer.

    ``acc`` sums raw input bytes, so the bias absorbs the zero point: ``round(b / (s_in * s_w)) - zp_in * sum(w)``.

    Parameters
    ----------
    weight
        (cout, anything); None for a copy or addition, whose accumulator is the input byte itself.
    weight_scale
        (cout,); ones without weights.
    curve
        Applied to the sum, after the residual.

    Raises
    ------
    CompileError
        Naming the layer, if a multiplier is out of range or the accumulator could exceed its width.
    """
    units = source.scale * np.asarray(weight_scale, np.float64)
    offset = HSIGMOID_BIAS if curve == "hsigmoid" else 0
    total = _bias(layer, source, weight, units, bias, offset)
    unit, post, constants = target.scale, 0, None
    if curve == "hsigmoid":
        unit, clamp = HSIGMOID_DIVISOR * target.scale, hsigmoid_clamp(target, clamp)
    try:
        if curve == "hswish":
            found = hswish(target, clamp[1], float(units.max()), residual)
            unit, post, constants = found.unit, found.post_shift, (found.offset, found.limit)
        elif residual is not None:
            post = residual_shift(residual.scale / unit, float(units.max()) / unit)
            unit = math.ldexp(unit, -post)
        mult, shift = _multipliers(units / unit)
    except QuantRangeError as error:
        raise CompileError(layer, _unfit(error, source, target)) from None
    return OutputStage(
        total,
        mult,
        shift,
        out_zp=target.zero_point,
        q_lo=clamp[0],
        q_hi=clamp[1],
        post_shift=post,
        res_zp=0 if residual is None else residual.zero_point,
        res_mult=0 if residual is None else round(residual.scale / unit),
        hswish=constants,
    )


def fold_gate(layer: str, source: Tensor, gate: Tensor, target: Tensor, curve: Curve | None = None) -> OutputStage:
    """Return the output stage of a map that is multiplied with a gate per channel, and then goes through a curve.

    The factor's rounding shows as at most ``scale ratio`` output LSB (about 1/255 where output and map are alike).

    Parameters
    ----------
    curve
        ``"hswish"`` or None; the product is then rounded once more, to h-swish's 16-bit argument.

    Raises
    ------
    CompileError
        Naming the layer, if the scales are too far apart.
    """
    channels = source.shape[0]
    unit, constants = source.scale * gate.scale, None
    try:
        if curve == "hswish":
            unit = math.ldexp(unit, NUMERICS.gate_bits)
            found = hswish(target, FULL_RANGE[1], unit, None, map_reach(source))
            post, constants = found.post_shift, (found.offset, found.limit)
            ratio = unit / found.unit
        else:
            post = gate_shift(source, unit / target.scale)
            ratio = math.ldexp(unit / target.scale, post)
        mult, shift = _multipliers(np.full(channels, ratio))
    except QuantRangeError as error:
        raise CompileError(layer, _unfit(error, source, target)) from None
    bias = np.full(channels, -source.zero_point, np.int64)
    return OutputStage(
        bias,
        mult,
        shift,
        target.zero_point,
        *FULL_RANGE,
        post_shift=post,
        res_zp=gate.zero_point,
        hswish=constants,
    )


def _unfit(error: QuantRangeError, source: Tensor, target: Tensor) -> str:
    return f"{error}: scales {source.scale:.4g} (input), {target.scale:.4g} (output) do not fit together"


def _multipliers(reals: npt.NDArray[np.float64]) -> tuple[Ints, Ints]:
    pairs = [quantize_multiplier(real, max_shift=NUMERICS.max_shift) for real in reals.tolist()]
    mult, shift = np.array(pairs, np.int64).reshape(-1, 2).T
    return mult, shift


def _bias(
    layer: str,
    source: Tensor,
    weight: npt.NDArray[np.int8] | None,
    units: npt.NDArray[np.float64],
    bias: npt.NDArray[Any] | None,
    offset: float,
) -> Ints:
    """Return the integer biases, `offset` (real) included, if the accumulator provably holds every sum."""
    taps = np.ones((units.size, 1), np.int64) if weight is None else weight.reshape(units.size, -1).astype(np.int64)
    whole = bias if bias is not None and np.issubdtype(bias.dtype, np.integer) else np.zeros(units.size)
    real = bias if bias is not None and np.issubdtype(bias.dtype, np.floating) else np.zeros(units.size)
    total = np.asarray(whole, np.float64) + np.rint((real + offset) / units) - source.zero_point * taps.sum(1)
    low = np.minimum(taps * -128, taps * 127).sum(1)
    high = np.maximum(taps * -128, taps * 127).sum(1)
    worst = np.abs(total) + np.maximum(np.maximum(high, -low), 0)
    if worst.max() >= 1 << (NUMERICS.bias_width - 1):
        channel = int(worst.argmax())
        raise CompileError(
            layer,
            f"channel {channel}: bias {total[channel]:.0f} and sums of {low[channel]} to {high[channel]} can exceed "
            f"the {NUMERICS.acc_width}-bit accumulator; quantise with a larger weight scale or split the layer",
        )
    return total.astype(np.int64)


def fold_pool(layer: str, mapped: Tensor, target: Tensor) -> Pool:
    """Return the pooling parameters: the mean of a map's bytes, requantised.

    Raises
    ------
    CompileError
        Naming the layer, if the map is too large for the pooling accumulator or the multiplier out of range.
    """
    pixels = mapped.plane
    bias_limit = next(field for field in EXEC.fields if field.name == "gap_bias").maximum
    limit = min(((1 << (NUMERICS.pool_width - 1)) - 1) // INT8_SPAN, bias_limit // 128)
    if pixels > limit:
        raise CompileError(layer, f"pools {pixels} pixels; at most {limit} fit the {NUMERICS.pool_width}-bit sum")
    try:
        mult, shift = quantize_multiplier(
            mapped.scale / (target.scale * pixels), max_shift=NUMERICS.pool_width + NUMERICS.mult_width - 1
        )
    except QuantRangeError as error:
        raise CompileError(layer, f"pooling: {error}") from None
    return Pool(bias=-pixels * mapped.zero_point, mult=mult, shift=shift, zp=target.zero_point)
