"""Results kept from run to run: synthesised modules and whole reports, by a hash of all that they depend on."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from hw.emit import tool_versions
from hw.spec.cache import default_cache
from hw.spec.program import write_atomic

__all__ = ["KEPT", "Store", "sources_hash"]

ROOT = Path(__file__).parents[2]
KEPT = 3000
"""Files kept in a store, those used last; one takes some KB, a few 1 MB."""


@cache
def sources_hash(*patterns: str) -> str:
    """Return a SHA-256 of the project's sources that match, and of the versions of the tools."""
    digest = hashlib.sha256(json.dumps(tool_versions(), sort_keys=True).encode())
    for path in sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


class Store:
    """JSON objects in compressed files, one each; a damaged file counts as none, an unwritable folder keeps nothing.

    Parameters
    ----------
    name
        Of the folder in ``report`` in the project's cache.
    active
        False: find nothing, keep nothing.
    """

    def __init__(self, name: str, *, active: bool = True) -> None:
        self.folder, self.active = default_cache() / "report" / name, active

    @staticmethod
    def key(*facts: object) -> str:
        """Return the hash of facts, JSON-able ones."""
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> dict[str, Any] | None:
        """Return what is kept under a key."""
        if not self.active:
            return None
        path = self._path(key)
        try:
            found = json.loads(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, ValueError, zlib.error):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return found if isinstance(found, dict) else None

    def put(self, key: str, value: dict[str, Any]) -> None:
        """Keep an object."""
        if self.active:
            with contextlib.suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                write_atomic(self._path(key), gzip.compress(json.dumps(value).encode(), 5, mtime=0))

    def prune(self, keep: int = KEPT) -> None:
        """Delete all but the files used last."""
        for path in sorted(self._files(), key=_used, reverse=True)[keep:]:
            path.unlink(missing_ok=True)

    def _files(self) -> Iterable[Path]:
        return self.folder.glob("*.json.gz")

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json.gz"


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
