"""Where what takes long to make is kept for the next time."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["default_cache"]


def default_cache() -> Path:
    """Directory of caches: ``$ROWCAST_CACHE``, else ``rowcast`` in the user's cache directory."""
    if named := os.environ.get("ROWCAST_CACHE"):
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "rowcast"
