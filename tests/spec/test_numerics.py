"""The integer arithmetic against exact rational numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.spec.numerics import NUMERICS, Numerics, QuantRangeError, quantize_multiplier, rshift_round


def exact(value: int, shift: int) -> int:
    """Round to nearest, ties to even: what Python's round() does with an exact fraction."""
    return round(Fraction(value, 1 << shift))


def clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def saturated(value: int, width: int) -> int:
    return clamp(value, -(1 << (width - 1)), (1 << (width - 1)) - 1)


@given(st.integers(-(1 << 61), 1 << 61), st.integers(0, 63))
def test_rounding_shift(value: int, shift: int) -> None:
    assert rshift_round(value, shift) == exact(value, shift)


@pytest.mark.parametrize("shift", range(59))
def test_rounding_shift_at_and_around_ties(shift: int) -> None:
    half = 1 << max(shift - 1, 0)
    values = [sign * (k * 2 * half + half) + d for sign in (-1, 1) for k in range(9) for d in (-1, 0, 1)]
    assert rshift_round(values, shift).tolist() == [exact(value, shift) for value in values]


def test_ties_go_to_the_even_neighbour() -> None:
    assert rshift_round([-5, -3, -1, 1, 3, 5, 7], 1).tolist() == [-2, -2, 0, 0, 2, 2, 4]
    assert rshift_round([[2, 6], [10, 14]], [[2], [2]]).tolist() == [[0, 2], [2, 4]]


def test_shift_by_zero_changes_nothing() -> None:
    values = np.array([-(1 << 47), -1, 0, 1, (1 << 47) - 1])
    assert (rshift_round(values, 0) == values).all()


int32 = st.integers(-(1 << 31), (1 << 31) - 1)
int8 = st.integers(-128, 127)


@given(int32, int32, st.integers(0, 65535), st.integers(0, 47), int8, int8, int8, st.integers(0, 31), st.data())
def test_output(
    total: int, bias: int, mult: int, shift: int, zp: int, a: int, b: int, post: int, data: st.DataObject
) -> None:
    acc = clamp(total - bias, -(1 << 31), (1 << 31) - 1)
    if not -(1 << 31) <= acc + bias < 1 << 31:
        return
    low, high = sorted((a, b))
    residual, res_zp, res_mult = data.draw(int8), data.draw(int8), data.draw(st.integers(0, 65535))
    mid = saturated(exact((acc + bias) * mult, shift), 24)
    common = {"out_zp": zp, "q_lo": low, "q_hi": high, "post_shift": post}
    plain = NUMERICS.output(acc, bias, mult, shift, **common)
    assert plain == clamp(exact(mid, post) + zp, low, high)
    added = NUMERICS.output(acc, bias, mult, shift, **common, residual=residual, res_zp=res_zp, res_mult=res_mult)
    assert added == clamp(exact(mid + (residual - res_zp) * res_mult, post) + zp, low, high)
    factor = saturated(mid, 16)
    gated = NUMERICS.output(acc, bias, mult, shift, **common, gate=residual, res_zp=res_zp)
    assert gated == clamp(exact(factor * (residual - res_zp), post) + zp, low, high)
    offset, limit = data.draw(st.integers(0, 32767)), data.draw(st.integers(0, 65535))
    curved = NUMERICS.output(acc, bias, mult, shift, **common, hswish=(offset, limit))
    assert curved == clamp(exact(factor * clamp(factor + offset, 0, limit), post) + zp, low, high)
    both = NUMERICS.output(acc, bias, mult, shift, **common, gate=residual, res_zp=res_zp, hswish=(offset, limit))
    factor = exact(factor * (residual - res_zp), 8)
    assert saturated(factor, 16) == factor
    assert both == clamp(exact(factor * clamp(factor + offset, 0, limit), post) + zp, low, high)
    assert plain.dtype == added.dtype == gated.dtype == curved.dtype == both.dtype == np.int8


def test_gate_has_the_second_operand_to_itself() -> None:
    with pytest.raises(ValueError, match="a gate excludes a residual"):
        NUMERICS.output(1, 0, 1, 0, out_zp=0, q_lo=-128, q_hi=127, gate=1, residual=1)


@pytest.mark.parametrize("out_scale", [0.003, 0.02, 0.0471, 0.11])
def test_h_swish_needs_no_second_scaling(out_scale: float) -> None:
    post = 20
    unit = math.sqrt(6 * out_scale * 2.0**-post)
    x = np.linspace(-8, 127 * out_scale, 4001)
    offset, limit = round(3 / unit), round(6 / unit)
    q = NUMERICS.output(np.rint(x * 2**20), 0, *quantize_multiplier(2.0**-20 / unit), out_zp=-100, q_lo=-128, q_hi=127,
                        post_shift=post, hswish=(offset, limit))  # fmt: skip
    exact_q = np.clip(x * np.clip(x + 3, 0, 6) / 6 / out_scale - 100, -128, 127)
    assert np.abs(q - exact_q).max() <= 0.55


