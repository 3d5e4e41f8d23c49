"""Systems of recurrence equations over a box: index space, (quasi-)affine accesses, one multiply-accumulate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Access", "AnalysisError", "Points", "Space", "System", "Term"]

Points = NDArray[np.int64]
"""Index points, (number, dimensions)."""

_MOST_POINTS = 4096


class AnalysisError(ValueError):
    """An operator, size or fabric that cannot be analysed."""


@dataclass(frozen=True)
class Space:
    """The box of all 0 <= index < size.

    Parameters
    ----------
    names, sizes
        Indices in order of the loops, outermost first, and their extents.

    Raises
    ------
    AnalysisError
        An extent below 1, or more than 4096 points: the analysis visits each of them.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        for name, size in zip(self.names, self.sizes, strict=True):
            if size < 1:
                raise AnalysisError(f"index {name}: extent {size} is below 1")
        if math.prod(self.sizes) > _MOST_POINTS:
            shape = " x ".join(map(str, self.sizes))
            raise AnalysisError(
                f"{shape} index points: at most {_MOST_POINTS} are analysed one by one; choose smaller sizes (--size)"
            )

    def points(self) -> Points:
        """Return all index points, in the order of the loops."""
        return np.indices(self.sizes).reshape(len(self.sizes), -1).T.astype(np.int64)

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """Return which points lie in the box."""
        inside = (points >= 0) & (points < np.array(self.sizes))
        return np.asarray(inside.all(axis=-1))


@dataclass(frozen=True)
class Term:
    """The value ``(index // div) % mod`` of one index, without the modulus if that is 0."""

    index: str
    div: int = 1
    mod: int = 0

    def __str__(self) -> str:
        text = self.index if self.div == 1 else f"{self.index} // {self.div}"
        if not self.mod:
            return text
        return f"{text} % {self.mod}" if self.div == 1 else f"({text}) % {self.mod}"

    @property
    def period(self) -> int:
        """After so many steps of the index the value has changed by a constant, from wherever it started."""
        return self.div * max(self.mod, 1)

    def at(self, column: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the values for values of the index, negative ones too."""
        value = column // self.div
        return value % self.mod if self.mod else value


@dataclass(frozen=True)
class Access:
    """An element of an array: each subscript is a sum of terms.

    The subscripts are affine if no term divides; else they are quasi-affine, each term of one index.
    """

    array: str
    subscripts: tuple[tuple[Term, ...], ...]

    def __str__(self) -> str:
        return f"{self.array}[{', '.join(self.texts())}]"

    def texts(self) -> list[str]:
        """Return the subscripts as Python would compute them."""
        return [" + ".join(map(str, terms)) for terms in self.subscripts]

    def elements(self, space: Space, points: Points) -> Points:
        """Return the subscripts' values, (points, subscripts)."""
        columns = {name: points[:, axis] for axis, name in enumerate(space.names)}
        values = [sum((term.at(columns[term.index]) for term in terms), start=0) for terms in self.subscripts]
        return np.stack([np.broadcast_to(value, len(points)) for value in values], axis=1)

    def period(self, space: Space) -> tuple[int, ...]:
        """Return for each index how many steps change all subscripts by a constant."""
        terms = [term for subscript in self.subscripts for term in subscript]
        return tuple(math.lcm(*(term.period for term in terms if term.index == name)) for name in space.names)

    def shape(self, space: Space) -> tuple[int, ...]:
        """Return the extents of the array that the box touches."""
        return tuple(int(extent) + 1 for extent in self.elements(space, space.points()).max(axis=0))


@dataclass(frozen=True)
class System:
    """``output += first * second`` at every point of a box.

    Attributes
    ----------
    name
        What it computes.
    space
        Its indices.
    output, first, second
        Elements that point I updates and reads.  The output's array is the accumulator: its partial sums pass from
        point to point just as the operands do.
    """

    name: str
    space: Space
    output: Access
    first: Access
    second: Access

    def __str__(self) -> str:
        return f"{self.output} += {self.first} * {self.second}"

    @property
    def operands(self) -> tuple[Access, Access]:
        """The two arrays that are read."""
        return self.first, self.second

    @property
    def accesses(self) -> tuple[Access, Access, Access]:
        """Output and operands."""
        return self.output, self.first, self.second

    def resized(self, sizes: Mapping[str, int]) -> System:
        """Return the system with other extents, for subscripts that do not depend on them."""
        extents = (sizes.get(name, size) for name, size in zip(self.space.names, self.space.sizes, strict=True))
        return replace(self, space=Space(self.space.names, tuple(extents)))

    def reference(self, operands: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return the output that numpy adds up point by point, in no order that a schedule knows of."""
        points = self.space.points()
        result = np.zeros(self.output.shape(self.space), np.int64)
        factors = [operands[one.array][tuple(one.elements(self.space, points).T)] for one in self.operands]
        np.add.at(result, tuple(self.output.elements(self.space, points).T), factors[0] * factors[1])
        return result
