"""Statistics of batch normalisations, computed anew for a network whose operators changed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["recalibrate"]


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set running means and variances to the mean over batches of inputs; weights and mode stay.

    A subnet of a supernet has statistics of its own; those gathered while all kinds were trained fit none of them (Yu
    and Huang, arXiv 1903.05134, section 3.2).

    Parameters
    ----------
    model
        Changed in place.
    batches
        Inputs (N, C, H, W) on the model's device, normalised, N alike.

    Raises
    ------
    ValueError
        If there is no batch.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    training, momenta = model.training, [norm.momentum for norm in norms]
    modes = [module.training for module in model.modules()]
    model.eval()  # dropout and the like stay quiet
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
        norm.train()
    count = 0
    try:
        for images in batches:
            model(images)
            count += 1
    finally:
        for module, mode in zip(model.modules(), modes, strict=True):
            module.training = mode
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        assert model.training == training
    if not count and norms:
        raise ValueError("recalibration needs at least one batch of pictures")
