"""Hashes of this project's own sources: figures kept on disk count only as long as what decides them is unchanged."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

__all__ = ["CYCLE_SOURCES", "files_digest", "imported_sources", "sources_digest"]

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
    return files_digest((path for place in places for path in _python_files(ROOT / place)), ROOT)


def files_digest(paths: Iterable[Path], root: Path) -> str:
    """Return a SHA-256 of files, in the order given, with their names below `root`."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def imported_sources(modules: Iterable[str], root: Path = ROOT) -> set[Path]:
    """Return the files of modules and of all that they import, directly or not, below a project's root.

    The files are read, not imported, so that this layer may ask for the sources of others.

    Parameters
    ----------
    modules
        Names as in an import statement, e.g. ``hw.accelerator``.
    root
        The project's folder; what is not below it (other packages) is left out.

    Raises
    ------
    FileNotFoundError
        If one of `modules` is not there.
    """
    found: set[Path] = set()
    todo = list(modules)
    for name in todo:
        path = root.joinpath(*name.split("."))
        if not (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()):
            raise FileNotFoundError(f"no module {name} below {root}")
    while todo:
        new = set(_module_files(todo.pop(), root)) - found
        found |= new
        for path in new:
            todo += _imports(path)
    return found


def _python_files(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def _module_files(name: str, root: Path) -> list[Path]:
    """Return the files that importing a name runs: its module's and those of the packages around it."""
    parts = name.split(".")
    around = [root.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    return [path for path in (*around, root.joinpath(*parts).with_suffix(".py")) if path.is_file()]


def _imports(path: Path) -> Iterator[str]:
    """Yield the names that a file imports anywhere; of ``from a import b`` also ``a.b``, which may be a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
