"""Directories of built models: a lock per model, and a limit to how many are kept."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hw.spec.cache import default_cache

__all__ = ["KEPT_BUILDS", "default_cache", "locked", "prune", "touch"]

KEPT_BUILDS = 40
"""Models kept per directory, those used last; one takes 1 MB to 10 MB."""


@contextlib.contextmanager
def locked(directory: Path, key: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of one model.

    Parameters
    ----------
    directory
        Directory of the models.
    key
        Name of the model.
    wait
        Wait until whoever holds the lock has done; else give False at once.

    Yields
    ------
    bool
        Whether the lock is held.
    """
    path = directory / f"{key}.lock"
    while True:
        with path.open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            # A model that is pruned takes its lock with it; then this file is not the lock any more.
            if _is(path, handle.fileno()):
                yield True
                return


def touch(made: Path) -> None:
    """Note that a model is used, given the file that its build makes last; unwritable directories stay as they are."""
    with contextlib.suppress(OSError):
        os.utime(made)


def prune(directory: Path, made: str, keep: int = KEPT_BUILDS) -> None:
    """Delete all models but the `keep` used last, and what builds that were killed left behind.

    A library that another process has loaded goes on working.  A model that is being built stays.

    Parameters
    ----------
    directory
        Directory of the models, one folder each; work in progress lies in folders ``.key.anything``.
    made
        The file in a model's folder that its build makes last.
    keep
        Models to keep.
    """
    used = {path.parent.name: path.stat().st_mtime_ns for path in directory.glob(f"*/{made}")}
    unused = sorted(used, key=lambda key: used[key], reverse=True)[keep:]
    abandoned = [path for path in directory.glob(".*.*") if path.is_dir()]
    for path in (*(directory / key for key in unused), *abandoned):
        key = path.name.lstrip(".").partition(".")[0]
        with locked(directory, key, wait=False) as mine:
            if mine:
                shutil.rmtree(path, ignore_errors=True)
                if not (directory / key / made).is_file():
                    (directory / f"{key}.lock").unlink()


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
