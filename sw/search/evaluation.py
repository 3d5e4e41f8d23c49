"""How good a network of a supernet is: its accuracy on pictures that no training saw."""

from __future__ import annotations

import itertools

import torch

from sw.nos.recalibrate import recalibrate
from sw.search.space import Architecture
from sw.search.subnet import Subnet
from sw.search.supernet import Supernet
from sw.train.data import Share, TrainingPictures
from sw.train.distributed import Processes
from sw.train.loop import measure

__all__ = ["Evaluator"]

_EPOCH = -1  # an order of training pictures that no epoch has


class Evaluator:
    """Takes networks out of a supernet and measures them.

    Parameters
    ----------
    supernet
        Trained.
    pictures
        Those to recalibrate with (training) and to measure with (held out).
    batches, batch
        How many batches to recalibrate with, and their size; of small sets all there are.
    device
        Where it computes.

    Raises
    ------
    ValueError
        If the training pictures do not fill a batch.
    """

    def __init__(
        self, supernet: Supernet, pictures: TrainingPictures, *, batches: int, batch: int, device: torch.device
    ) -> None:
        self.supernet, self.pictures, self.processes = supernet, pictures, Processes(Share(), device)
        found = itertools.islice(pictures.train.train(_EPOCH, batch, Share()), batches)
        self._batches = [images.to(device) for images, _ in found]
        if not self._batches:
            raise ValueError(f"batch {batch}: there are {len(pictures.train.labels)} training pictures only")

    def network(self, architecture: Architecture) -> Subnet:
        """Return a network in evaluation mode, its normalisations recalibrated."""
        result = self.supernet.subnet(architecture).to(self.processes.device).eval()
        recalibrate(result, self._batches)
        return result

    def accuracy(self, architecture: Architecture) -> float:
        """Return the top-1 accuracy on the held-out pictures in percent."""
        return measure(self.network(architecture), self.pictures.test, self.processes)
