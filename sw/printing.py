"""Printing of results that may be piped into a program that stops reading."""

from __future__ import annotations

import os
import sys

__all__ = ["show"]


def show(text: str) -> None:
    """Print a text; a reader (a pager, head) that has seen enough is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # keep the interpreter from flushing into the closed pipe again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
