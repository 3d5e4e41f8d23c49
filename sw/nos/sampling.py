"""NOS as an objective: operators drawn per layer and step, a teacher, and a recalibrated FuSe network to measure."""

from __future__ import annotations

import torch
from torch import nn

from sw.nos.recalibrate import recalibrate
from sw.nos.scaffold import collapse, scaffold_layers
from sw.train.data import Batch
from sw.train.objective import Distillation

__all__ = ["Scaffolding", "fuse_probability"]


def fuse_probability(progress: float, start: float, full_at: float) -> float:
    """Return how likely a layer is FuSeConv, `progress` (0 to 1) into training.

    It rises linearly from `start` and is 1 from `full_at` on.
    """
    if progress >= full_at:
        return 1.0
    return start + (1 - start) * progress / full_at


class Scaffolding(Distillation):
    """Per step, each scaffold layer is drawn to be depthwise or FuSeConv; a depthwise network teaches.

    Parameters
    ----------
    smoothing, teacher, weight, temperature
        See :class:`sw.train.objective.Distillation`.
    start, full_at
        See :func:`fuse_probability`.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    samples = True

    def __init__(
        self,
        smoothing: float,
        teacher: nn.Module,
        weight: float = 0.5,
        temperature: float = 4.0,
        *,
        start: float = 0.5,
        full_at: float = 0.75,
    ) -> None:
        super().__init__(smoothing, teacher, weight, temperature)
        for name, value in (("first share of FuSe layers", start), ("share of the run until all are FuSe", full_at)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} {value!r} must be from 0 to 1")
        self.start, self.full_at = start, full_at

    def begin(self, model: nn.Module, progress: float, generator: torch.Generator) -> None:
        """Draw each layer's operator."""
        layers = scaffold_layers(model)
        chance = fuse_probability(progress, self.start, self.full_at)
        draws = torch.rand(len(layers), generator=generator)
        for layer, draw in zip(layers, draws.tolist(), strict=True):
            layer.operator = "fuse" if draw < chance else "depthwise"

    def measured(self, model: nn.Module, batches: list[Batch]) -> nn.Module:
        """Return the collapsed network, its normalisations recalibrated on the batches."""
        result = collapse(model)
        device = next(result.parameters()).device
        recalibrate(result, (images.to(device) for images, _ in batches))
        return result
