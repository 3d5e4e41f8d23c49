"""Untrained networks that behave like trained ones, for runs where only sizes, cycles and bits count."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sw.frontends.calibration import picture_batches
from sw.nn import zoo
from sw.nn.weights import save_weights

__all__ = ["save_untrained"]


def save_untrained(name: str, pictures: str | Path, path: str | Path, *, count: int = 16, seed: int = 0) -> None:
    """Write random weights of a network of the zoo, with normalisation statistics of real pictures.

    With initial statistics, signals fade from layer to layer, and the last ones hold a handful of values.

    Parameters
    ----------
    name
        Of the zoo.
    pictures, count
        See :func:`sw.frontends.calibration.picture_batches`.
    path
        Of the ``.npz`` (:func:`sw.nn.weights.save_weights`).
    seed
        Of the weights.

    Raises
    ------
    ValueError
        If there is no such network, or a picture cannot be read.
    """
    batches = picture_batches(pictures, zoo.metadata(name), count)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = zoo.create(name).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = None  # the mean over all batches
    with torch.no_grad():
        for batch in batches:
            network(batch)
    record = {"network": name, "weights": "random", "seed": seed, "pictures": Path(pictures).name, "count": count}
    save_weights(network.eval(), path, record)
