"""What the command lines of training share: options, progress, the run, and what it leaves behind."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from sw.defaults import ZOO_WIDTH
from sw.frontends.calibration import TakesPictures
from sw.nn import zoo
from sw.nn.count import parameters
from sw.nn.weights import save_weights
from sw.options import count
from sw.printing import show
from sw.status import exit_status
from sw.train.checkpoint import CheckpointError
from sw.train.data import TrainingPictures, open_pictures
from sw.train.distributed import ProcessError, Processes, compute_deterministically, processes
from sw.train.joint import separated
from sw.train.loop import Precision, Progress, Result, TrainingError, fit
from sw.train.objective import Objective
from sw.train.recipe import RECIPES, Recipe

__all__ = [
    "FAILURES",
    "WEIGHTS",
    "Setup",
    "add_run_options",
    "main",
    "open_teacher",
    "progress_bar",
    "recipe_of",
    "run",
    "teacher_facts",
    "training_pictures",
]

WEIGHTS = "weights.npz"
"""Name of the trained weights in a run's folder."""

FAILURES = (CheckpointError, TrainingError, ProcessError, torch.OutOfMemoryError)
"""Errors of a training that was asked for in order."""

EPILOG = (
    "Interrupted, the same command continues with the epoch that was not finished.  Many GPUs: "
    "torchrun --nproc-per-node N -m PROGRAM ...  Exit status: 0 done, 1 training failed (the last checkpoint is kept), "
    "2 wrong usage, 130 interrupted."
)


@dataclass(frozen=True)
class Setup:
    """What a command line makes of its options.

    Parameters
    ----------
    name, classes
        Network of the zoo that the weights will be for.
    model
        What is trained.
    objective
        What a step minimises.
    facts
        On which the result depends, besides those that :func:`run` knows.
    """

    name: str
    classes: int
    model: nn.Module
    objective: Objective
    facts: dict[str, Any]


