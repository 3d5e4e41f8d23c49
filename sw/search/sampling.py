"""What a step of training the supernet minimises: some networks of the space, taught by the largest."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sw.nos.recalibrate import recalibrate
from sw.search.space import Architecture, Space
from sw.search.supernet import Supernet
from sw.train.data import Batch
from sw.train.objective import Distillation, Labels, distillation_loss

__all__ = ["Largest", "Sampling", "drawn"]


def drawn(space: Space, paths: int, generator: torch.Generator) -> list[Architecture]:
    """Return the networks of a step.

    With three or more the first two are the largest and the smallest, between which all others lie ("sandwich", Yu and
    Huang, arXiv 1903.05134); the rest is drawn.
    """

    def pick(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    fixed = [space.largest, space.smallest] if paths >= 3 else []
    return fixed + [space.draw(pick) for _ in range(paths - len(fixed))]


def _largest(model: nn.Module, batches: list[Batch]) -> nn.Module:
    """Return a copy of the supernet that is now its largest network, recalibrated."""
    result = copy.deepcopy(model)
    assert isinstance(result, Supernet)
    result.activate([result.space.largest])
    device = next(result.parameters()).device
    recalibrate(result, (images.to(device) for images, _ in batches))
    return result


class Largest(Labels):
    """Cross entropy of the supernet's largest network with the labels.

    Parameters
    ----------
    smoothing
        See :class:`sw.train.recipe.Recipe`.
    """

    samples = True  # weights of the other networks take no part

    def begin(self, model: nn.Module, progress: float, generator: torch.Generator) -> None:
        """Take the largest network."""
        assert isinstance(model, Supernet)
        model.activate([model.space.largest])

    def measured(self, model: nn.Module, batches: list[Batch]) -> nn.Module:
        """Return a copy of the supernet as its largest network, recalibrated."""
        return _largest(model, batches)


class Sampling(Distillation):
    """The mean of some networks' losses, each with the labels and the trained largest network's outputs.

    Parameters
    ----------
    smoothing, teacher, weight, temperature
        See :class:`sw.train.objective.Distillation`.
    paths
        Networks per step, see :func:`drawn`.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    samples = True

    def __init__(
        self, smoothing: float, teacher: nn.Module, weight: float = 0.5, temperature: float = 4.0, *, paths: int = 3
    ) -> None:
        super().__init__(smoothing, teacher, weight, temperature)
        if paths < 1:
            raise ValueError(f"paths {paths!r} must be at least 1")
        self.paths = paths

    def begin(self, model: nn.Module, progress: float, generator: torch.Generator) -> None:
        """Draw the step's networks."""
        assert isinstance(model, Supernet)
        model.activate(drawn(model.space, self.paths, generator))

    def loss(self, logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over all networks' logits (N * paths, classes)."""
        with torch.no_grad():
            taught = self.teacher(images).float().repeat(self.paths, 1)
        own = Labels.loss(self, logits, images, labels.repeat(self.paths))
        return (1 - self.weight) * own + self.weight * distillation_loss(logits, taught, self.temperature)

    def measured(self, model: nn.Module, batches: list[Batch]) -> nn.Module:
        """Return a copy of the supernet as its largest network, recalibrated."""
        return _largest(model, batches)
