"""What long comparisons share: programs that they start, and what they leave behind, figures and a picture."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hw.spec.program import write_atomic
from sw.drawing import need_matplotlib

__all__ = ["check_results", "run_python", "save_results"]

_STDERR = 2  # where programs print, so that standard output has the comparison's table only


def run_python(arguments: Sequence[str], root: Path) -> None:
    """Run ``python`` with arguments in a folder, and say so on standard error.

    Raises
    ------
    subprocess.CalledProcessError
        If it ends with another status than 0.
    """
    print("python " + shlex.join(arguments), file=sys.stderr, flush=True)
    subprocess.run([sys.executable, *arguments], cwd=root, check=True, stdout=_STDERR)


def check_results(record: Path | None, picture: Path | None, *others: Path | None) -> None:
    """Refuse hours of work whose results could not be written; any of the files may be None.

    Raises
    ------
    ValueError
        If the folder of a file is missing, or there is a picture to draw and no matplotlib.
    """
    for path in (record, picture, *others):
        if path is not None and not path.parent.is_dir():
            raise ValueError(f"{path}: there is no folder {path.parent}; make it first")
    if picture is not None:
        need_matplotlib(str(picture))


def save_results(
    figures: Mapping[str, Any], record: Path | None, draw: Callable[[], bytes], picture: Path | None
) -> None:
    """Write figures and picture, each where a file is given for it.

    Raises
    ------
    OSError
        If one cannot be written.
    """
    if record is not None:
        write_atomic(record, (json.dumps(figures, indent=1) + "\n").encode())
    if picture is not None:
        write_atomic(picture, draw())
