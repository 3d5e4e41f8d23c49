"""What ends a command line of this package early, and with which exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable

from hw.spec.config import ConfigError

__all__ = ["RequestError", "ToolError", "exit_status"]


class RequestError(ValueError):
    """A request that cannot be met: a missing tool, an unreadable file, a board too small; it says the way out."""


class ToolError(RuntimeError):
    """A tool failed on a request that is in order; the message is the tool's own."""


def exit_status(program: str, run: Callable[[], int], *, kept: str = "") -> int:
    """Run a command line; print an error that ends it as one line, and return its exit status.

    Parameters
    ----------
    program
        Name that begins the line, e.g. ``hw.report``.
    run
        The command; returns the status if it comes to its end.
    kept
        What an interrupted run leaves behind, e.g. "finished stages are kept".

    Returns
    -------
    int
        The command's own, or 1 if a tool failed, 2 if the request is wrong (a file that cannot be read or written
        among them), 130 if it was interrupted.
    """
    try:
        return run()
    except ConfigError as error:
        status, message = 2, f"invalid configuration: {error}"
    except RequestError as error:
        status, message = 2, str(error)
    except OSError as error:
        status, message = 2, f"cannot read or write {error.filename or 'a temporary file'}: {error.strerror or error}"
    except ToolError as error:
        status, message = 1, str(error)
    except KeyboardInterrupt:
        status, message = 130, f"interrupted{kept and f'; {kept}'}"
    print(f"{program}: {message}", file=sys.stderr)
    return status
