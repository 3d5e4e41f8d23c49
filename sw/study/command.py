"""What command lines of searches share; Optuna is an extra, and not imported here."""

from __future__ import annotations

import argparse
import importlib.util
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hw.spec.program import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["need_packages", "progress_bar", "save_picture", "seed"]

_PACKAGES = {"optuna": "Optuna", "matplotlib": "matplotlib"}


def need_packages(what: str) -> None:
    """Refuse to begin work that could not be finished.

    Raises
    ------
    ValueError
        If a package of ``rowcast[explore]`` is missing.
    """
    for module, name in _PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise ValueError(f"{what} needs {name}: install rowcast[explore]")


def seed(text: str) -> int:
    """Read a number, 0 or more (a type for argparse)."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number, 0 or more")
    return int(text)


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress (done, in all) on a terminal's standard error, and nothing elsewhere."""
    if not sys.stderr.isatty() or importlib.util.find_spec("rich") is None:
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomic(path, buffer.getvalue())
