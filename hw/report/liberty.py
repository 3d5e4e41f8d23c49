"""Cell libraries in the Liberty format: what a report needs of them, and whether a design can be built from them."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hw.errors import RequestError

__all__ = ["Liberty"]

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_LIBRARY = re.compile(r'\blibrary\s*\(\s*"?([^")]*?)"?\s*\)\s*\{')
_CELL = re.compile(r'\bcell\s*\(\s*"?([^")]+?)"?\s*\)\s*\{')
_AREA = re.compile(r'\barea\s*:\s*"?([-+.\deE]+)"?\s*;')
_FLIPFLOP = re.compile(r"\bff\s*\([^)]*\)\s*\{")


@dataclass(frozen=True)
class Liberty:
    """A cell library.

    Parameters
    ----------
    name
        As the library calls itself.
    file
        Name of the file it was read from, without folder.
    text
        All of it.
    areas
        Cell to area, in the library's unit (um2 in all libraries known here; the format has no field for it).
    """

    name: str
    file: str
    text: str
    areas: dict[str, float]

    @cached_property
    def sha256(self) -> str:
        """Identity of the contents, whether they were compressed or not."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @classmethod
    def read(cls, path: Path) -> Liberty:
        """Read a ``.lib``, or compressed a ``.lib.gz``.

        Raises
        ------
        RequestError
            If the file is missing, damaged or no library, or if it has no flip-flop.
        """
        where = f"--liberty {path}"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise RequestError(f"{where}: no such file") from None
        except OSError as error:
            raise RequestError(f"{where}: cannot be read ({error.strerror})") from None
        if path.suffix == ".gz" or data[:2] == b"\x1f\x8b":
            try:
                data = gzip.decompress(data)
            except (OSError, EOFError, zlib.error) as error:
                raise RequestError(f"{where}: not a whole gzip file ({error})") from None
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise RequestError(f"{where}: not text, so no Liberty file") from None
        return cls.parse(text, path.name, where)

    @classmethod
    def parse(cls, text: str, file: str, where: str) -> Liberty:
        """Return the library in a text; errors (see :meth:`read`) begin with `where`."""
        bare = _COMMENT.sub(" ", text)
        if (head := _LIBRARY.search(bare)) is None:
            raise RequestError(f"{where}: no Liberty file (it has no 'library (name) {{')")
        if (opened := bare.count("{")) != (closed := bare.count("}")):
            raise RequestError(f"{where}: {opened} braces open and {closed} close: the file is cut off or damaged")
        heads = list(_CELL.finditer(bare))
        areas, flipflop = {}, False
        for this, following in itertools.zip_longest(heads, heads[1:]):
            body = bare[this.end() : following.start() if following else len(bare)]
            if (area := _AREA.search(body)) is not None:
                try:
                    areas[this[1]] = float(area[1])
                except ValueError:
                    raise RequestError(f"{where}: cell {this[1]}: area {area[1]!r} is no number") from None
            flipflop |= _FLIPFLOP.search(body) is not None
        if not areas:
            raise RequestError(f"{where}: no cell has an area")
        if not flipflop:
            raise RequestError(f"{where}: no cell is a flip-flop (group 'ff'): the accelerator cannot be built from it")
        return cls(head[1], file, text, areas)
