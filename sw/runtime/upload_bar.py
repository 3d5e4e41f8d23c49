"""Progress of an upload, on standard error if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["upload_bar"]


@contextmanager
def upload_bar() -> Iterator[Callable[[int, int], None] | None]:
    """Give a callback that draws a bar with bytes, rate and time left; none without a terminal or rich."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.progress import TransferSpeedColumn as Speed
    except ImportError:
        yield None
        return
    columns = (TextColumn("uploading"), BarColumn(), DownloadColumn(), Speed(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("uploading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
