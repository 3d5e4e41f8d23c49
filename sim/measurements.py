"""Figures measured once and kept in a file, with the identity of all that decides them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hw.spec.program import write_atomic
from sim.build_cache import locked
from sim.whole_cases import Case

__all__ = ["Measurements", "Row", "golden_sources"]

ROOT = Path(__file__).parents[1]

Row = dict[str, Any]


class Measurements:
    """Finished rows in a file, by case, each with the identity of all that decides its figures.

    Several processes may keep rows in one file at the same time.

    Parameters
    ----------
    path
        The file.
    fresh
        Find nothing that was measured before; rows of cases that are not measured again stay.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path = path
        self.rows = {} if fresh else self._read()

    def find(self, case: Case, identity: str) -> Row | None:
        """Return the row of a case, if it was measured with the same identity."""
        row = self.rows.get(str(case))
        return row if isinstance(row, dict) and row.get("identity") == identity else None

    def keep(self, case: Case, row: Row) -> None:
        """Add a row to the file, whoever else adds to it."""
        self.rows[str(case)] = row
        with locked(self.path.parent, self.path.stem):
            rows = self._read() | {str(case): row}
            write_atomic(self.path, (json.dumps({"rows": rows}, indent=1) + "\n").encode())

    def _read(self) -> dict[str, Row]:
        try:
            return dict(json.loads(self.path.read_text())["rows"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return {}


def golden_sources() -> list[bytes]:
    """Return the source files that decide what the instruction set simulator computes."""
    folders = (ROOT / "sim" / "iss", ROOT / "hw" / "spec")
    return [path.read_bytes() for folder in folders for path in sorted(folder.glob("*.py"))]
