"""Random output stages: parameters and fields that spread results over int8, whatever is multiplied with what."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.spec.isa import EXEC, Activation, ResidualOp
from hw.spec.numerics import NUMERICS, quantize_multiplier
from hw.spec.program import PARAM_DTYPE
from sim.random_draw import Draw
from sim.random_shapes import Shape

__all__ = ["random_operation", "random_stage"]

_RESULT = 50.0
"""Standard deviation wanted of results, in units of the output."""

_PIXEL = 74.0
"""Standard deviation of a uniform int8."""

_MAXIMUM = {field.name: field.maximum for field in EXEC.fields}
"""Largest value a field holds."""


def random_operation(draw: Draw) -> tuple[ResidualOp, Activation, int]:
    """Draw ``res``, ``act`` and ``gap`` that may stand together."""
    res = draw.pick((ResidualOp.NONE, ResidualOp.NONE, ResidualOp.ADD, ResidualOp.SCALE))
    act = Activation.HSWISH if draw.chance(0.3) else Activation.NONE
    gap = draw.chance(0.2)
    if gap and res == ResidualOp.NONE and draw.chance(0.6):
        res = ResidualOp.POOL
    return res, act, int(gap)


def random_stage(
    draw: Draw, shape: Shape, res: ResidualOp, act: Activation, gap: int
) -> tuple[dict[str, int], npt.NDArray[Any]]:
    """Return the output stage's fields, all but ``p_base`` and ``res_base``, and a parameter entry per channel.

    One entry in twenty, and one EXEC in twelve, are far from any sensible scale, but no accumulator overflows.

    Parameters
    ----------
    draw
        Source of the numbers.
    shape
        Geometry of the EXEC.
    res, act, gap
        The fields of these names.
    """
    gated, curved = res == ResidualOp.SCALE, act == Activation.HSWISH
    product = gated or curved
    fraction = draw.between(0, 15) if res == ResidualOp.ADD else draw.between(0, 1) * draw.between(0, 4)
    if product:
        fraction = draw.between(0, 8)
    params = _params(draw, shape, fraction)
    # h-swish: the number 6 about as large as the results, and 3 mostly half of it.
    share = _PIXEL / (1 << NUMERICS.gate_bits) if gated else 1.0  # what a gate leaves of them
    limit = min(int(_RESULT * share * 2.0**fraction * draw.rng.uniform(0.2, 2)), _MAXIMUM["act_limit"])
    offset = limit // 2 if draw.chance(0.7) else draw.between(0, limit)
    # A product's other factor takes its share of the shift.
    factor = limit * share if curved else _PIXEL
    bits = round(math.log2(factor + 1)) + draw.between(-2, 2) if product else 0
    narrow = draw.chance(0.4)
    pixels = shape.out_h * shape.out_w
    out_zp = draw.between(-128, 127) if draw.chance(0.3) else draw.between(-40, 40)
    gap_mult, gap_shift = quantize_multiplier(draw.rng.uniform(0.5, 4) / pixels)
    fields = {
        "out_zp": out_zp,
        "q_lo": draw.between(-128, 0) if narrow else -128,
        "q_hi": draw.between(0, 127) if narrow else 127,
        "post_shift": min(max(fraction + bits, 0), _MAXIMUM["post_shift"]),
        "act": int(act),
        "act_offset": min(offset, _MAXIMUM["act_offset"]),
        "act_limit": limit,
        "res": int(res),
        "res_zp": draw.between(-128, 127),
        "res_mult": int(2**fraction * draw.rng.uniform(0.2, 1.5)),
        "gap": gap,
        "gap_bias": -pixels * out_zp + draw.between(-pixels, pixels),
        "gap_mult": gap_mult,
        "gap_shift": gap_shift,
        "gap_zp": draw.between(-128, 127),
    }
    if draw.chance(1 / 12):
        for name in ("post_shift", "act_offset", "act_limit", "res_mult"):
            fields[name] = draw.between(0, _MAXIMUM[name])
    return fields, params


def _params(draw: Draw, shape: Shape, fraction: int) -> npt.NDArray[Any]:
    """Return parameters whose channel shift leaves `fraction` bits below the output's unit."""
    spread = _PIXEL if shape.single and not shape.macs else _PIXEL**2 * shape.taps**0.5
    params = np.zeros(shape.cout, PARAM_DTYPE)
    for entry in params:
        real = _RESULT * 2.0 ** draw.rng.uniform(-1.5, 1.5) / spread * 2**fraction
        entry["mult"], entry["shift"] = quantize_multiplier(min(real, 60_000.0))
        entry["bias"] = int(draw.rng.normal() * spread)
        if draw.chance(0.05):
            entry["bias"] = draw.between(-(1 << 30), 1 << 30)
            entry["mult"], entry["shift"] = draw.between(0, 65535), draw.between(0, NUMERICS.max_shift)
    return params
