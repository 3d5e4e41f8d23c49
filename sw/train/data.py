"""Labelled pictures as batches: the same ones in every run with the same seed, however often it is interrupted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sw.frontends.calibration import TakesPictures
from sw.nn.pictures import Entry, PictureError, Pictures, Split
from sw.preprocessing import Preprocessing, preprocess
from sw.train.augment import random_crop, shift_and_flip
from sw.train.recipe import Augmentation

__all__ = ["Batch", "Loader", "Share", "TrainingPictures", "open_pictures", "seed_of"]

Batch = tuple[Tensor, Tensor]
"""Pictures (N, C, H, W), float32, normalised, and their classes (N,), int64."""


@dataclass(frozen=True)
class Share:
    """The part of each batch that is a process's own: number `rank` of `world`."""

    rank: int = 0
    world: int = 1


class Loader(Protocol):
    """Batches of a set of pictures."""

    labels: Tensor

    def train(self, epoch: int, batch: int, share: Share) -> Iterator[Batch]:
        """Yield the whole batches of an epoch in its random order, augmented; of each only the process's share."""
        ...

    def test(self, batch: int, share: Share) -> Iterator[Batch]:
        """Yield the process's share of all pictures, unchanged, in order."""
        ...


def seed_of(*parts: object) -> int:
    """Return a seed that depends on all `parts`."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _generator(*parts: object) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(*parts))


def _order(count: int, seed: int, epoch: int, batch: int, share: Share) -> list[Tensor]:
    """Return the indices of each step's pictures, as far as they are the process's own."""
    order = torch.randperm(count, generator=_generator("order", seed, epoch))
    steps = count // batch
    return [step[share.rank :: share.world] for step in order[: steps * batch].split(batch)] if steps else []


class _Memory:
    """Pictures that have the input's size already, decoded and kept as bytes."""

    def __init__(
        self, images: Tensor, labels: Tensor, how: Preprocessing, augmentation: Augmentation, seed: int
    ) -> None:
        self.images, self.labels = images, labels
        self.augmentation, self.seed = augmentation, seed
        low, high = how.range
        mean, std = (torch.tensor(values)[:, None, None] for values in (how.mean, how.std))
        self._scale, self._offset = (high - low) / 255 / std, (low - mean) / std

    def _normalised(self, images: Tensor) -> Tensor:
        return images * self._scale + self._offset

    def train(self, epoch: int, batch: int, share: Share) -> Iterator[Batch]:
        for step, chosen in enumerate(_order(len(self.labels), self.seed, epoch, batch, share)):
            images = self._normalised(self.images[chosen].float())
            if self.augmentation != "none":
                images = shift_and_flip(images, _generator("augment", self.seed, epoch, step, share.rank))
            yield images, self.labels[chosen]

    def test(self, batch: int, share: Share) -> Iterator[Batch]:
        for chosen in torch.arange(share.rank, len(self.labels), share.world).split(batch):
            yield self._normalised(self.images[chosen].float()), self.labels[chosen]


class _Decoded(Dataset[Any]):
    """Pictures of a file or folder, decoded when asked for; `epoch` None leaves them unchanged."""

    def __init__(
        self,
        source: tuple[Path, Split],
        entries: Sequence[Entry],
        about: TakesPictures,
        augmentation: Augmentation,
        seed: int,
        epoch: int | None,
    ) -> None:
        self.source, self.entries, self.about = source, entries, about
        self.augmentation, self.seed, self.epoch = augmentation, seed, epoch
        self._opened: tuple[int, Pictures] | None = None

    def _pictures(self) -> Pictures:
        # a file's position is shared with the process that opened it, so every worker opens its own
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), Pictures(self.source[0], split=self.source[1])
        return self._opened[1]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | PictureError:
        entry, shape, how = self.entries[index], self.about.input_shape, self.about.preprocessing
        try:
            image = self._pictures().image(entry)
        except PictureError as error:
            return error  # raised in a worker, it would come back wrapped in a traceback
        if self.epoch is not None and self.augmentation != "none":
            generator = _generator("augment", self.seed, self.epoch, index)
            if self.augmentation == "imagenet":
                image = random_crop(image, shape[1], generator)
                pixels = torch.from_numpy(preprocess(image, shape, how))
            else:
                pixels = shift_and_flip(torch.from_numpy(preprocess(image, shape, how))[None], generator)[0]
        else:
            pixels = torch.from_numpy(preprocess(image, shape, how))
        return pixels, entry.label or 0


def _collate(items: list[tuple[Tensor, int] | PictureError]) -> Batch | PictureError:
    good = []
    for item in items:
        if isinstance(item, PictureError):
            return item
        good.append(item)
    return torch.stack([image for image, _ in good]), torch.tensor([label for _, label in good])


