"""Small labelled pictures that a network can learn: coloured bars, encoded as the tools read them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def bar(label: int, seed: int, size: int = 16) -> Image.Image:
    """A noisy picture with an upright (0) or a lying (1) bar, somewhere."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (size, size, 3), dtype=np.uint8)
    at = int(random.integers(2, size - 4))
    if label:
        pixels[at : at + 3] = 220
    else:
        pixels[:, at : at + 3] = 220
    return Image.fromarray(pixels)


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def save_archive(path: Path, train: int = 48, test: int = 16, size: int = 16) -> Path:
    """Write an .npz of two classes of bars."""
    labels = np.arange(train + test) % 2
    files = [encoded(bar(int(label), seed, size)) for seed, label in enumerate(labels)]
    np.savez(
        path,
        blob=np.frombuffer(b"".join(files), np.uint8),
        offset=np.cumsum([0, *map(len, files)]),
        label=labels,
        test=np.arange(train + test) >= train,
    )
    return path


def save_folder(path: Path, count: int = 8, size: int = 20) -> Path:
    """Write a folder with the subfolders train and val, each with one subfolder per class."""
    for part, first in (("train", 0), ("val", 100)):
        for label in (0, 1):
            folder = path / part / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                bar(label, first + index, size).save(folder / f"{index}.png")
    return path
