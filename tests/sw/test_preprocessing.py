"""Preprocessing: from a program's meta, at sizes that are not square, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sw.nn import zoo
from sw.preprocessing import Preprocessing, decode, preprocess

GOOD = {"range": [0, 1], "mean": [0.5], "std": [0.5]}


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0", "mobilenet_v1"])
def test_the_zoos_preprocessing_survives_json(name: str) -> None:
    about = zoo.metadata(name)
    assert Preprocessing.from_json(about.to_json(), 3) == about.preprocessing


def test_crop_and_interpolation_may_be_absent() -> None:
    assert Preprocessing.from_json(GOOD, 3) == Preprocessing((0.0, 1.0), (0.5,), (0.5,), 1.0, "bilinear")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"range": [0, 1, 2]}, "range must hold 2 numbers, not \\[0, 1, 2\\]"),
        ({"mean": None}, "mean must hold 1 or 3 numbers, not None"),
        ({"mean": [0.1, 0.2]}, "mean must hold 1 or 3 numbers"),
        ({"std": [1, "a", 2]}, "std must hold 1 or 3 numbers"),
        ({"std": [float("inf")]}, "std must hold 1 or 3 numbers"),
        ({"std": [1, 0, 1]}, "must not hold 0"),
        ({"crop": 1.5}, "crop 1.5 must be above 0 and at most 1"),
        ({"crop": "all"}, "crop 'all'"),
        ({"interpolation": "nearest"}, "interpolation 'nearest' must be bilinear or bicubic"),
        ({"interpolation": []}, "interpolation \\[\\]"),
    ],
)
def test_wrong_entries_are_named(entry: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_json({**GOOD, **entry}, 3)


@pytest.mark.parametrize(("size", "shape"), [((31, 60), (3, 6, 10)), ((60, 31), (1, 10, 6)), ((5, 5), (3, 7, 20))])
@pytest.mark.parametrize("crop", [1.0, 0.8])
def test_the_crop_lies_within_the_picture_and_keeps_proportions(size, shape, crop: float) -> None:
    # a ramp from left to right and one from top to bottom: the middle is grey, and slopes follow from the scale
    width, height = size
    ramp = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    how = Preprocessing((0.0, 1.0), (0.0,), (1.0,), crop)
    for array, axis in ((ramp, 2), (np.linspace(0, 255, height)[:, None].repeat(width, 1), 1)):
        image = Image.fromarray(np.rint(array).astype(np.uint8))
        found = preprocess(image, shape, how)
        assert found.shape == shape and found.dtype == np.float32
        line = found.mean((0, 3 - axis))
        assert abs(line.mean() - 0.5) < 0.04
        scale = max(round(side / crop) / old for side, old in zip((shape[2], shape[1]), size, strict=True))
        slope = 1 / scale / (size[axis == 1] - 1)
        assert np.ptp(line) == pytest.approx(min(1, (shape[axis] - 1) * slope), abs=0.06)


def test_interpolations_differ() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8))
    smooth, sharp = (preprocess(image, (1, 16, 16), Preprocessing((0, 1), (0,), (1,), 1.0, kind))
                     for kind in ("bilinear", "bicubic"))  # fmt: skip
    assert np.ptp(sharp) > np.ptp(smooth)
    reference = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC), np.float32) / 255
    np.testing.assert_allclose(sharp[0], reference, atol=1e-6)


def test_decode_refuses_deep_pictures() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="more than 8 bits per value"):
        decode(io.BytesIO(buffer.getvalue()))
