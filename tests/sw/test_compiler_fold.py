"""Folding: integers that equal the definition, harmless saturation, and accumulators proved or refused."""

from __future__ import annotations

import numpy as np
import pytest

from hw.spec.numerics import NUMERICS, QuantRangeError, rshift_round
from sw.compiler import CompileError
from sw.compiler.fold import fold, fold_pool, residual_shift
from sw.compiler.ir import FULL_RANGE, Tensor

IN, OUT = Tensor("in", (3, 4, 4), 0.05, 11), Tensor("out", (2, 4, 4), 0.4, -7)


def test_bias_absorbs_the_zero_point() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (2, 12)).astype(np.int8)
    scale, bias = np.array([0.01, 0.02]), np.array([1.25, -3.0])
    stage = fold("l", IN, weight, scale, bias, OUT, FULL_RANGE)
    x = rng.integers(-128, 128, (12, 50))
    centred = weight.astype(np.int64) @ (x - IN.zero_point) + np.rint(bias / (IN.scale * scale))[:, None]
    assert np.array_equal(weight.astype(np.int64) @ x + stage.bias[:, None], centred)
    real = stage.mult / 2.0**stage.shift
    assert real == pytest.approx(IN.scale * scale / OUT.scale, rel=2**-16)
    # integer biases are taken as they are
    same = fold("l", IN, weight, scale, np.rint(bias / (IN.scale * scale)).astype(np.int32), OUT, FULL_RANGE)
    assert np.array_equal(same.bias, stage.bias)


@pytest.mark.parametrize("ratio", [0.0, 0.001, 0.3, 1.0, 1.7, 6.0, 100.0, 30000.0])
def test_saturation_of_the_middle_value_never_shows(ratio: float) -> None:
    post = residual_shift(ratio, 0.01)
    res_mult = round(ratio * 2**post)
    assert 0 <= post <= 15 and res_mult < 1 << NUMERICS.mult_width
    # around the saturation bound, and beyond, for the residuals and zero points that matter most
    edge = 1 << (NUMERICS.mid_width - 1)
    t = np.array([-4 * edge, -edge - 1, -edge, -edge + 1, 0, edge - 2, edge - 1, edge, 4 * edge])
    for residual in (-255, -1, 0, 1, 255):
        for zp in (-128, 0, 127):
            exact = np.clip(rshift_round(t + residual * res_mult, post) + zp, -128, 127)
            limited = np.clip(rshift_round(NUMERICS.saturate(t, 24) + residual * res_mult, post) + zp, -128, 127)
            assert np.array_equal(exact, limited)


def test_post_shift_keeps_precision_for_common_ratios() -> None:
    assert residual_shift(1.0, 0.01) == 13
    assert residual_shift(1.0, 60000.0) == 0


def test_residual_out_of_range_is_refused() -> None:
    with pytest.raises(QuantRangeError):
        residual_shift(70000.0, 0.01)
    huge = Tensor("r", (2, 4, 4), 4e5, 0)
    with pytest.raises(CompileError, match="layer l: .*do not fit together"):
        fold("l", IN, np.ones((2, 4), np.int8), np.ones(2), None, OUT, FULL_RANGE, huge)


def test_an_accumulator_that_could_wrap_is_refused() -> None:
    taps = 1 << 17
    weight = np.full((1, taps), 127, np.int8)
    with pytest.raises(CompileError, match="layer deep: channel 0: .*32-bit accumulator"):
        fold("deep", Tensor("x", (taps, 1, 1), 0.1, -128), weight, np.ones(1), None, OUT, FULL_RANGE)
    # just inside: 2**31 / (127 * 255) taps
    fold("deep", Tensor("x", (taps, 1, 1), 0.1, -128), weight[:, : taps // 2], np.ones(1), None, OUT, FULL_RANGE)
    with pytest.raises(CompileError, match="bias"):
        fold("deep", IN, weight[:, :4], np.ones(1), np.array([2**31 - 5]), OUT, FULL_RANGE)


def test_multiplier_out_of_range_is_refused() -> None:
    with pytest.raises(CompileError, match="layer l: multiplier"):
        fold("l", IN, np.ones((1, 1), np.int8), np.array([1e7]), None, OUT, FULL_RANGE)


def test_pool_is_the_rounded_mean() -> None:
    mapped, made = Tensor("m", (1, 7, 9), 0.03, -20), Tensor("p", (1, 1, 1), 0.011, 5)
    pool = fold_pool("l", mapped, made)
    rng = np.random.default_rng(1)
    q = rng.integers(-60, 20, (100, 63))
    got = NUMERICS.pool(q.sum(1), bias=pool.bias, mult=pool.mult, shift=pool.shift, zp=pool.zp)
    want = np.clip((q - mapped.zero_point).mean(1) * mapped.scale / made.scale + made.zero_point, -128, 127)
    assert np.abs(got - want).max() <= 0.5 + 1e-2


def test_pool_of_too_many_pixels_is_refused() -> None:
    with pytest.raises(CompileError, match="layer l: pools 360000 pixels; at most 262143"):
        fold_pool("l", Tensor("m", (1, 600, 600), 0.1, -128), Tensor("p", (1, 1, 1), 0.1, 0))
