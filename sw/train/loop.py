"""The loop over epochs, which an interruption costs at most one of."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sw.train.checkpoint import LAST, check_run, read_checkpoint, remove_leftovers, write_checkpoint
from sw.train.data import Batch, Loader, Share, TrainingPictures, seed_of
from sw.train.distributed import Processes
from sw.train.logs import EpochLog
from sw.train.objective import Objective
from sw.train.recipe import Recipe, learning_rate

__all__ = ["Precision", "Progress", "Result", "TrainingError", "fit", "measure"]

Precision = Literal["fp32", "bf16", "fp16"]

Progress = Callable[[int, int, int, float], None]
"""Called with the epoch (from 1), steps done and in all, and the mean loss so far."""

# of training pictures, for an objective that recalibrates before it measures; an order that no epoch has
_MEASURED_BATCHES, _MEASURED_EPOCH = 20, -1


class TrainingError(RuntimeError):
    """Training that cannot go on; the message says where it stands and what to try."""


@dataclass(frozen=True)
class Result:
    """What a run ended with.

    Parameters
    ----------
    model
        The network of the last epoch (averaged, if the recipe says so), in evaluation mode, on the CPU.
    lines
        The log: a line per epoch.
    """

    model: nn.Module
    lines: list[dict[str, float]]


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    lr = learning_rate(recipe, 0.0)
    if recipe.optimiser == "rmsprop":
        return torch.optim.RMSprop(groups, lr, alpha=recipe.alpha, eps=recipe.eps, momentum=recipe.momentum)
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr, betas=(recipe.momentum, 0.999))
    return torch.optim.SGD(groups, lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def _averaged(model: nn.Module, decay: float) -> AveragedModel | None:
    def mix(averages: Any, values: Any, steps: Tensor | int) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(steps)) / (10 + int(steps))))(averages, values, steps)

    return AveragedModel(model, multi_avg_fn=mix, use_buffers=True) if decay else None


def _set_normalisation(model: nn.Module, recipe: Recipe) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum, module.eps = recipe.bn_momentum, recipe.bn_eps


@torch.no_grad()
def measure(model: nn.Module, pictures: Loader, processes: Processes, *, batch: int = 256) -> float:
    """Return the top-1 accuracy in percent, in evaluation mode; the processes share the work."""
    training = model.training
    model.eval()
    counts = torch.zeros(2, dtype=torch.float64, device=processes.device)
    for images, labels in pictures.test(batch, processes.share):
        best = model(images.to(processes.device, memory_format=torch.channels_last)).argmax(1).cpu()
        counts += torch.tensor([int((best == labels).sum()), len(labels)], device=processes.device)
    model.train(training)
    right, total = processes.total(counts).tolist()
    return 100 * right / total


class _Run:
    """The objects whose state is a checkpoint."""

    def __init__(
        self, model: nn.Module, recipe: Recipe, objective: Objective, processes: Processes, precision: Precision
    ) -> None:
        _set_normalisation(model, recipe)
        self.model = model.to(processes.device, memory_format=torch.channels_last)
        self.recipe, self.objective, self.processes, self.precision = recipe, objective, processes, precision
        self.optimiser = _optimiser(self.model, recipe)
        self.average = _averaged(self.model, recipe.ema)
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=precision == "fp16")
        self.parallel = processes.parallel(self.model, unused=objective.samples)

    def state(self) -> dict[str, Any]:
        found = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        if self.average is not None:
            found["average"] = self.average.state_dict()
        return found | {"scaler": self.scaler.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.scaler.load_state_dict(state["scaler"])

    def best(self) -> nn.Module:
        """Return the network that is measured and kept."""
        return self.model if self.average is None else self.average.module

    def epoch(self, epoch: int, steps: int, batches: Iterator[Batch], seed: int, progress: Progress | None) -> float:
        """Train for an epoch (from 0); return the mean loss."""
        recipe, device = self.recipe, self.processes.device
        # every draw of an epoch depends on its number alone, so a run that is continued draws the same
        torch.manual_seed(seed_of("epoch", seed, epoch, self.processes.share.rank))
        generator = torch.Generator().manual_seed(seed_of("objective", seed, epoch))  # the same in all processes
        self.parallel.train()
        total = 0.0
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        for step, (images, labels) in enumerate(batches):
            moment = epoch + step / steps
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate(recipe, moment)
            images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
            labels = labels.to(device, non_blocking=True)
            self.objective.begin(self.model, moment / recipe.epochs, generator)
            with torch.autocast(device.type, kind, enabled=kind is not None):
                logits = self.parallel(images)
            loss = self.objective.loss(logits.float(), images, labels)
            value = loss.item()
            if not math.isfinite(value):
                rate = learning_rate(recipe, moment)
                at = f"epoch {epoch + 1}, step {step + 1} of {steps}"
                raise _diverged(f"{at}: the loss is {value} at learning rate {rate:.3g}", epoch)
            self._step(loss)
            total += value
            if progress is not None:
                progress(epoch + 1, step + 1, steps, total / (step + 1))
        return total / steps

    def check(self, epoch: int) -> None:
        """Raise :class:`TrainingError` if a weight or statistic is no number, as gradients of a finite loss may do."""
        for kept in (self.model, self.best()):
            for name, value in kept.state_dict().items():
                if value.is_floating_point() and not bool(value.isfinite().all()):
                    raise _diverged(f"epoch {epoch + 1}: {name} holds a value that is no number after it", epoch)

    def _step(self, loss: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.recipe.clip:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)


def _diverged(what: str, epoch: int) -> TrainingError:
    """Return the error of an epoch (from 0) whose numbers are none."""
    kept = f"the checkpoint of epoch {epoch} is kept" if epoch else "there is no checkpoint yet"
    return TrainingError(f"{what}; {kept}: lower --lr, or --set clip=1, and start again in another folder")


def fit(
    model: nn.Module,
    pictures: TrainingPictures,
    recipe: Recipe,
    objective: Objective,
    folder: Path,
    *,
    facts: dict[str, Any],
    seed: int = 0,
    processes: Processes,
    precision: Precision = "fp32",
    tensorboard: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Train a network, or go on with a run that was interrupted.

    Each epoch ends with a checkpoint (``last.pt``) and a line of ``log.csv`` in `folder`.  Order, augmentation
    and all other draws depend on `seed` and the epoch only, so that a run that was interrupted and continued gives
    the same result as one that was not, on the same number of processes.

    Parameters
    ----------
    model
        Network with initial weights; it is changed.
    pictures, recipe, objective
        What to learn, how, and what to minimise.
    folder
        Of the run; it exists.
    facts
        What else the result depends on (JSON-able): a checkpoint of a run with other facts is refused.
    seed
        Of all draws.
    processes
        From :func:`sw.train.distributed.processes`.
    precision
        Of the forward pass: bf16 and fp16 are mixed precision (``torch.autocast``).
    tensorboard
        Also write events.
    progress
        Called after each step.

    Raises
    ------
    TrainingError
        If the loss or a weight is not finite, an epoch has no whole batch, or the processes have other checkpoints.
    sw.train.checkpoint.CheckpointError
        If a checkpoint cannot be written or read or is another run's.
    """
    steps = len(pictures.train.labels) // recipe.batch
    if not steps or recipe.batch % processes.share.world:
        raise TrainingError(
            f"batch {recipe.batch}: {len(pictures.train.labels)} training pictures and {processes.share.world} "
            f"processes; it must be at most the former and a multiple of the latter"
        )
    path = folder / LAST
    identity = {**facts, "seed": seed, "precision": precision, "processes": processes.share.world, **recipe.to_dict()}
    old = read_checkpoint(path)
    run = _Run(model, recipe, objective, processes, precision)
    lines: list[dict[str, float]] = []
    if old is not None:
        check_run(path, old["run"], identity)
        run.load(old["state"])
        lines = old["lines"]
    del old
    epochs = processes.gathered(len(lines))
    if len(set(epochs)) > 1:
        raise TrainingError(
            f"{path}: the processes read checkpoints of epochs {', '.join(map(str, epochs))}; all machines of a run "
            f"need the same folder"
        )
    if processes.first:
        remove_leftovers(folder)
    with EpochLog(folder, lines, tensorboard=tensorboard and processes.first) as log:
        if lines and processes.first:
            log.write()  # a process may have been killed when only the checkpoint was written
        for epoch in range(len(lines), recipe.epochs):
            start = time.monotonic()
            batches = pictures.train.train(epoch, recipe.batch, processes.share)
            loss = run.epoch(epoch, steps, batches, seed, progress)
            run.check(epoch)
            means = processes.total(torch.tensor([loss], dtype=torch.float64, device=processes.device))
            accuracy = measure(_measured(run, pictures), pictures.test, processes)
            line = {
                "epoch": epoch + 1,
                "learning_rate": learning_rate(recipe, epoch),
                "loss": means.item() / processes.share.world,
                "top1": accuracy,
                "seconds": time.monotonic() - start,
            }
            log.lines.append(line)
            if processes.first:
                write_checkpoint(path, {"run": identity, "lines": log.lines, "state": run.state()})
                log.write()
            processes.wait()
        final = copy.deepcopy(_measured(run, pictures)).cpu().eval()
        return Result(final, log.lines)


def _measured(run: _Run, pictures: TrainingPictures) -> nn.Module:
    """Return the network whose accuracy counts; the same in all processes."""
    run.processes.share_buffers(run.best())
    batches: list[Batch] = []
    if run.objective.samples:  # all processes see the same pictures, and every time the same
        some = pictures.train.train(_MEASURED_EPOCH, run.recipe.batch, Share())
        batches = list(itertools.islice(some, _MEASURED_BATCHES))
    return run.objective.measured(run.best(), batches)
