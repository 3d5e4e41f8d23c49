"""What a training run depends on besides the network and the pictures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

__all__ = ["RECIPES", "Recipe", "RecipeError", "learning_rate"]

Optimiser = Literal["rmsprop", "sgd", "adamw"]
Schedule = Literal["step", "cosine"]
Augmentation = Literal["imagenet", "shift", "none"]

LR_BATCH = 256
"""Pictures per step for which a recipe states its learning rate; other batches scale it in proportion."""


class RecipeError(ValueError):
    """A recipe that cannot be followed; the message names the field, the value and the limit."""


@dataclass(frozen=True)
class Recipe:
    """A training recipe.

    Parameters
    ----------
    epochs
        Passes over the training pictures.
    batch
        Pictures per step, of all processes together.
    optimiser
        ``rmsprop`` (smoothing `alpha`), ``sgd`` (Nesterov) or ``adamw``, with `momentum` (AdamW's first beta).
    lr
        Peak learning rate per 256 pictures of a batch.
    schedule
        ``step``: times `step_factor` every `step_epochs`; ``cosine``: half a wave down to 0 at the end.
    warmup_epochs
        Linear rise from 0 before that; the schedule counts from the start all the same.
    weight_decay
        Of convolution and linear weights; biases and normalisation have none.
    clip
        Largest norm of a step's gradients; 0 for any.
    label_smoothing
        Share of the target that is spread over all classes.
    ema
        Decay per step of the averaged weights, which are evaluated and kept; 0 for none.  The n-th step uses at most
        ``(1 + n) / (10 + n)``, so that short runs do not average their initial weights.
    bn_momentum, bn_eps
        Of all batch normalisations, in PyTorch's sense (the share of the new batch).
    augmentation
        ``imagenet``: a random crop of 8 to 100 % of the area, resized, flipped; ``shift``: shifted by up to an eighth
        of the side, zeros at the edges, flipped; ``none``.
    resolution
        Side of the network's input; 0 for the network's own.

    Raises
    ------
    RecipeError
        If a field is out of range.
    """

    epochs: int = 350
    batch: int = 256
    optimiser: Optimiser = "rmsprop"
    lr: float = 0.016
    schedule: Schedule = "step"
    step_epochs: float = 2.4
    step_factor: float = 0.97
    warmup_epochs: float = 0.0
    momentum: float = 0.9
    alpha: float = 0.9
    eps: float = 1e-3
    weight_decay: float = 1e-5
    clip: float = 0.0
    label_smoothing: float = 0.1
    ema: float = 0.9999
    bn_momentum: float = 0.01
    bn_eps: float = 1e-3
    augmentation: Augmentation = "imagenet"
    resolution: int = 224

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 1, math.inf),
            ("batch", 1, math.inf),
            ("lr", 0, math.inf),
            ("step_epochs", 1e-6, math.inf),
            ("step_factor", 0, 1),
            ("warmup_epochs", 0, self.epochs),
            ("momentum", 0, 1),
            ("alpha", 0, 1),
            ("eps", 0, math.inf),
            ("weight_decay", 0, math.inf),
            ("clip", 0, math.inf),
            ("label_smoothing", 0, 1),
            ("ema", 0, 1),
            ("bn_momentum", 0, 1),
            ("bn_eps", 0, 1),
            ("resolution", 0, math.inf),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                limit = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
                raise RecipeError(f"{name} {value!r} must be {limit}")
        for name, kinds in (("optimiser", Optimiser), ("schedule", Schedule), ("augmentation", Augmentation)):
            value = getattr(self, name)
            if value not in get_args(kinds):
                raise RecipeError(f"{name} {value!r} must be one of {', '.join(get_args(kinds))}")

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """Return the recipe with some fields replaced; those that are None stay."""
        return dataclasses.replace(self, **{name: value for name, value in changes.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return dataclasses.asdict(self)


RECIPES: dict[str, Recipe] = {
    # the paper's, see Recipe's defaults
    "imagenet": Recipe(),
    "cifar10": Recipe(
        epochs=30,
        batch=128,
        optimiser="sgd",
        lr=0.4,
        schedule="cosine",
        warmup_epochs=1,
        weight_decay=5e-4,
        clip=5.0,
        label_smoothing=0.05,
        ema=0.99,
        bn_momentum=0.1,
        bn_eps=1e-5,
        augmentation="shift",
        resolution=0,
    ),
}
"""By name: the ImageNet recipe of the paper (350 epochs, RMSprop), and one for CIFAR-10's small pictures."""


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """Return the learning rate at a moment, in epochs from the start, for the recipe's own batch."""
    peak = recipe.lr * recipe.batch / LR_BATCH
    warm = min(1.0, epoch / recipe.warmup_epochs) if recipe.warmup_epochs else 1.0
    if recipe.schedule == "cosine":
        return peak * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / recipe.epochs)))
    return peak * warm * float(recipe.step_factor ** int(epoch / recipe.step_epochs))
