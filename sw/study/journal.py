"""A file of studies that many processes append to, and that a process which dies while it writes leaves usable."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

__all__ = ["Journal", "StudyError"]

_STEP = 4096


class StudyError(ValueError):
    """A storage that cannot be used, or a study of something else."""


class Journal(JournalFileBackend):
    """Optuna's journal, which never grows behind half a line.

    Killed, or with no space left, a process may have written part of a line only.  Optuna's reader leaves that out, but
    with more behind it the file would be damaged for ever, so it is cut off before the next line is written.

    Parameters
    ----------
    where
        The file; it is made if need be.

    Raises
    ------
    StudyError
        If it is something else.
    """

    def __init__(self, where: str) -> None:
        self._path, self._own = Path(where), JournalFileSymlinkLock(where)
        super().__init__(where, self._own)
        with self._path.open("rb") as file:
            first = file.readline()
        if first.endswith(b"\n") and not _is_entry(first):
            raise StudyError(f"--storage {where}: cannot be opened (it holds something else than studies)")

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries behind the last whole line.

        Raises
        ------
        StudyError
            If there is no space, say.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        self._own.acquire()
        try:
            with self._path.open("rb+") as file:
                file.truncate(_end_of_lines(file))
                file.seek(0, os.SEEK_END)
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StudyError(
                f"{self._path}: cannot be written ({error.strerror}); what is finished is kept, and the same command "
                f"continues"
            ) from error
        finally:
            self._own.release()


def _end_of_lines(file: BinaryIO) -> int:
    """Return the position behind the last line feed."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _STEP)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _is_entry(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
