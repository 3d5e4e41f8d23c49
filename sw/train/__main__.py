"""Command line of training, ``python -m sw.train NET --data F --out DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from sw.nn import zoo
from sw.train.command import EPILOG, Setup, add_run_options, open_teacher, recipe_of, teacher_facts
from sw.train.command import main as run_main
from sw.train.joint import joined
from sw.train.objective import Distillation, Labels
from sw.train.recipe import LR_BATCH

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog="python -m sw.train",
        description="Train a network of the zoo on labelled pictures, alone or with a teacher's outputs (knowledge "
        f"distillation). Learning rates are per {LR_BATCH} pictures of a batch.",
        epilog=EPILOG.replace("PROGRAM", "sw.train"),
    )
    add_run_options(result)
    group = result.add_argument_group("distillation")
    group.add_argument("--teacher", metavar="NET", help="a network of the zoo that teaches, of the same --width")
    group.add_argument("--teacher-weights", metavar="F", type=Path, help="its weights, .npz or .pth")
    group.add_argument(
        "--teacher-share", metavar="A", type=float, default=0.5, help="of the loss, 0 to 1 (default: %(default)s)"
    )
    group.add_argument("--temperature", metavar="T", type=float, default=4.0, help="default: %(default)s")
    return result


def _build(options: argparse.Namespace, classes: int, device: torch.device) -> Setup:
    if (options.teacher is None) != (options.teacher_weights is None):
        raise ValueError("--teacher and --teacher-weights belong together")
    recipe = recipe_of(options)
    plain = zoo.create(options.network, width=options.width, resolution=recipe.resolution or None, classes=classes)
    model = joined(plain.train())
    if options.teacher is None:
        return Setup(options.network, classes, model, Labels(recipe.label_smoothing), {"method": "labels"})
    teacher = open_teacher(options.teacher, options.teacher_weights, options, classes).to(device)
    objective = Distillation(recipe.label_smoothing, teacher, options.teacher_share, options.temperature)
    taught = teacher_facts(options.teacher, options.teacher_weights, options.teacher_share, options.temperature)
    return Setup(options.network, classes, model, objective, {"method": "distillation", **taught})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_main(parser(), _build, argv)


if __name__ == "__main__":
    sys.exit(main())
