"""The state of a run after an epoch, in one file that is always whole."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from hw.spec.program import write_atomic
from sw.nn.weights import UNREADABLE

__all__ = ["LAST", "CheckpointError", "check_run", "read_checkpoint", "remove_leftovers", "write_checkpoint"]

LAST = "last.pt"
"""Name of the newest checkpoint in a run's folder."""

FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, is damaged, or belongs to another run."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors, numbers, text, lists and dicts; the old file stays until the new one is whole.

    Raises
    ------
    CheckpointError
        If it cannot be written (no space, no permission); what was there is untouched.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        size = f"{len(buffer.getvalue()) / 1e6:.1f} MB"
        raise CheckpointError(f"{path}: {size} cannot be written ({error.strerror}); the last one is kept") from None


def remove_leftovers(folder: Path) -> None:
    """Remove what a process left that was killed while it wrote a checkpoint; no other one may be training there."""
    for left in folder.glob(f".{LAST}.*.tmp"):
        left.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return the state in a file of :func:`write_checkpoint`, on the CPU; None if there is no such file.

    Raises
    ------
    CheckpointError
        If the file is damaged or something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason}); remove it to start again") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: no checkpoint of a training run; give another --out")
    return dict(state)


def check_run(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to continue a run as another one.

    Raises
    ------
    CheckpointError
        If one of the facts on which the result depends differs; the first is named.
    """
    for key in dict.fromkeys((*new, *old)):
        if old.get(key) != new.get(key):
            raise CheckpointError(
                f"{path}: a run whose {key} is {old.get(key)!r}, not {new.get(key)!r}; continue it with the old value, "
                f"or give another --out"
            )
