"""Constants of curves and gates: the finest that are harmless, for every value they can meet."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hw.spec.numerics import NUMERICS, QuantRangeError, rshift_round
from sw.compiler import CompileError
from sw.compiler.curves import gate_shift, hsigmoid_clamp, hswish
from sw.compiler.fold import fold, fold_gate
from sw.compiler.ir import FULL_RANGE, Tensor


def tensor(scale: float, zero_point: int = 0) -> Tensor:
    return Tensor("t", (2, 4, 4), scale, zero_point)


def product(u: np.ndarray, offset: int, limit: int) -> np.ndarray:
    """The product of u, which may be as large as it likes."""
    return u * np.clip(u + offset, 0, limit)


SCALES = [0.0005, 0.01, 0.0236, 0.05, 0.4, 2.0]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("zero_point", [-128, -113, 0, 100])
@pytest.mark.parametrize("top", [127, 60])
@pytest.mark.parametrize("residual", [None, 0.05, 1.5])
def test_saturation_of_h_swish_never_shows(scale: float, zero_point: int, top: int, residual: float | None) -> None:
    target = tensor(scale, zero_point)
    found = hswish(target, top, 1e-4, None if residual is None else tensor(residual))
    assert found.unit == math.ldexp(scale * found.limit, -found.post_shift) and found.offset == round(3 / found.unit)
    assert abs(found.limit - 6 / math.sqrt(6 * scale * 2.0**-found.post_shift)) <= 0.5
    assert found.offset < 1 << NUMERICS.offset_width and found.limit < 1 << NUMERICS.limit_width
    res_mult = 0 if residual is None else round(residual / found.unit)
    assert res_mult < 1 << NUMERICS.mult_width
    edges = [1 << (NUMERICS.mid_width - 1), 1 << (NUMERICS.factor_width - 1), found.offset, found.limit]
    t = np.unique([sign * (edge + step) for edge in edges for step in range(-2, 3) for sign in (-1, 1)])
    for other in (-255, 0, 255):
        exact = rshift_round(product(t + other * res_mult, found.offset, found.limit), found.post_shift) + zero_point
        got = NUMERICS.output(
            t, 0, 1, 0,
            out_zp=zero_point, q_lo=-128, q_hi=top, post_shift=found.post_shift, hswish=(found.offset, found.limit),
            residual=other, res_mult=res_mult,
        )  # fmt: skip
        assert np.array_equal(got, np.clip(exact, -128, top))


@pytest.mark.parametrize("scale", [*SCALES, 9.33, 12.9, 40.0, 100.0])
@pytest.mark.parametrize("zero_point", [-128, -100])
def test_h_swish_is_exact_but_for_its_rounding(scale: float, zero_point: int) -> None:
    found = hswish(tensor(scale, zero_point), 127, 1e-4, None)
    z = np.concatenate([np.linspace(-6, 6, 5001), np.linspace(-20, 260 * scale, 20001)])
    exact = z * np.clip(z + 3, 0, 6) / 6 / scale + zero_point
    got = NUMERICS.output(
        np.rint(z / found.unit).astype(np.int64), 0, 1, 0,
        out_zp=zero_point, q_lo=-128, q_hi=127, post_shift=found.post_shift, hswish=(found.offset, found.limit),
    )  # fmt: skip
    # of the result, and half a unit of z, by which h-swish rises at most 1.09 times
    assert np.abs(got - np.clip(exact, -128, 127)).max() < 0.51 + 1.1 * found.unit / 2 / scale


def test_h_swish_takes_the_finest_unit() -> None:
    # one bit more and 3 would not fit 15 bits
    found = hswish(tensor(0.01, -120), 127, 1e-4, None)
    assert 3 / math.sqrt(6 * 0.01 * 2.0 ** -(found.post_shift + 1)) >= (1 << 15) - 0.5
    # a wide range needs a coarser unit than those 15 bits allow
    wide = hswish(tensor(0.2, -127), 127, 1e-4, None)
    assert wide.offset < 1 << 13 and wide.unit * (1 << 15) > 254 * 0.2
    # and so does a coarse accumulator
    assert 60.0 / hswish(tensor(0.02, -120), 127, 60.0, None).unit < 65535


def test_h_swish_of_impossible_scales_is_refused() -> None:
    with pytest.raises(QuantRangeError, match="h-swish"):
        hswish(tensor(1e-9), 127, 1e-4, tensor(10.0))
    with pytest.raises(CompileError, match="layer l: no 16-bit unit of h-swish's argument: scales"):
        fold("l", tensor(1e6), None, np.ones(2), None, tensor(0.02), FULL_RANGE, curve="hswish")


@pytest.mark.parametrize(("scale", "zero_point"), [(1 / 255, -128), (1 / 256, -128), (0.0052, -124), (0.02, 3)])
def test_h_sigmoid_ends_at_0_and_1(scale: float, zero_point: int) -> None:
    low, high = hsigmoid_clamp(tensor(scale, zero_point), FULL_RANGE)
    assert (low - zero_point) * scale == 0
    assert abs((high - zero_point) * scale - 1) <= scale / 2 or high == 127
    assert hsigmoid_clamp(tensor(scale, zero_point), (low + 1, low + 2)) == (low + 1, min(low + 2, high))
    assert hsigmoid_clamp(tensor(scale, 100), (-128, -100)) == (-100, -100)


@pytest.mark.parametrize("scales", [(0.02, 1 / 255, 0.02), (0.05, 0.004, 0.013), (0.3, 0.0101, 0.11)])
@pytest.mark.parametrize("zero_points", [(-128, -128, -128), (-100, -127, 20), (0, -3, 0)])
def test_a_gate_is_within_one_lsb_for_every_pair(scales: tuple, zero_points: tuple) -> None:
    source, gate, target = (tensor(s, z) for s, z in zip(scales, zero_points, strict=True))
    stage = fold_gate("l", source, gate, target)
    x, g = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    got = NUMERICS.output(
        x, stage.bias[0], stage.mult[0], stage.shift[0],
        out_zp=stage.out_zp, q_lo=stage.q_lo, q_hi=stage.q_hi, post_shift=stage.post_shift, gate=g, res_zp=stage.res_zp,
    )  # fmt: skip
    real = (x - source.zero_point) * source.scale * (g - gate.zero_point) * gate.scale
    want = np.clip(np.rint(real / target.scale) + target.zero_point, -128, 127)
    assert np.abs(got - want).max() <= 1
    assert (got != want).mean() < 0.03


@pytest.mark.parametrize(
    "scales", [(0.02, 1 / 255, 0.02), (0.05, 0.004, 0.013), (0.3, 0.0101, 0.11), (0.011, 0.0024, 0.0032)]
)
@pytest.mark.parametrize("zero_points", [(-128, -128, -120), (-100, -127, -90), (0, -3, 0), (-23, -128, -55)])
def test_h_swish_of_a_gated_map_is_that_of_the_exact_product(scales: tuple, zero_points: tuple) -> None:
    """Every pair of bytes; only the two roundings in front of the last one show, near its ties."""
    source, gate, target = (tensor(s, z) for s, z in zip(scales, zero_points, strict=True))
    stage = fold_gate("l", source, gate, target, "hswish")
    x, g = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    got = NUMERICS.output(
        x, stage.bias[0], stage.mult[0], stage.shift[0],
        out_zp=stage.out_zp, q_lo=stage.q_lo, q_hi=stage.q_hi, post_shift=stage.post_shift, gate=g, res_zp=stage.res_zp,
        hswish=stage.hswish,
    )  # fmt: skip
    z = (x - source.zero_point) * source.scale * (g - gate.zero_point) * gate.scale
    exact = np.clip(z * np.clip(z + 3, 0, 6) / 6 / target.scale + target.zero_point, -128, 127)
    # two roundings of z of half a unit, by which h-swish rises at most 1.5 times
    unit = 6 / stage.hswish[1]
    assert np.abs(got - exact).max() < 0.51 + 1.5 * unit / target.scale
    assert np.abs(got - exact).max() < 0.56 and (got != np.rint(exact)).mean() < 0.01


def test_the_gated_value_uses_the_factor() -> None:
    for zero_point in (-128, 0, 60):
        source = tensor(0.02, zero_point)
        bits = gate_shift(source, 0.01)
        reach = max(128 + zero_point, 127 - zero_point) * 0.01 * 2**bits
        assert 1 << 14 < reach < 1 << 15


def test_a_gate_of_impossible_scales_is_refused() -> None:
    with pytest.raises(CompileError, match="layer l: map's times gate's scale is 1e"):
        fold_gate("l", tensor(100.0), tensor(100.0), tensor(1e-4))
