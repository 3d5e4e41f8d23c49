"""Observers: which range they take of known values."""

from __future__ import annotations

import pytest
import torch

from sw.quant.observers import HEADROOM, PercentileObserver, ResultObserver

INT8 = {"dtype": torch.int8, "quant_min": -128, "quant_max": 127, "qscheme": torch.per_tensor_affine, "eps": 2**-12}


def range_of(observer: torch.nn.Module) -> tuple[float, float]:
    scale, zero = (float(value) for value in observer.calculate_qparams())
    return (-128 - zero) * scale, (127 - zero) * scale


@pytest.mark.parametrize("percentile", [99.0, 99.9, 100.0])
def test_percentile_of_uniform_values(percentile: float) -> None:
    observer = PercentileObserver(percentile=percentile, **INT8)
    values = torch.linspace(-1, 3, 100_001)
    for part in values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))].split(10_000):
        observer(part)
    cut = 4 * (1 - percentile / 100)
    low, high = range_of(observer)
    # the histogram's resolution, and that of the zero point
    assert abs(low - (-1 + cut)) < 4 / 2048 + 4 / 255
    assert abs(high - (3 - cut)) < 4 / 2048 + 4 / 255
    assert high - low == pytest.approx(4 - 2 * cut, abs=2 * 4 / 2048)


def test_percentile_leaves_a_rare_outlier_out_and_keeps_ends_where_values_pile_up() -> None:
    values = torch.rand(100_000, generator=torch.Generator().manual_seed(0)) * 5
    outlier = PercentileObserver(**INT8)
    outlier(torch.cat([values, torch.tensor([300.0])]))
    assert range_of(outlier)[1] < 5.2
    relu6 = PercentileObserver(**INT8)
    relu6(torch.cat([values, torch.full((100,), 6.0), torch.zeros(1000)]))
    assert range_of(relu6) == pytest.approx((0, 6), abs=1e-6)


def test_percentile_of_a_constant() -> None:
    observer = PercentileObserver(**INT8)
    observer(torch.full((100,), 2.0))
    low, high = range_of(observer)
    assert low == 0 and high == pytest.approx(2.0)


@pytest.mark.parametrize("percentile", [50.0, 100.5])
def test_percentile_out_of_range(percentile: float) -> None:
    with pytest.raises(ValueError, match=f"percentile {percentile} must be over 50 and at most 100"):
        PercentileObserver(percentile=percentile, **INT8)


def test_results_have_room_beyond_what_calibration_saw() -> None:
    observer = ResultObserver(**INT8)
    observer(torch.tensor([-8.0, 24.0]))
    low, high = range_of(observer)
    scale = 32 * (1 + 2 * HEADROOM) / 255
    assert low == pytest.approx(-8 - 32 * HEADROOM, abs=scale) and high == pytest.approx(24 + 32 * HEADROOM, abs=scale)
    assert high - low == pytest.approx(255 * scale)
    relu = ResultObserver(**INT8)
    relu(torch.tensor([0.0, 16.0]))
    assert range_of(relu) == pytest.approx((0, 16 * (1 + HEADROOM)))
