"""Calibration inputs: pictures, or arrays in ``.npy`` files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sw.nn.pictures import Pictures
from sw.preprocessing import Preprocessing, preprocess
from sw.quant import QuantisationError

__all__ = ["PictureInput", "TakesPictures", "calibration_batches", "has_arrays", "picture_batches"]

_BATCH = 8


class TakesPictures(Protocol):
    """What is to be known of a network: the shape (C, H, W) of an input and how pictures become one."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes an input."""
        ...


@dataclass(frozen=True)
class PictureInput:
    """:class:`TakesPictures` for a network that has nothing else; one of the zoo has :class:`sw.nn.zoo.Metadata`."""

    input_shape: tuple[int, ...]
    preprocessing: Preprocessing


def has_arrays(path: Path) -> bool:
    """Whether calibration data are arrays: a ``.npy`` file, or a folder with one."""
    return path.suffix == ".npy" if not path.is_dir() else any(path.glob("*.npy"))


def calibration_batches(path: str | Path, shape: Sequence[int]) -> list[Tensor]:
    """Return calibration inputs, in batches.

    Parameters
    ----------
    path
        A ``.npy`` file, or a folder of them; each holds one input of `shape` or several, stacked, of any floating
        type, preprocessed as for inference.
    shape
        Of one input, without batch axis.

    Raises
    ------
    QuantisationError
        If there is none, or a file cannot be read or has another shape or type.
    """
    path, shape = Path(path), tuple(shape)
    if not path.exists():
        raise QuantisationError(f"{path}: no such calibration file or folder")
    files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    if not files:
        raise QuantisationError(f"{path}: holds no .npy files; save preprocessed inputs {shape} with numpy.save")
    inputs = torch.from_numpy(np.concatenate([_read(file, shape) for file in files]))
    if not len(inputs):
        raise QuantisationError(f"{path}: holds no inputs; 32 or more make good ranges")
    return list(inputs.split(_BATCH))


def picture_batches(path: str | Path, about: TakesPictures, count: int) -> list[Tensor]:
    """Return calibration pictures, preprocessed, in batches.

    Parameters
    ----------
    path
        See :class:`sw.nn.pictures.Pictures`; labels are not used.
    about
        What the network takes.
    count
        How many to take, at even distances, so that of a set sorted by class many classes are among them.  A smaller
        set is taken whole.

    Raises
    ------
    sw.nn.pictures.PictureError
        If the set or a picture cannot be read.
    """
    pictures = Pictures(path, split="train")
    chosen = pictures.spread(count)
    inputs = [preprocess(pictures.image(entry), about.input_shape, about.preprocessing) for entry in chosen]
    return list(torch.from_numpy(np.stack(inputs)).split(_BATCH))


def _read(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        # not np.load, which also takes archives of several arrays
        with file.open("rb") as opened:
            array = np.lib.format.read_array(opened, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise QuantisationError(
            f"{file}: not a readable .npy ({error}); save preprocessed inputs {shape} with numpy.save"
        ) from None
    if array.dtype.kind != "f":
        raise QuantisationError(f"{file}: type {array.dtype}; floating-point inputs, preprocessed, are expected")
    if array.shape == shape:
        array = array[None]
    if array.shape[1:] != shape:
        raise QuantisationError(f"{file}: shape {array.shape}; the network takes {shape} or (N, *{shape})")
    return array.astype(np.float32)
