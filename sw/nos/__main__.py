"""Command line of scaffolded training, ``python -m sw.nos NET:fuse_half --teacher-weights F --data F --out DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from sw.nn import zoo
from sw.nn.zoo.layers import initialise
from sw.nn.zoo.registry import parse
from sw.nos.sampling import Scaffolding
from sw.nos.scaffold import scaffold
from sw.train.command import EPILOG, Setup, add_run_options, open_teacher, recipe_of, teacher_facts
from sw.train.command import main as run_main

__all__ = ["main", "parser"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog="python -m sw.nos",
        description="Neural Operator Scaffolding: train a FuSe network on the scaffold of its depthwise twin. Every "
        "layer has one depthwise kernel, from which two small matrices make FuSeConv's filters; each step draws which "
        "form a layer takes, ever more often FuSeConv, while the trained twin teaches; at the end the matrices are "
        "folded into the filters of a plain FuSe network (docs/nos.md).",
        epilog=EPILOG.replace("PROGRAM", "sw.nos"),
    )
    add_run_options(result)
    group = result.add_argument_group("scaffolding")
    group.add_argument(
        "--teacher-weights", metavar="F", type=Path, required=True, help="of the depthwise twin, .npz or .pth"
    )
    group.add_argument(
        "--start",
        choices=["teacher", "random"],
        default="teacher",
        help="initial weights of the scaffold: the teacher's, or none (default: %(default)s)",
    )
    group.add_argument(
        "--teacher-share", metavar="A", type=float, default=0.5, help="of the loss, 0 to 1 (default: %(default)s)"
    )
    group.add_argument("--temperature", metavar="T", type=float, default=4.0, help="default: %(default)s")
    group.add_argument(
        "--fuse-start", metavar="P", type=float, default=0.5, help="first share of FuSe layers (default: %(default)s)"
    )
    group.add_argument(
        "--fuse-all",
        metavar="T",
        type=float,
        default=0.75,
        help="share of the run after which all are FuSe (default: %(default)s)",
    )
    return result


def _build(options: argparse.Namespace, classes: int, device: torch.device) -> Setup:
    choice = parse(options.network)
    if choice.variant is None:
        raise ValueError(f"{options.network}: nothing to scaffold; name a FuSe network, {options.network}:fuse_half")
    recipe = recipe_of(options)
    teacher = open_teacher(choice.base, options.teacher_weights, options, classes).to(device)
    base = zoo.unfused(options.network, width=options.width, resolution=recipe.resolution or None, classes=classes)
    if options.start == "teacher":
        base.load_state_dict(teacher.state_dict())
    else:
        initialise(base)
    model = scaffold(base.train(), choice.variant, choice.fused)
    objective = Scaffolding(
        recipe.label_smoothing,
        teacher,
        options.teacher_share,
        options.temperature,
        start=options.fuse_start,
        full_at=options.fuse_all,
    )
    facts = {
        "method": "nos",
        "start": options.start,
        **teacher_facts(choice.base, options.teacher_weights, options.teacher_share, options.temperature),
        "fuse_start": options.fuse_start,
        "fuse_all": options.fuse_all,
    }
    return Setup(options.network, classes, model, objective, facts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_main(parser(), _build, argv)


if __name__ == "__main__":
    sys.exit(main())
