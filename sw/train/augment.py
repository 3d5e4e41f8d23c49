"""Random changes of training pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["crop_box", "random_crop", "shift_and_flip"]

_AREA = (0.08, 1.0)  # of a crop, and its width over height: Szegedy et al., arXiv 1409.4842
_ASPECT = (3 / 4, 4 / 3)
_TRIES = 10


def shift_and_flip(images: Tensor, generator: torch.Generator, *, share: int = 8) -> Tensor:
    """Move each picture (N, C, H, W) by up to 1 / `share` of its side along both axes and mirror half of them.

    Zeros come in at the edges.  He et al. (arXiv 1512.03385, section 4.2) shift CIFAR-10's pictures so, by 4 of 32.
    """
    count, channels, height, width = images.shape
    dy, dx = height // share, width // share
    padded = torch.nn.functional.pad(images, (dx, dx, dy, dy))
    top = torch.randint(0, 2 * dy + 1, (count,), generator=generator)
    left = torch.randint(0, 2 * dx + 1, (count,), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    rows = top[:, None] + torch.arange(height)
    columns = torch.arange(width).expand(count, width)
    columns = left[:, None] + torch.where(mirrored[:, None], width - 1 - columns, columns)
    picture = torch.arange(count)[:, None, None, None]
    channel = torch.arange(channels)[None, :, None, None]
    return padded[picture, channel, rows[:, None, :, None], columns[:, None, None, :]]


def crop_box(width: int, height: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a random part of a picture: 8 to 100 % of its area, 3:4 to 4:3."""
    for _ in range(_TRIES):
        area, aspect, x, y = torch.rand(4, generator=generator).tolist()
        pixels = width * height * (_AREA[0] + area * (_AREA[1] - _AREA[0]))
        ratio = math.exp(math.log(_ASPECT[0]) + aspect * math.log(_ASPECT[1] / _ASPECT[0]))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, top, left + w, top + h
    # a very long picture: the largest centre part of an allowed shape
    w, h = min(width, round(height * _ASPECT[1])), min(height, round(width / _ASPECT[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def random_crop(image: Image, size: int, generator: torch.Generator) -> Image:
    """Return a random part of a picture, resized to `size` x `size` and mirrored half of the time."""
    from PIL import Image as pil

    box = crop_box(*image.size, generator)
    result = image.resize((size, size), pil.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    if torch.rand(1, generator=generator).item() < 0.5:
        result = result.transpose(pil.Transpose.FLIP_LEFT_RIGHT)
    return result
