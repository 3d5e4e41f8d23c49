"""Packed planes: several lines of a small map side by side in one line of the array."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Packing"]

Int8Array = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Packing:
    """Where the pixels of an image lie in a packed plane.

    The plane has :attr:`lines` lines of :attr:`width` pixels.  Its line y, segment s holds image line ``s*lines + y``
    in its first `image_width` pixels; the :attr:`gap` to the next segment, and segments beyond the last image line,
    hold the tensor's zero point.  The last segment has no gap.  See the segments of :data:`hw.spec.isa.EXEC`.

    Parameters
    ----------
    image_height, image_width
        Lines and pixels of the image.
    pitch
        Pixels from segment to segment.
    segments
        Segments of a line.

    Raises
    ------
    ValueError
        If a size is no integer, or they are the sizes of no packed plane.
    """

    image_height: int
    image_width: int
    pitch: int
    segments: int

    def __post_init__(self) -> None:
        sizes = asdict(self)
        for name, value in sizes.items():
            if type(value) is not int:
                raise ValueError(f"packing: {name}={value!r} must be an integer")
        for name in ("image_height", "image_width", "segments"):
            if sizes[name] < 1:
                raise ValueError(f"packing: {name}={sizes[name]} must be at least 1")
        if self.pitch < self.image_width:
            raise ValueError(f"packing: pitch={self.pitch} must be at least image_width={self.image_width}")
        if self.missing >= self.lines:
            raise ValueError(f"{self} has segments without any line: {self.image_height} lines need fewer")

    @property
    def lines(self) -> int:
        """Lines of the packed plane."""
        return -(-self.image_height // self.segments)

    @property
    def width(self) -> int:
        """Pixels of a packed line."""
        return self.segments * self.pitch - self.gap

    @property
    def plane(self) -> int:
        """Bytes of the packed plane."""
        return self.lines * self.width

    @property
    def gap(self) -> int:
        """Pixels between image lines."""
        return self.pitch - self.image_width

    @property
    def missing(self) -> int:
        """Last packed lines whose last segment holds no image line."""
        return self.segments * self.lines - self.image_height

    def pack(self, image: Int8Array, zero_point: int) -> Int8Array:
        """Return planes (C, lines, width) of an image (C, H, W)."""
        channels = image.shape[0]
        parts = np.full((channels, self.segments * self.lines, self.pitch), zero_point, np.int8)
        parts[:, : self.image_height, : self.image_width] = image
        parts = parts.reshape(channels, self.segments, self.lines, self.pitch)
        return parts.transpose(0, 2, 1, 3).reshape(channels, self.lines, -1)[:, :, : self.width].copy()

    def unpack(self, planes: Int8Array) -> Int8Array:
        """Return the image (C, H, W) in packed planes, of any shape that has ``C * plane`` elements."""
        parts = np.pad(planes.reshape(-1, self.lines, self.width), ((0, 0), (0, 0), (0, self.gap)))
        parts = parts.reshape(-1, self.lines, self.segments, self.pitch).transpose(0, 2, 1, 3)
        parts = parts.reshape(len(parts), self.segments * self.lines, self.pitch)
        return parts[:, : self.image_height, : self.image_width].copy()

    def __str__(self) -> str:
        return (
            f"{self.image_height}x{self.image_width} in {self.lines} lines of {self.segments} segments of {self.pitch}"
        )
