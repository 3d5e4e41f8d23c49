"""Packed planes: where each pixel lies, and which layouts are none."""

from __future__ import annotations

import numpy as np
import pytest

from hw.spec.packing import Packing

SEVEN = Packing(7, 7, 8, 4)


def test_pixels_of_a_plane() -> None:
    """Line y, segment s holds image line s*n + y; gaps and missing lines hold the zero point; no gap at the end."""
    assert (SEVEN.lines, SEVEN.width, SEVEN.plane, SEVEN.gap, SEVEN.missing) == (2, 31, 62, 1, 1)
    image = np.arange(2 * 49, dtype=np.int8).reshape(2, 7, 7)
    plane = SEVEN.pack(image, -3)
    assert plane.shape == (2, 2, 31)
    seen = np.full((2, 2, 31), -3)
    for channel in range(2):
        for line in range(7):
            for pixel in range(7):
                seen[channel, line % 2, line // 2 * 8 + pixel] = image[channel, line, pixel]
    np.testing.assert_array_equal(plane, seen)


@pytest.mark.parametrize("packing", [SEVEN, Packing(7, 7, 8, 7), Packing(5, 3, 5, 2), Packing(14, 9, 9, 2)])
def test_unpacking_undoes_packing(packing: Packing) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(-128, 128, (3, packing.image_height, packing.image_width)).astype(np.int8)
    packed = packing.pack(image, 0)
    np.testing.assert_array_equal(packing.unpack(packed), image)
    np.testing.assert_array_equal(packing.unpack(packed.reshape(3, -1)), image)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((7, 7, 6, 2), "pitch=6 must be at least image_width=7"),
        ((0, 7, 7, 2), "image_height=0 must be at least 1"),
        ((7, 0, 7, 2), "image_width=0 must be at least 1"),
        ((7, 7, 8, 0), "segments=0 must be at least 1"),
        ((7, 7, 8, 5), "without any line"),
        ((2, 2, 2, 3), "without any line"),
        ((7.5, 7, 8, 2), "image_height=7.5 must be an integer"),
        ((7, 7, 8.0, 2), "pitch=8.0 must be an integer"),
        ((7, 7, 8, True), "segments=True must be an integer"),
        ((7, 7, 8, None), "segments=None must be an integer"),
    ],
)
def test_what_is_no_packing(sizes: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Packing(*sizes)
