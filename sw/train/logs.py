"""What a run reports: a CSV file with a line per epoch, and TensorBoard's events where asked for."""

from __future__ import annotations

import csv
import importlib.util
import io
from pathlib import Path
from types import TracebackType

from hw.spec.program import write_atomic

__all__ = ["LOG", "EpochLog", "read_log"]

LOG = "log.csv"


def read_log(path: Path) -> list[dict[str, float]]:
    """Return the lines of a log, values as numbers.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    try:
        with path.open(newline="") as file:
            return [{key: float(value) for key, value in line.items()} for line in csv.DictReader(file)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a log of epochs ({error})") from None


class EpochLog:
    """The log of a run in a folder.

    Parameters
    ----------
    folder
        Of the run.
    lines
        Those of an interrupted run, from its checkpoint; the file is made anew from them.
    tensorboard
        Also write events for TensorBoard.

    Raises
    ------
    ValueError
        If TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, lines: list[dict[str, float]], *, tensorboard: bool = False) -> None:
        self.path = folder / LOG
        self.lines = list(lines)
        self._writer = None
        if tensorboard:
            if importlib.util.find_spec("tensorboard") is None:
                raise ValueError("--tensorboard needs TensorBoard: pip install 'rowcast[tensorboard]'")
            from torch.utils.tensorboard import SummaryWriter

            # all events are written anew too: those of a killed process may be missing
            self._writer = SummaryWriter(str(folder), purge_step=1)
        self._events = 0

    def write(self) -> None:
        """Write all lines, and those that are new as events."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.lines[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.lines)
        write_atomic(self.path, text.getvalue().encode())
        if self._writer is not None:
            for line in self.lines[self._events :]:
                for key, value in line.items():
                    self._writer.add_scalar(key, value, int(line["epoch"]))
            self._events = len(self.lines)
            self._writer.flush()

    def __enter__(self) -> EpochLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
