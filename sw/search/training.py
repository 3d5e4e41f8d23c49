"""Training of a supernet in two runs: its largest network from labels, then all of them, taught by that one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sw.nn import zoo
from sw.nn.weights import load_weights, read_provenance, save_weights
from sw.preprocessing import Preprocessing
from sw.search.sampling import Largest, Sampling
from sw.search.space import Space, SpaceError
from sw.search.supernet import Supernet
from sw.train.data import TrainingPictures, open_pictures
from sw.train.distributed import Processes
from sw.train.loop import Precision, Progress, Result, fit
from sw.train.recipe import Recipe

__all__ = ["SUPERNET", "PictureFacts", "Trained", "load_supernet", "train_supernet"]

SUPERNET = "supernet.npz"
"""Name of the trained weights in a search's folder."""

_RUNS = "largest", "all"  # folders of the two runs


@dataclass(frozen=True)
class PictureFacts:
    """Input of a space's networks, as :func:`sw.train.data.open_pictures` and programs take it."""

    input_shape: tuple[int, int, int]
    preprocessing: Preprocessing

    @staticmethod
    def of(space: Space) -> PictureFacts:
        """Return those of a space."""
        about = zoo.metadata("mobilenet_v2_cifar", resolution=space.resolution)
        return PictureFacts(about.input_shape, about.preprocessing)

    def to_json(self) -> dict[str, Any]:
        """Return the entry ``input`` of a program's `meta`."""
        return {"shape": list(self.input_shape), **self.preprocessing.to_json()}


@dataclass(frozen=True)
class Trained:
    """A trained supernet.

    Parameters
    ----------
    model
        In evaluation mode, on the CPU.
    record
        How it came about: ``space``, ``pictures`` (holdout, limit, seed), ``batch`` and more.
    digest
        SHA-256 of its file.
    """

    model: Supernet
    record: dict[str, Any]
    digest: str

    @property
    def space(self) -> Space:
        """Networks to choose from."""
        return self.model.space

    def pictures(self, data: Path, test: Path | None = None, workers: int = 0) -> TrainingPictures:
        """Open the pictures that it was trained with, the same ones held out.

        Raises
        ------
        ValueError
            If they are not as many as then.
        sw.nn.pictures.PictureError
            If they cannot be read.
        """
        known = self.record["pictures"]
        found = open_pictures(
            data,
            PictureFacts.of(self.space),
            test=test,
            holdout=known["holdout"],
            limit=known["limit"],
            augmentation="none",
            seed=self.record["seed"],
            workers=workers,
        )
        for name in ("train", "test"):
            if found.description[name] != known[name]:
                raise ValueError(
                    f"{data}: {found.description[name]} pictures to {name} with, not {known[name]} as in training; "
                    f"give the pictures of 'python -m sw.search train'"
                )
        return found


def train_supernet(
    space: Space,
    pictures: TrainingPictures,
    recipe: Recipe,
    folder: Path,
    *,
    largest_epochs: int | None = None,
    paths: int = 3,
    teacher_share: float = 0.5,
    temperature: float = 4.0,
    limit: int | None = None,
    seed: int = 0,
    processes: Processes,
    precision: Precision = "fp32",
    tensorboard: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a supernet, or go on with runs that were interrupted; write :data:`SUPERNET`.

    Parameters
    ----------
    largest_epochs
        Of the first run; the recipe's by default.
    paths, teacher_share, temperature
        See :class:`sw.search.sampling.Sampling`.
    limit
        With which the pictures were opened.
    space, pictures, recipe, folder, seed, processes, precision, tensorboard, progress
        See :func:`sw.train.loop.fit`, whose errors this has too.

    Returns
    -------
    dict
        The record in the file, with the accuracy of the largest network after both runs.
    """
    facts: dict[str, Any] = {"space": space.to_dict(), **pictures.description, "limit": limit}
    common: dict[str, Any] = {"seed": seed, "processes": processes, "precision": precision}
    common |= {"tensorboard": tensorboard, "progress": progress}
    runs = [folder / name for name in _RUNS]
    for run in runs:
        run.mkdir(parents=True, exist_ok=True)
    first = recipe.changed({"epochs": largest_epochs})
    torch.manual_seed(seed)
    # channels innermost: a CPU trains depthwise filters faster so
    model = Supernet(space).to(memory_format=torch.channels_last)
    alone = fit(model, pictures, first, Largest(recipe.label_smoothing), runs[0], facts=facts, **common)
    model = Supernet(space).to(memory_format=torch.channels_last)
    model.load_state_dict(alone.model.state_dict())
    model.share_normalisation()
    teacher = _taught(alone).subnet(space.largest).to(processes.device, memory_format=torch.channels_last)
    objective = Sampling(recipe.label_smoothing, teacher, teacher_share, temperature, paths=paths)
    facts |= {
        "largest_epochs": first.epochs,
        "paths": paths,
        "teacher_share": teacher_share,
        "temperature": temperature,
    }
    together = fit(model, pictures, recipe, objective, runs[1], facts=facts, **common)
    record = {
        "space": space.to_dict(),
        "pictures": {**pictures.description, "limit": limit},
        "recipe": recipe.to_dict(),
        "seed": seed,
        **{name: facts[name] for name in ("largest_epochs", "paths", "teacher_share", "temperature")},
        "top1_largest_alone": alone.lines[-1]["top1"],
        "top1_largest": together.lines[-1]["top1"],
        "torch": torch.__version__,
    }
    if processes.first:
        save_weights(together.model, folder / SUPERNET, record)
    return record


def _taught(result: Result) -> Supernet:
    assert isinstance(result.model, Supernet)
    return result.model


def load_supernet(folder: Path) -> Trained:
    """Read what :func:`train_supernet` wrote.

    Raises
    ------
    sw.nn.weights.WeightsError
        If the file is missing, unreadable or of another network.
    sw.search.space.SpaceError
        If it is no supernet.
    """
    path = folder / SUPERNET
    if not path.exists():
        raise SpaceError(f"{path}: no such file; train the supernet with 'python -m sw.search train --out {folder}'")
    record = read_provenance(path)
    if not {"space", "pictures", "recipe", "seed"} <= record.keys():
        raise SpaceError(f"{path}: holds no supernet")
    model = Supernet(Space.from_dict(record["space"]))
    load_weights(model, path)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = record["recipe"]["bn_eps"]
    return Trained(model.eval(), record, hashlib.sha256(path.read_bytes()).hexdigest())
