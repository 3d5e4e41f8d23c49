from __future__ import annotations

import torch
from PIL import Image

from sw.train.augment import crop_box, random_crop, shift_and_flip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_shifted_picture_is_one_of_the_possible_ones():
    images = torch.rand(20, 3, 16, 16)
    moved = shift_and_flip(images, generator())
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    seen = set()
    for index in range(20):
        parts = {
            (dy, dx, flip): part.flip(2) if flip else part
            for dy in range(5)
            for dx in range(5)
            for part in [padded[index, :, dy : dy + 16, dx : dx + 16]]
            for flip in (False, True)
        }
        found = [place for place, part in parts.items() if torch.equal(moved[index], part)]
        assert found, index
        seen.add(found[0])
    assert len(seen) > 10
    assert {flip for _, _, flip in seen} == {False, True}


def test_the_generator_alone_decides():
    images = torch.rand(4, 1, 8, 8)
    torch.manual_seed(1)
    first = shift_and_flip(images, generator(5))
    torch.manual_seed(2)
    assert torch.equal(first, shift_and_flip(images, generator(5)))
    assert not torch.equal(first, shift_and_flip(images, generator(6)))


def test_crops_lie_inside_and_vary_in_area():
    areas = []
    for seed in range(200):
        left, top, right, bottom = crop_box(60, 40, generator(seed))
        assert 0 <= left < right <= 60
        assert 0 <= top < bottom <= 40
        assert 3 / 4 * 0.9 <= (right - left) / (bottom - top) <= 4 / 3 * 1.12  # sides are whole pixels
        areas.append((right - left) * (bottom - top) / 2400)
    assert min(areas) < 0.15
    assert max(areas) > 0.7
    assert min(areas) > 0.07


def test_a_very_long_picture_gives_its_centre():
    assert crop_box(1000, 10, generator()) == (493, 0, 506, 10)


def test_a_random_crop_has_the_size_asked_for():
    image = Image.new("RGB", (50, 33), (10, 20, 30))
    result = random_crop(image, 24, generator())
    assert result.size == (24, 24)
    assert result.getpixel((5, 5)) == (10, 20, 30)
