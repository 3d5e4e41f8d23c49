"""Hashes of this project's own sources: figures kept on disk count only as long as what decides them is unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

__all__ = ["CYCLE_SOURCES", "sources_digest"]

ROOT = Path(__file__).parents[1]

CYCLE_SOURCES = ("hw/spec", "sw/compiler", "sw/model")
"""What decides a graph's figures on an accelerator: specification, compiler and models."""


def sources_digest(places: Sequence[str]) -> str:
    """Return a SHA-256 of the Python files, names included.

    Parameters
    ----------
    places
        Files and folders, from the project's root.
    """
    digest = hashlib.sha256()
    for place in places:
        root = ROOT / place
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()
