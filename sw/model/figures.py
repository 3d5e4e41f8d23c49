"""Tables of figures per part or event that a user may replace by those of another process, from a JSON file."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

__all__ = ["FigureError", "is_figure", "read_figures"]

Table = TypeVar("Table")


class FigureError(ValueError):
    """A figure, or a file of them, that cannot be used; the message names the key, the value and what is expected."""


def is_figure(value: object) -> bool:
    """Whether a value is a finite number, 0 or more."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


def read_figures(table: type[Table], path: str | Path) -> Table:
    """Read a JSON object with the figures to replace; the others stay as the table has them.

    Parameters
    ----------
    table
        Dataclass with a default for each figure, which checks its values.
    path
        The file.

    Raises
    ------
    FigureError
        If the file is missing or unreadable, a key is unknown, or a figure is wrong.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FigureError(f"{path}: not a readable JSON file of figures ({error})") from None
    known = [field.name for field in fields(table)]
    if not isinstance(found, dict):
        raise FigureError(f"{path}: a JSON object with some of {', '.join(known)} is expected")
    if unknown := sorted(set(found) - set(known)):
        raise FigureError(f"{path}: unknown key {unknown[0]!r}; there are {', '.join(known)}")
    try:
        return table(**found)
    except FigureError as error:
        raise FigureError(f"{path}: {error}") from None
