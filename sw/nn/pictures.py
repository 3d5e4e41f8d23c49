"""Labelled pictures from a folder, a tar or an archive of JPEGs."""

from __future__ import annotations

import csv
import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from sw.preprocessing import SUFFIXES, decode

__all__ = ["Entry", "PictureError", "Pictures", "Split"]

LABELS = "labels.csv"

Split = Literal["train", "test"]

_ARRAYS = {"blob": "u", "offset": "ui", "label": "ui", "test": "b"}  # and their numpy kinds


class PictureError(ValueError):
    """A set of pictures, or a picture of one, that cannot be read; the message names it."""


@dataclass(frozen=True)
class Entry:
    """A picture's name within its set, and its class, if known."""

    name: str
    label: int | None


class Pictures:
    """A set of pictures, read one at a time.

    Parameters
    ----------
    path
        A tar with pictures and ``labels.csv`` (columns ``file`` and ``class_index``); or a folder with one subfolder
        per class, whose sorted order numbers the classes (torchvision's ``ImageFolder``); or a folder or tar of
        pictures alone, which then have no label; or an ``.npz`` with encoded pictures: ``blob`` (uint8, files behind
        each other), ``offset`` (of each, and the end), ``label`` and ``test`` (which belong to the test set).
    split
        Which pictures of an ``.npz``; other sets are taken whole.

    Attributes
    ----------
    entries
        The pictures, in the order of ``labels.csv`` or sorted.

    Raises
    ------
    PictureError
        If the path does not exist, is of another kind or has no pictures.
    """

    def __init__(self, path: str | Path, *, split: Split = "test") -> None:
        self.path = Path(path)
        self._tar: tarfile.TarFile | None = None
        self._files: dict[str, npt.NDArray[np.uint8]] | None = None
        if self.path.is_dir():
            self.entries = self._folder()
        elif self.path.suffix == ".npz" and self.path.is_file():
            self._files, self.entries = self._archive(split)
        elif self.path.is_file():
            try:
                self._tar = tarfile.open(self.path)  # noqa: SIM115 - open as long as the set is
                self.entries = self._listed(self._tar)
            except (tarfile.TarError, EOFError, OSError) as error:
                raise PictureError(f"{self.path}: neither a folder nor a readable tar of pictures ({error})") from None
        else:
            raise PictureError(f"{self.path}: no such folder or tar of pictures, or .npz")
        if not self.entries:
            kind = f"{split} pictures" if self._files is not None else f"pictures ({', '.join(SUFFIXES)})"
            raise PictureError(f"{self.path}: holds no {kind}")

    def _folder(self) -> list[Entry]:
        folders = sorted(item for item in self.path.iterdir() if item.is_dir())
        places = [(folder, index) for index, folder in enumerate(folders)] or [(self.path, None)]
        return [
            Entry(file.relative_to(self.path).as_posix(), label)
            for folder, label in places
            for file in sorted(folder.rglob("*"))
            if file.suffix.lower() in SUFFIXES
        ]

    def _listed(self, tar: tarfile.TarFile) -> list[Entry]:
        members = {str(PurePosixPath(name)): name for name in tar.getnames()}
        listing = tar.extractfile(members[LABELS]) if LABELS in members else None
        if listing is None:
            return [Entry(members[name], None) for name in sorted(members) if name.lower().endswith(SUFFIXES)]
        entries = []
        for number, row in enumerate(csv.DictReader(io.TextIOWrapper(listing, "utf-8")), 2):
            name, label = row.get("file"), row.get("class_index") or ""
            if name not in members or not label.isdecimal():
                raise PictureError(
                    f"{self.path}: {LABELS} line {number} must name a file of the tar and a class_index, not "
                    f"{name!r} and {label!r}"
                )
            entries.append(Entry(members[name], int(label)))
        return entries

    def _archive(self, split: Split) -> tuple[dict[str, npt.NDArray[np.uint8]], list[Entry]]:
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in _ARRAYS if key in archive.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise PictureError(f"{self.path}: not a readable .npz ({error})") from None
        for key, kinds in _ARRAYS.items():
            if key not in arrays or arrays[key].ndim != 1 or arrays[key].dtype.kind not in kinds:
                raise PictureError(f"{self.path}: the .npz must hold vectors {', '.join(_ARRAYS)}; {key} is none")
        blob, offset, label, test = (arrays[key] for key in _ARRAYS)
        ends = offset.astype(np.int64)
        if not (len(ends) - 1 == len(label) == len(test)) or (np.diff(ends) < 0).any() or ends[-1] > len(blob):
            raise PictureError(f"{self.path}: offset must rise to at most {len(blob)}, one more than labels and tests")
        chosen = np.flatnonzero(test == (split == "test"))
        entries = [Entry(f"{split} picture {index}", int(label[index])) for index in chosen]
        files = [blob[ends[index] : ends[index + 1]] for index in chosen]
        return {entry.name: file for entry, file in zip(entries, files, strict=True)}, entries

    def __len__(self) -> int:
        return len(self.entries)

    def spread(self, count: int | None) -> list[Entry]:
        """Return `count` pictures at even distances, so that a set sorted by class gives many; all if there are less.

        None stands for all.
        """
        total = len(self.entries)
        count = total if count is None else min(count, total)
        return [self.entries[index * total // count] for index in range(count)]

    def data(self, entry: Entry) -> bytes:
        """Return a picture's file.

        Raises
        ------
        PictureError
            If it cannot be read.
        """
        try:
            if self._files is not None:
                return self._files[entry.name].tobytes()
            if self._tar is None:
                return (self.path / entry.name).read_bytes()
            member = self._tar.extractfile(entry.name)
            if member is None:
                raise OSError("not a file")
            return member.read()
        except (OSError, KeyError, EOFError, tarfile.TarError) as error:
            raise PictureError(f"{self.path}: {entry.name} cannot be read ({error})") from None

    def image(self, entry: Entry) -> Image.Image:
        """Return a picture, decoded, in RGB.

        Raises
        ------
        PictureError
            If it cannot be read or decoded.
        """
        data = self.data(entry)
        try:
            return decode(io.BytesIO(data)).convert("RGB")
        except UnidentifiedImageError:
            reason = "in no format that Pillow knows"  # its own message names a buffer's address
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = str(error)
        raise PictureError(f"{self.path}: {entry.name} cannot be decoded ({reason}); mend or remove it")
