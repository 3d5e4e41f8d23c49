"""Integer forms of the non-linearities: units and constants for h-swish, h-sigmoid and channel gates.

h-swish is a product, so the channel shift must leave z in a unit whose square fits the final shift::

    u = z / s_u                                    s_u ~ sqrt(6 * s_out * 2**-k)
    u * clamp(u + 3/s_u, 0, 6/s_u) * 2**-k         = z * clamp(z + 3, 0, 6) / 6 / s_out

With the limit 6/s_u rounded to an integer, ``s_u = limit * s_out * 2**-k`` makes the straight part, ``u * limit``,
exact; the error moves to the bend, where it is far below an output LSB for any scale.

Behind a gate the channel shift leaves the map's value in that unit, 8 bits finer; the gate's product is rounded to it.

h-sigmoid needs no product: clamp((z + 3) / 6, 0, 1) is z with another scale, bias and other clamp bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hw.spec.numerics import NUMERICS, QuantRangeError, rshift_round
from sw.compiler.ir import Tensor

__all__ = ["HSIGMOID_BIAS", "HSIGMOID_DIVISOR", "HSwish", "gate_shift", "hsigmoid_clamp", "hswish", "map_reach"]

HSIGMOID_BIAS, HSIGMOID_DIVISOR = 3, 6

INT8_SPAN = 255
_MULT_LIMIT = (1 << NUMERICS.mult_width) - 1
_FACTOR_MAX = (1 << (NUMERICS.factor_width - 1)) - 1


@dataclass(frozen=True)
class HSwish:
    """How h-swish is computed: `unit` is the real value of u = 1, the rest are instruction fields."""

    post_shift: int
    unit: float
    offset: int
    limit: int


def hswish(target: Tensor, top: int, largest: float, residual: Tensor | None, reach: int | None = None) -> HSwish:
    """Return the finest unit in which h-swish is computed without harm.

    Parameters
    ----------
    target
        Output; its scale and zero point count.
    top
        Upper clamp bound.
    largest
        Largest real value of an accumulator unit; the channel multiplier ``largest / unit`` must be valid.
    residual
        Map added before the curve: its multiplier ``round(scale / unit)`` must fit, and the middle value's saturation
        must not show through the largest residual of the other sign.
    reach
        Of a gated map, the largest magnitude of an accumulator: times its multiplier it must fit 16 bits, since a gate
        would shrink what saturates.

    The 16-bit saturation of u is harmless: at the upper end the result is at `top` already, at the lower end
    u + offset is negative and the product 0, as without saturation.

    Raises
    ------
    QuantRangeError
        If no unit meets all bounds.
    """
    headroom = (1 << (NUMERICS.mid_width - 1)) - (1 << (NUMERICS.factor_width - 1))
    for bits in reversed(range(1 << NUMERICS.post_width)):
        limit = round(6 / math.sqrt(6 * math.ldexp(target.scale, -bits)))
        if limit < 1:
            continue
        unit = math.ldexp(target.scale * limit, -bits)
        offset = round(3 / unit)
        if offset >= 1 << NUMERICS.offset_width or limit >= 1 << NUMERICS.limit_width or largest / unit >= _MULT_LIMIT:
            continue
        if residual is not None and round(residual.scale / unit) > min(headroom // INT8_SPAN, _MULT_LIMIT):
            continue
        if reach is not None:
            if reach * largest / unit <= _FACTOR_MAX:
                return HSwish(bits, unit, offset, limit)
            continue
        ceiling = rshift_round(_FACTOR_MAX * min(_FACTOR_MAX + offset, limit), bits) + target.zero_point
        if ceiling >= top:
            return HSwish(bits, unit, offset, limit)
    raise QuantRangeError("no 16-bit unit of h-swish's argument")


def hsigmoid_clamp(target: Tensor, clamp: tuple[int, int]) -> tuple[int, int]:
    """Return the clamp bounds that limit a result to 0..1 and to `clamp`."""
    low, high = (round(real / target.scale) + target.zero_point for real in (0, 1))
    bounds = np.clip((low, high), *clamp)
    return int(bounds[0]), int(bounds[1])


def map_reach(source: Tensor) -> int:
    """Return the largest magnitude of a map's bytes less their zero point."""
    return max(source.zero_point + 128, 127 - source.zero_point)


def gate_shift(source: Tensor, ratio: float) -> int:
    """Return the most fraction bits (``post_shift``) of a map's value that is multiplied with a gate.

    Parameters
    ----------
    source
        The map; with its zero point, its values reach at most 255 in magnitude.
    ratio
        Map's scale * gate's scale / output's scale: ``(q - zp) * ratio * 2**post_shift`` must fit the 16-bit factor.

    Raises
    ------
    QuantRangeError
        If not even 0 bits fit.
    """
    for bits in reversed(range(1 << NUMERICS.post_width)):
        if math.ldexp(map_reach(source) * ratio, bits) <= _FACTOR_MAX:
            return bits
    raise QuantRangeError(f"map's times gate's scale is {ratio:.4g} times the output's")
