"""How pictures become a network's input, when it is calibrated and when it runs; loads without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SUFFIXES", "Preprocessing", "decode", "preprocess"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")
"""Of files that are taken for pictures."""

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a network's input: ``(x - mean) / std`` with x in `range`.

    Parameters
    ----------
    range
        Values of black and white before normalisation.
    mean, std
        Per channel (red, green, blue), or one for all, in the units of `range`.
    crop
        Side of the centre crop over the side of the resized picture.
    interpolation
        Of the resizing.
    """

    range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop: float = 0.875
    interpolation: Interpolation = "bilinear"

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` reads, as lists, numbers and text."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any], channels: int) -> Preprocessing:
        """Read the entry ``input`` of a program's `meta`.

        Parameters
        ----------
        facts
            ``range``, ``mean`` and ``std``; ``crop`` is 1 and ``interpolation`` bilinear, where absent.  Other entries
            are ignored.
        channels
            Of the network's input.

        Raises
        ------
        ValueError
            Naming the entry that is missing or wrong.
        """
        values = {
            key: _numbers(facts, key, lengths)
            for key, lengths in (("range", (2,)), ("mean", (1, channels)), ("std", (1, channels)))
        }
        if 0 in values["std"]:
            raise ValueError(f"std {list(values['std'])} must not hold 0")
        crop, interpolation = facts.get("crop", 1.0), facts.get("interpolation", "bilinear")
        if not isinstance(crop, int | float) or not 0 < crop <= 1:
            raise ValueError(f"crop {crop!r} must be above 0 and at most 1")
        if interpolation not in get_args(Interpolation):
            raise ValueError(f"interpolation {interpolation!r} must be {' or '.join(get_args(Interpolation))}")
        black, white = values["range"]
        return cls((black, white), values["mean"], values["std"], float(crop), interpolation)


def _numbers(facts: Mapping[str, Any], key: str, lengths: tuple[int, ...]) -> tuple[float, ...]:
    found = facts.get(key)
    numbers = isinstance(found, list | tuple) and all(
        isinstance(item, int | float) and math.isfinite(item) for item in found
    )
    if not numbers or len(found) not in lengths:
        wanted = " or ".join(str(length) for length in dict.fromkeys(lengths))
        raise ValueError(f"{key} must hold {wanted} numbers, not {found!r}")
    return tuple(float(item) for item in found)


def decode(source: str | Path | IO[bytes]) -> Image:
    """Return a picture from a file, with 8 bits per value.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    OSError, SyntaxError, ValueError
        If it cannot be decoded, or has more bits per value; Pillow raises other types too on damaged files.
    """
    from PIL import Image  # only pictures need it

    with Image.open(source) as opened:
        if opened.mode.startswith(("I", "F")):
            raise ValueError(f"more than 8 bits per value, mode {opened.mode}: save it with 8")
        return opened.copy()


def preprocess(image: Image, shape: Sequence[int], how: Preprocessing) -> npt.NDArray[np.float32]:
    """Return a picture as a network's input, normalised.

    It is resized, keeping its proportions, until both sides reach (H, W) / crop and one is equal to it; then the
    centre H x W is cut out.  A picture that has the input's size already is taken as it is.

    Parameters
    ----------
    image
        In any mode of Pillow.
    shape
        (1, H, W) for grey, (3, H, W) for colour; also of the result.
    how
        Crop, interpolation and normalisation.
    """
    from PIL import Image  # only pictures need it

    channels, height, width = shape
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        least = round(width / how.crop), round(height / how.crop)
        scale = max(side / old for side, old in zip(least, image.size, strict=True))
        size = max(least[0], int(image.width * scale)), max(least[1], int(image.height * scale))
        image = image.resize(size, Image.Resampling[how.interpolation.upper()])
        left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    low, high = how.range
    pixels = np.asarray(image, np.float32).reshape(height, width, channels).transpose(2, 0, 1)
    pixels = pixels * np.float32((high - low) / 255) + np.float32(low)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (how.mean, how.std))
    return np.ascontiguousarray((pixels - mean) / std)