def _change(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    kinds = {field.name: str(field.type) for field in fields(Recipe)}
    if name not in kinds:
        raise argparse.ArgumentTypeError(f"{text!r}: no field {name!r}; there are {', '.join(kinds)}")
    kind = {"int": int, "float": float}.get(kinds[name], str)
    try:
        return name, kind(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: {value!r} is no {kinds[name]}") from None


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share, 0 or more and less than 1")
    return value


def add_run_options(parser: argparse.ArgumentParser, *, network: bool = True) -> None:
    """Add network (unless the caller has its own), pictures, recipe and machine; :func:`run` reads them."""
    if network:
        parser.add_argument("network", metavar="NET", help="a network of the zoo, such as mobilenet_v2:fuse_half")
    parser.add_argument(
        "--width", metavar="W", type=float, default=ZOO_WIDTH, help="multiplier of the channels (default: %(default)s)"
    )
    parser.add_argument(
        "--classes", metavar="N", type=count, help="number of logits (default: classes of the pictures)"
    )
    pictures = parser.add_argument_group("pictures")
    pictures.add_argument(
        "--data",
        metavar="F",
        type=Path,
        required=True,
        help="labelled pictures: a folder with one subfolder per class (or with such folders train and val), a tar "
        "with labels.csv, or an .npz of encoded pictures",
    )
    pictures.add_argument("--test", metavar="F", type=Path, help="pictures to measure with, of the same form")
    pictures.add_argument(
        "--holdout",
        metavar="SHARE",
        type=_share,
        default=0.0,
        help="take this share out of the training pictures and measure with it instead",
    )
    pictures.add_argument("--limit", metavar="N", type=count, help="train with N pictures at most")
    pictures.add_argument(
        "--workers", metavar="N", type=count, default=0, help="processes that decode files (default: none)"
    )
    recipe = parser.add_argument_group("recipe")
    recipe.add_argument(
        "--recipe", choices=list(RECIPES), default="imagenet", help="default: %(default)s, which is the paper's"
    )
    recipe.add_argument("--epochs", metavar="N", type=count, help="instead of the recipe's")
    recipe.add_argument("--batch", metavar="N", type=count, help="pictures per step, of all processes together")
    recipe.add_argument("--lr", metavar="R", type=float, help="peak learning rate per 256 pictures")
    recipe.add_argument(
        "--set",
        metavar="FIELD=VALUE",
        type=_change,
        nargs="+",
        default=[],
        help=f"other fields: {', '.join(field.name for field in fields(Recipe))}",
    )
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", choices=["cpu", "cuda"], help="default: a GPU where there is one")
    machine.add_argument(
        "--precision", choices=get_args(Precision), default="fp32", help="of the forward pass (default: %(default)s)"
    )
    machine.add_argument("--threads", metavar="N", type=count, help="of the CPU (default: PyTorch's choice)")
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of weights, order and augmentation (default: %(default)s)"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the run; made if need be")
    parser.add_argument("--tensorboard", action="store_true", help="also write events for TensorBoard")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def recipe_of(options: argparse.Namespace) -> Recipe:
    """Return the recipe with the changes asked for.

    Raises
    ------
    sw.train.recipe.RecipeError
        If a value is out of range.
    """
    own = {"epochs": options.epochs, "batch": options.batch, "lr": options.lr}
    return RECIPES[options.recipe].changed({**own, **dict(options.set)})


def open_teacher(name: str, weights: Path, options: argparse.Namespace, classes: int) -> nn.Module:
    """Return a trained network of the same size as the one of the options.

    Raises
    ------
    ValueError
        If there is no such network, or the weights are another's.
    """
    resolution = recipe_of(options).resolution or None
    return zoo.create(name, width=options.width, resolution=resolution, classes=classes, weights=weights)


def teacher_facts(name: str, weights: Path, share: float, temperature: float) -> dict[str, Any]:
    """Return what a run depends on that a network teaches."""
    return {
        "teacher": name,
        "teacher_weights": hashlib.sha256(weights.read_bytes()).hexdigest()[:16],
        "teacher_share": share,
        "temperature": temperature,
    }


@contextmanager
def progress_bar(visible: bool) -> Iterator[Progress | None]:
    """Show progress on a terminal's standard error, a line per epoch elsewhere."""
    if not visible:
        yield None
        return
    if not sys.stderr.isatty() or importlib.util.find_spec("rich") is None:

        def line(epoch: int, done: int, total: int, loss: float) -> None:
            if done == total:
                print(f"epoch {epoch}: loss {loss:.4f}", file=sys.stderr, flush=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(epoch: int, done: int, total: int, loss: float) -> None:
            bar.update(task, description=f"epoch {epoch} loss {loss:.3f}", completed=done, total=total)

        yield update


def _own_normalisation(model: nn.Module, like: nn.Module) -> None:
    """Give batch normalisations the epsilon of those of another network with the same layers, function unchanged."""
    others = dict(like.named_modules())
    for name, module in model.named_modules():
        other = others.get(name)
        if isinstance(module, nn.BatchNorm2d) and isinstance(other, nn.BatchNorm2d) and module.eps != other.eps:
            assert module.running_var is not None
            module.running_var += module.eps - other.eps  # may be slightly below 0, its sum with eps is not
            module.eps = other.eps


def _export(setup: Setup, options: argparse.Namespace, result: Result, description: dict[str, Any]) -> dict[str, Any]:
    """Write the weights as the zoo reads them; return what is to be said of the run."""
    resolution = recipe_of(options).resolution or None
    with torch.device("meta"):  # for its layers only
        like = zoo.create(setup.name, width=options.width, resolution=resolution, classes=setup.classes)
    model = separated(result.model)
    _own_normalisation(model, like)
    last = result.lines[-1]
    summary = {
        "network": setup.name,
        "width": options.width,
        "classes": setup.classes,
        "parameters": parameters(model),
        "top1": last["top1"],
        "epochs": int(last["epoch"]),
        "seconds": sum(line["seconds"] for line in result.lines),
        "seed": options.seed,
        **description,
        **setup.facts,
        "torch": torch.__version__,
        "command": shlex.join(["python", "-m", *sys.orig_argv[2:]]) if "-m" in sys.orig_argv[:2] else None,
    }
    save_weights(model, options.out / WEIGHTS, summary)
    return {**summary, "weights": str(options.out / WEIGHTS)}


def training_pictures(options: argparse.Namespace, about: TakesPictures) -> tuple[TrainingPictures, int]:
    """Return the pictures of the options for a network's input, and the number of logits.

    Raises
    ------
    sw.nn.pictures.PictureError, ValueError
        If they cannot be read, or have more classes than asked for.
    """
    pictures = open_pictures(
        options.data,
        about,
        test=options.test,
        holdout=options.holdout,
        limit=options.limit,
        augmentation=recipe_of(options).augmentation,
        seed=options.seed,
        workers=options.workers,
    )
    classes = pictures.classes if options.classes is None else options.classes
    if classes < pictures.classes:
        raise ValueError(f"--classes {classes}: the pictures have {pictures.classes}")
    return pictures, classes


def _trained(
    options: argparse.Namespace,
    build: Callable[[argparse.Namespace, int, torch.device], Setup],
    together: Processes,
    progress: Progress | None,
) -> dict[str, Any]:
    recipe = recipe_of(options)
    about = zoo.metadata(options.network, resolution=recipe.resolution or None)
    pictures, classes = training_pictures(options, about)
    setup = build(options, classes, together.device)
    options.out.mkdir(parents=True, exist_ok=True)
    description = {**pictures.description, "limit": options.limit}
    result = fit(
        setup.model,
        pictures,
        recipe,
        setup.objective,
        options.out,
        facts={
            "network": options.network,
            "width": options.width,
            "classes": classes,
            "recipe": options.recipe,
            **description,
            **setup.facts,
        },
        seed=options.seed,
        processes=together,
        precision=options.precision,
        tensorboard=options.tensorboard,
        progress=progress,
    )
    return _export(setup, options, result, description) if together.first else {}


def run(options: argparse.Namespace, build: Callable[[argparse.Namespace, int, torch.device], Setup]) -> dict[str, Any]:
    """Train what `build` makes of options, number of classes and device; return what is to be said of it.

    Every process of a run calls this; the others than the first return an empty dict.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    with processes(options.device) as together:
        compute_deterministically(together.device)
        with progress_bar(together.first) as progress:
            return _trained(options, build, together, progress)


def main(
    parser: argparse.ArgumentParser,
    build: Callable[[argparse.Namespace, int, torch.device], Setup],
    argv: Sequence[str] | None,
) -> int:
    """Run a command line of training; return the exit status."""
    options = parser.parse_args(argv)

    def work() -> None:
        found = run(options, build)
        if found:
            text = f"{found['weights']}: {found['network']}, top-1 {found['top1']:.2f} % after {found['epochs']} epochs"
            show(json.dumps(found, indent=1) if options.json else text)

    return exit_status(work, kept=f"the same command continues {options.out}", failures=FAILURES)
