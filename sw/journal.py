"""Results of a long run, one JSON line each, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Journal", "JournalError", "check_folder"]

FORMAT = 1


class JournalError(ValueError):
    """A file that is no journal, is damaged, in use, or of another run."""


def check_folder(path: str | Path) -> None:
    """Refuse the path of a journal whose directory does not exist, with :class:`JournalError`."""
    if not Path(path).parent.is_dir():
        raise JournalError(f"{path}: its directory does not exist")


class Journal:
    """A file whose first line says which run it belongs to, and whose others are records with an ``index``.

    Each record is appended by a single write.  A last line without its end is of a write that was interrupted, and
    is dropped.

    Parameters
    ----------
    path
        File; made if it does not exist.
    run
        JSON-able facts on which the results depend.

    Attributes
    ----------
    records
        By index; those of the file and those appended.

    Raises
    ------
    JournalError
        If the file belongs to another run (the first fact that differs is named), is in use, or is no journal.
    """

    def __init__(self, path: str | Path, run: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.records: dict[int, dict[str, Any]] = {}
        check_folder(path)
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise JournalError(f"{path}: cannot be opened ({error.strerror})") from None
        try:
            self._open(json.loads(json.dumps(run)))
        except BaseException:
            self.close()
            raise

    def _open(self, run: dict[str, Any]) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JournalError(f"{self.path}: another run is writing it; give another file") from None
        head = _line({"format": FORMAT, "run": run})
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if not whole and head.startswith(text):  # new, or interrupted at once
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, head)
            return
        first, *lines = [self._parse(number, line) for number, line in enumerate(whole.splitlines(), 1)] or [{}]
        if first.get("format") != FORMAT or not isinstance(first.get("run"), dict):
            raise JournalError(f"{self.path}: holds no results of an evaluation; give another file")
        _compare(self.path, first["run"], run)
        for number, record in enumerate(lines, 2):
            if not isinstance(record.get("index"), int):
                raise JournalError(f"{self.path}: line {number} is no record; remove the file and start again")
            self.records[record["index"]] = record
        os.ftruncate(self._descriptor, len(whole))

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            what = "holds no results of an evaluation; give another file"
            if number > 1:
                what = f"line {number} is damaged; remove the file and start again"
            raise JournalError(f"{self.path}: {what}")
        return value

    def append(self, record: dict[str, Any]) -> None:
        """Add a record, replacing one of the same index."""
        os.write(self._descriptor, _line(record))
        self.records[record["index"]] = record

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _line(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value) + "\n").encode()


def _compare(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    for key in dict.fromkeys((*new, *old)):
        if old.get(key) != new.get(key):
            raise JournalError(
                f"{path}: results of another run, whose {key} is {old.get(key)!r}, not {new.get(key)!r}; "
                f"give another file, or remove this one"
            )