class _Files:
    """Pictures that are decoded by worker processes."""

    def __init__(
        self,
        source: tuple[Path, Split],
        entries: Sequence[Entry],
        about: TakesPictures,
        augmentation: Augmentation,
        seed: int,
        workers: int,
    ) -> None:
        self._facts = source, entries, about, augmentation, seed
        self.labels = torch.tensor([entry.label for entry in entries])
        self.seed, self.workers = seed, workers

    def _batches(self, epoch: int | None, batches: list[Tensor]) -> Iterator[Batch]:
        loader: DataLoader[Any] = DataLoader(
            _Decoded(*self._facts, epoch),
            batch_sampler=[chosen.tolist() for chosen in batches],
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
        )
        for found in loader:
            if isinstance(found, PictureError):
                raise found
            images, labels = found
            yield images, labels

    def train(self, epoch: int, batch: int, share: Share) -> Iterator[Batch]:
        return self._batches(epoch, _order(len(self.labels), self.seed, epoch, batch, share))

    def test(self, batch: int, share: Share) -> Iterator[Batch]:
        return self._batches(None, list(torch.arange(share.rank, len(self.labels), share.world).split(batch)))


@dataclass(frozen=True)
class TrainingPictures:
    """What a run learns from and is measured with.

    Parameters
    ----------
    train, test
        The two sets; they share no picture.
    classes
        Number of classes, at least the largest label's plus 1.
    description
        For records: where they come from and how many there are.
    """

    train: Loader
    test: Loader
    classes: int
    description: dict[str, Any]


def _paths(data: Path, test: Path | None) -> tuple[tuple[Path, Split], tuple[Path, Split] | None]:
    """Return where training and test pictures are; the second is None if they are to be held out."""
    if data.suffix == ".npz":
        return (data, "train"), (data, "test") if test is None else (test, "test")
    if test is None:
        for name in ("val", "test"):
            if (data / "train").is_dir() and (data / name).is_dir():
                return (data / "train", "train"), (data / name, "test")
    return (data, "train"), None if test is None else (test, "test")


def _loader(
    source: tuple[Path, Split],
    pictures: Pictures,
    entries: Sequence[Entry],
    about: TakesPictures,
    augmentation: Augmentation,
    seed: int,
    workers: int,
) -> Loader:
    unlabelled = next((entry.name for entry in entries if entry.label is None), None)
    if unlabelled is not None:
        raise PictureError(f"{source[0]}: {unlabelled} has no class; training needs one subfolder per class or labels")
    if source[0].suffix == ".npz":  # small pictures: once decoded they fit
        images = [np.asarray(pictures.image(entry)).transpose(2, 0, 1) for entry in entries]
        if all(image.shape == tuple(about.input_shape) for image in images):
            labels = torch.tensor([entry.label for entry in entries])
            return _Memory(torch.from_numpy(np.stack(images)), labels, about.preprocessing, augmentation, seed)
    return _Files(source, entries, about, augmentation, seed, workers)


def open_pictures(
    data: str | Path,
    about: TakesPictures,
    *,
    test: str | Path | None = None,
    holdout: float = 0.0,
    limit: int | None = None,
    augmentation: Augmentation = "none",
    seed: int = 0,
    workers: int = 0,
) -> TrainingPictures:
    """Open pictures to train with.

    Parameters
    ----------
    data
        Of :class:`sw.nn.pictures.Pictures`, labelled; or a folder with subfolders ``train`` and ``val`` of that form.
    about
        The network's input.
    test
        Other pictures to measure with.  If None: the test pictures of an ``.npz``, the subfolder ``val``, else those
        held out.
    holdout
        Share of the training pictures, 0 to 1, that is taken out and used as test pictures instead (for choices that
        must not see the real ones).
    limit
        How many training pictures are used at most.
    augmentation, seed
        Of training pictures, and of the order and the choice of those held out.
    workers
        Processes that decode files; 0 decodes in this one.

    Raises
    ------
    sw.nn.pictures.PictureError
        If pictures are missing, unreadable or without classes.
    """
    first, second = _paths(Path(data), None if test is None else Path(test))
    pictures = Pictures(first[0], split=first[1])
    order = torch.randperm(len(pictures), generator=_generator("holdout", seed)).tolist()
    held = round(holdout * len(pictures))
    if holdout and not held:
        raise PictureError(f"{data}: --holdout {holdout:g} of {len(pictures)} pictures is none; take more out")
    if held == 0 and second is None:
        raise PictureError(f"{data}: no test pictures; give --test, or --holdout 0.1 to take some out of these")
    chosen = [pictures.entries[index] for index in sorted(order[held:])]
    if limit is not None:
        chosen = [chosen[index * len(chosen) // limit] for index in range(min(limit, len(chosen)))]
    if not chosen:
        raise PictureError(f"{data}: holding out {holdout:g} leaves nothing to train with")
    train = _loader(first, pictures, chosen, about, augmentation, seed, workers)
    if held or second is None:
        rest = [pictures.entries[index] for index in sorted(order[:held])]
        measured = _loader(first, pictures, rest, about, "none", seed, workers)
    else:
        others = Pictures(second[0], split=second[1])
        measured = _loader(second, others, others.entries, about, "none", seed, workers)
    classes = int(max(train.labels.max(), measured.labels.max())) + 1
    description = {"data": first[0].name, "train": len(train.labels), "test": len(measured.labels), "holdout": holdout}
    return TrainingPictures(train, measured, classes, description)
