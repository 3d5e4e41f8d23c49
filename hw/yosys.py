"""Runs of Yosys, each in its own process: it numbers generated names process-wide and ends the process on errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

from hw.errors import ToolError

__all__ = ["YosysError", "run_yosys", "yosys_command"]

_RUN = "import sys; from pyosys import libyosys as ys; d = ys.Design(); [ys.run_pass(c, d) for c in sys.argv[1:]]"


class YosysError(ToolError):
    """Yosys ended a run; the message is its own.

    Parameters
    ----------
    message
        What it wrote to standard error, or the end of its log.
    log
        All of its log.
    """

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


def yosys_command(commands: Iterable[str]) -> list[str]:
    """Return the command line of a process that runs commands on an empty design."""
    return [sys.executable, "-c", _RUN, *commands]


def run_yosys(commands: Iterable[str]) -> str:
    """Run commands on an empty design and return the log.

    Raises
    ------
    YosysError
        If a command fails.
    """
    done = subprocess.run(yosys_command(commands), capture_output=True, text=True, check=False)
    if done.returncode:
        raise YosysError(done.stderr.strip() or done.stdout[-2000:].strip(), done.stdout)
    return done.stdout
