"""Train the digits classifier: ``python -m sw.nn.train_digits --variant half --out weights.npz``."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from sw.nn.count import count, parameters
from sw.nn.digits import INPUT_SHAPE, VARIANTS, DigitsVariant, digits_data, digits_network
from sw.nn.evaluate import accuracy
from sw.nn.weights import save_weights

__all__ = ["augment", "main", "train"]

BATCH = 64
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 1e-3
LABEL_SMOOTHING = 0.05
# light: the digits are centred, and of one writing size
_ROTATION = 0.15  # radians
_SCALE = 0.1
_SHIFT = 0.1  # of half the picture


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate, scale and shift each picture (N, C, H, W) a little, at random; zeros come in at the edges."""
    uniform = torch.rand(len(images), 4, generator=generator) * 2 - 1
    angle, scale = uniform[:, 0] * _ROTATION, 1 + uniform[:, 1] * _SCALE
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = uniform[:, 2:] * _SHIFT
    matrix = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def train(
    variant: DigitsVariant,
    *,
    seed: int = 0,
    epochs: int = 30,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    report: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Train a network from scratch and return it in evaluation mode.

    AdamW under a one-cycle schedule; the last epoch's weights are kept (the test pictures choose nothing).
    The same seed, thread count and versions give the same weights.

    Parameters
    ----------
    variant
        Which network.
    seed
        Of the initial weights, the order of pictures and the augmentation.
    epochs
        Passes over the training pictures, at least 1.
    images, labels
        Training data; the digits' training split if None.
    report
        Called after each epoch with its number (from 1) and mean loss.
    """
    if epochs < 1:
        raise ValueError(f"epochs {epochs} must be at least 1")
    if images is None or labels is None:
        images, labels, _, _ = digits_data()
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    model = digits_network(variant, seed=seed).train()
    generator = torch.Generator().manual_seed(seed)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}], lr=LEARNING_RATE
    )
    steps = max(1, len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps * epochs)
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        total = 0.0
        for step in range(steps):  # the few pictures of an incomplete last batch wait for the next epoch's order
            chosen = order[step * BATCH : (step + 1) * BATCH]
            logits = model(augment(x[chosen], generator))
            loss = F.cross_entropy(logits, y[chosen], label_smoothing=LABEL_SMOOTHING)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        if report is not None:
            report(epoch + 1, total / steps)
    return model.eval()


def _train_with_progress(variant: DigitsVariant, seed: int, epochs: int) -> nn.Module:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(f"training {variant}", total=epochs, loss="-")
        return train(
            variant,
            seed=seed,
            epochs=epochs,
            report=lambda epoch, loss: progress.update(task, completed=epoch, loss=f"{loss:.3f}"),
        )


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status (2 on a user's error)."""
    parser = argparse.ArgumentParser(
        prog="python -m sw.nn.train_digits",
        description="Train the digits classifier and write its weights as a numpy archive with their provenance.",
    )
    parser.add_argument("--variant", choices=VARIANTS, default="half", help="operator of the blocks (default: half)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation (default: 0)")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the training pictures (default: 30)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads; results depend on it (default: 2)")
    parser.add_argument("--out", type=Path, required=True, help="file to write, *.npz")
    args = parser.parse_args(argv)
    for name in ("epochs", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)}: must be at least 1")
    if not args.out.parent.is_dir():
        parser.error(f"--out {args.out}: the folder {args.out.parent} does not exist")
    if args.out.is_dir():
        parser.error(f"--out {args.out}: is a folder; name a file in it, *.npz")
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    model = _train_with_progress(args.variant, args.seed, args.epochs)
    _, _, test_x, test_y = digits_data()
    result = accuracy(model, test_x, test_y)
    macs = sum(layer.macs for layer in count(model, INPUT_SHAPE))
    save_weights(
        model,
        args.out,
        {
            "network": f"digits, {args.variant}",
            "command": f"python -m sw.nn.train_digits --variant {args.variant} --seed {args.seed} "
            f"--epochs {args.epochs} --threads {args.threads}",
            "data": "scikit-learn digits, 1297 training and 500 test pictures",
            "test_accuracy_percent": result,
            "parameters": parameters(model),
            "macs": macs,
            "torch": torch.__version__,
            "machine": platform.machine(),
        },
    )
    print(f"{args.out}: test accuracy {result:.2f} %, {parameters(model)} parameters, {macs / 1e6:.2f} M MACs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
