"""How a command line ends: errors as one line, and exit statuses."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable

__all__ = ["exit_status"]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def exit_status(work: Callable[[], None], *, kept: str, failures: tuple[type[Exception], ...] = ()) -> int:
    """Do the work of a command line; print an error that ends it as one line, and return its exit status.

    Parameters
    ----------
    work
        The command.
    kept
        What is said of an interrupted one, e.g. "the same command continues".
    failures
        Errors of work that was asked for in order; other ``ValueError`` and ``OSError`` are wrong usage.

    Returns
    -------
    int
        0, or 1 if the work failed (a full disk and a command that it started among the reasons), 2 if the usage is
        wrong, 130 if it was interrupted.
    """
    try:
        work()
    except KeyboardInterrupt:
        print(f"interrupted; {kept}", file=sys.stderr)
        return 130
    except subprocess.CalledProcessError as error:
        print(f"error: a command ended with status {error.returncode}; {kept}", file=sys.stderr)
        return 1
    except failures as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        place = getattr(error, "filename", None)
        print(f"error: {place}: {error.strerror}" if place else f"error: {error}", file=sys.stderr)
        return 1 if _no_space(error) or _no_space(error.__cause__) else 2
    return 0


def _no_space(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in _NO_SPACE
