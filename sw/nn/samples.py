"""Labelled inputs to evaluate a network with: pictures, or arrays."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sw.nn.pictures import Entry, PictureError, Pictures
from sw.preprocessing import Preprocessing, preprocess

__all__ = ["SampleError", "Samples", "array_samples", "read_samples"]

Inputs = npt.NDArray[np.float32]


class SampleError(ValueError):
    """Data that a network cannot be evaluated with."""


@dataclass(frozen=True)
class Samples:
    """Labelled inputs, read one at a time.

    Parameters
    ----------
    entries
        Names and classes.
    read
        Returns input i, preprocessed, (C, H, W); raises :class:`sw.nn.pictures.PictureError` if it cannot.
    digest
        Returns a SHA-256 of names, labels and data, all of which it reads.
    """

    entries: list[Entry]
    read: Callable[[int], Inputs]
    digest: Callable[[], str]

    def __len__(self) -> int:
        return len(self.entries)

    def label(self, index: int) -> int:
        """Return the class of input `index`."""
        label = self.entries[index].label
        assert label is not None  # checked by those who make samples
        return label


def read_samples(
    path: str | Path, shape: Sequence[int], meta: Mapping[str, Any], *, limit: int | None = None
) -> Samples:
    """Return the samples of a set.

    Parameters
    ----------
    path
        Pictures, see :class:`sw.nn.pictures.Pictures` (of an ``.npz`` the test set); or an ``.npz`` with ``inputs``,
        preprocessed, (N, C, H, W), and ``labels`` (N,).
    shape
        (C, H, W) of the network's input.
    meta
        The network's; its entry ``input`` says how pictures become inputs.
    limit
        How many to take, at even distances; all by default.

    Raises
    ------
    SampleError, sw.nn.pictures.PictureError
        If the set cannot be read, has no labels, or does not fit the network.
    """
    path = Path(path)
    if path.suffix == ".npz" and path.is_file():
        arrays = _arrays(path)
        if arrays is not None:
            inputs, labels = arrays
            if inputs.shape[1:] != tuple(shape):
                raise SampleError(f"{path}: inputs of shape {inputs.shape[1:]}; the network takes {tuple(shape)}")
            return array_samples(inputs, labels, limit=limit)
    pictures = Pictures(path)
    facts = meta.get("input")
    if not isinstance(facts, Mapping):
        raise SampleError(
            f"{path}: the network does not say how it takes pictures; say it with --mean and --std, or give an .npz "
            f"with preprocessed inputs (N, {', '.join(map(str, shape))}) and labels (N,)"
        )
    if shape[0] not in (1, 3):
        raise SampleError(f"{path}: a picture gives 1 or 3 channels; the network takes {shape[0]}")
    how = Preprocessing.from_json(facts, shape[0])
    entries = pictures.spread(limit)
    unlabelled = [entry.name for entry in entries if entry.label is None]
    if unlabelled:
        raise SampleError(
            f"{path}: {unlabelled[0]} has no label; accuracy needs a tar with labels.csv, or a folder with one "
            f"subfolder per class"
        )
    return Samples(
        entries,
        lambda index: preprocess(pictures.image(entries[index]), shape, how),
        lambda: _digest(entries, lambda index: _data(pictures, entries[index])),
    )


def array_samples(
    inputs: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]], *, limit: int | None = None
) -> Samples:
    """Return arrays, inputs (N, C, H, W) and classes (N,), as samples; `limit` of them, at even distances."""
    count = len(labels) if limit is None else min(limit, len(labels))
    chosen = [index * len(labels) // count for index in range(count)]
    entries = [Entry(f"input {index}", int(labels[index])) for index in chosen]
    return Samples(
        entries,
        lambda index: inputs[chosen[index]].astype(np.float32),
        lambda: _digest(entries, lambda index: inputs[chosen[index]].tobytes()),
    )


def _arrays(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Return inputs and labels; None if the archive is of another kind."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "inputs" not in archive.files:
                return None
            inputs, labels = archive["inputs"], archive["labels"] if "labels" in archive.files else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SampleError(f"{path}: not a readable .npz ({error})") from None
    if labels is None or labels.dtype.kind not in "ui" or labels.shape != inputs.shape[:1] or not len(labels):
        raise SampleError(f"{path}: must hold a whole number in labels for each of the {len(inputs)} inputs, 1 or more")
    if inputs.dtype.kind != "f" or not np.isfinite(inputs).all():
        raise SampleError(f"{path}: inputs must be floating-point numbers, preprocessed and finite")
    return inputs, labels


def _data(pictures: Pictures, entry: Entry) -> bytes:
    try:
        return pictures.data(entry)
    except PictureError:
        return b""  # reading the sample says so


def _digest(entries: Sequence[Entry], data: Callable[[int], bytes]) -> str:
    found = hashlib.sha256()
    for index, entry in enumerate(entries):
        content = hashlib.sha256(data(index)).hexdigest()
        found.update(f"{entry.name}\0{entry.label}\0{content}\n".encode())
    return found.hexdigest()