def test_without_residual_it_is_the_textbook_requantisation() -> None:
    rng = np.random.default_rng(1)
    acc = rng.integers(-40000, 40000, (5, 3, 4))
    mult, shift = quantize_multiplier(0.0031)
    got = NUMERICS.output(acc, 0, mult, shift, out_zp=3, q_lo=-128, q_hi=127)
    assert (got == np.clip(np.rint(acc * (mult / 2**shift)) + 3, -128, 127)).all()


def test_channels_broadcast() -> None:
    acc = np.arange(12).reshape(3, 2, 2) * 100
    bias, mult, shift = (np.array(v)[:, None, None] for v in ([1, 2, 3], [4, 5, 6], [3, 4, 5]))
    whole = NUMERICS.output(acc, bias, mult, shift, out_zp=0, q_lo=-128, q_hi=127)
    for c in range(3):
        one = NUMERICS.output(
            acc[c], int(bias[c, 0, 0]), int(mult[c, 0, 0]), int(shift[c, 0, 0]), out_zp=0, q_lo=-128, q_hi=127
        )
        assert (whole[c] == one).all()


def test_accumulator_limits() -> None:
    common = {"out_zp": 0, "q_lo": -128, "q_hi": 127}
    top = (1 << 31) - 1
    assert NUMERICS.output(top, 0, 1, 31, **common) == 1
    assert NUMERICS.output(-top - 1, 0, 1, 24, **common) == -128
    for acc, bias in ((top, 1), (-top - 1, -1), ([0, top], [0, 5])):
        with pytest.raises(QuantRangeError, match="accumulator .* exceeds 32 bits"):
            NUMERICS.output(acc, bias, 1, 0, **common)


@given(
    st.integers(-(1 << 26), 1 << 26),
    st.integers(-(1 << 25), (1 << 25) - 1),
    st.integers(0, 65535),
    st.integers(0, 47),
    int8,
)
def test_pool(total: int, bias: int, mult: int, shift: int, zp: int) -> None:
    expected = clamp(saturated(exact((total + bias) * mult, shift), 24) + zp, -128, 127)
    assert NUMERICS.pool(total, bias=bias, mult=mult, shift=shift, zp=zp) == expected


def test_pool_limits() -> None:
    limit = 1 << 27
    assert NUMERICS.pool(limit - 1, bias=0, mult=1, shift=27, zp=0) == 1
    for total, bias in ((limit, 0), (limit - 1, 1), (-limit, -1)):
        with pytest.raises(QuantRangeError, match="pooled sum .* exceeds 28 bits"):
            NUMERICS.pool(total, bias=bias, mult=1, shift=0, zp=0)


def test_pool_averages() -> None:
    rng = np.random.default_rng(2)
    maps = rng.integers(-128, 128, (50, 7, 7))
    mult, shift = quantize_multiplier(1 / 49)
    got = NUMERICS.pool(maps.sum(axis=(1, 2)), bias=0, mult=mult, shift=shift, zp=0)
    assert np.abs(got - maps.mean(axis=(1, 2))).max() <= 0.5 + 128 * 49 / 2**16 / 49


@given(st.floats(1e-9, 65535.4, allow_nan=False))
def test_multiplier_is_the_nearest(real: float) -> None:
    mult, shift = quantize_multiplier(real)
    assert 0 <= mult < 1 << 16
    assert 0 <= shift <= NUMERICS.max_shift
    assert shift == NUMERICS.max_shift or mult >= 1 << 15 or shift == 0
    error = abs(Fraction(mult, 1 << shift) - Fraction(real))
    assert error <= Fraction(1, 2 << shift)


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0, (0, 0)), (1.0, (1 << 15, 15)), (0.5, (1 << 15, 16)), (65535.0, (65535, 0)), (65535.4, (65535, 0)),
        (math.nextafter(1.0, 0.0), (1 << 15, 15)), (2.0**-47, (1, 47)), (2.0**-60, (0, 47)),
    ],
)  # fmt: skip
def test_multiplier_corners(real: float, expected: tuple[int, int]) -> None:
    assert quantize_multiplier(real) == expected


@pytest.mark.parametrize("real", [-1e-9, 65535.5, 1e9, math.inf, math.nan])
def test_multiplier_out_of_range(real: float) -> None:
    with pytest.raises(QuantRangeError, match="outside 0 to 65535"):
        quantize_multiplier(real)


def test_widths() -> None:
    assert NUMERICS.max_shift == 47
    assert NUMERICS.to_dict()["acc_width"] == 32
    assert Numerics.saturate([-129, -128, 127, 128], 8).tolist() == [-128, -128, 127, 127]
