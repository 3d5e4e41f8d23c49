"""What a step of training minimises."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw.train.data import Batch

__all__ = ["Distillation", "Labels", "Objective", "distillation_loss"]


class Objective(Protocol):
    """A loss, and what a run does around it."""

    samples: bool
    """Whether the network changes from step to step, so that some parameters take no part in some of them."""

    def begin(self, model: nn.Module, progress: float, generator: torch.Generator) -> None:
        """Prepare the network for a step, `progress` (0 to 1) into the run; all draws come from `generator`."""
        ...

    def loss(self, logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        ...

    def measured(self, model: nn.Module, batches: list[Batch]) -> nn.Module:
        """Return the network whose accuracy counts, on the model's device, given batches of training pictures."""
        ...


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(teacher / T), softmax(logits / T)), the mean over a batch.

    Hinton, Vinyals and Dean (arXiv 1503.02531), section 2; logits are (N, classes).
    """
    target = F.log_softmax(teacher / temperature, 1)
    given = F.log_softmax(logits / temperature, 1)
    return temperature**2 * F.kl_div(given, target, reduction="batchmean", log_target=True)


class Labels:
    """Cross entropy with the labels.

    Parameters
    ----------
    smoothing
        See :class:`sw.train.recipe.Recipe`.
    """

    samples = False

    def __init__(self, smoothing: float) -> None:
        self.smoothing = smoothing

    def begin(self, model: nn.Module, progress: float, generator: torch.Generator) -> None:
        """Do nothing."""

    def loss(self, logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cross entropy."""
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)

    def measured(self, model: nn.Module, batches: list[Batch]) -> nn.Module:
        """Return the network itself."""
        return model


class Distillation(Labels):
    """A weighted mean of the cross entropy with the labels and the distance to a teacher's outputs.

    Parameters
    ----------
    smoothing
        Of the labels.
    teacher
        Network in evaluation mode, on the same device.
    weight
        Of the teacher, 0 to 1.
    temperature
        See :func:`distillation_loss`.
    """

    def __init__(self, smoothing: float, teacher: nn.Module, weight: float = 0.5, temperature: float = 4.0) -> None:
        super().__init__(smoothing)
        if not 0 <= weight <= 1:
            raise ValueError(f"weight of the teacher {weight!r} must be from 0 to 1")
        if temperature <= 0:
            raise ValueError(f"temperature {temperature!r} must be above 0")
        self.teacher, self.weight, self.temperature = teacher.eval().requires_grad_(False), weight, temperature

    def loss(self, logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted mean."""
        with torch.no_grad():
            taught = self.teacher(images).float()
        distance = distillation_loss(logits, taught, self.temperature)
        return (1 - self.weight) * super().loss(logits, images, labels) + self.weight * distance
