"""Dependence vectors of a system, and whether they are the same at every index point.

Two points *share* when they read (or update) the same element.  A systolic array passes that element from the one to
the other, so it needs a vector d with I' = I - d that serves every point: the element at I is that at I - d, for all I.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from sw.analysis.recurrences import Access, Points, Space, System

__all__ = ["Reuse", "Vector", "Witness", "is_constant", "is_regular", "reuse", "reuses"]

Vector = tuple[int, ...]


@dataclass(frozen=True)
class Witness:
    """Why an element cannot be passed along a constant vector.

    Attributes
    ----------
    offset
        Difference of two points that share.
    here, there
        These points: `here` - `offset` = `there`.
    counter
        A point, in the box if possible, that does not share with itself minus `offset`.
    subscripts
        The subscripts whose difference along `offset` is not the same at `here` and `counter`.
    """

    offset: Vector
    here: Vector
    there: Vector
    counter: Vector
    subscripts: tuple[str, ...]


@dataclass(frozen=True)
class Reuse:
    """What an array's elements do in a system.

    Attributes
    ----------
    access
        The array and its subscripts.
    vectors
        Basis of all differences of points that share, if these are constant; () if no two points share, too.
    witness
        The contradiction, if they are not.
    partial
        With a witness: basis of those differences that are constant nevertheless.
    elements
        Different elements.
    uses
        Points for each element, on average.
    """

    access: Access
    vectors: tuple[Vector, ...]
    witness: Witness | None
    partial: tuple[Vector, ...]
    elements: int
    uses: float


def _groups(access: Access, space: Space) -> list[Points]:
    """Return the points of each element."""
    points = space.points()
    _, which = np.unique(access.elements(space, points), axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    return np.split(points[order], np.flatnonzero(np.diff(which.ravel()[order])) + 1)


def _offsets(groups: list[Points]) -> Iterator[tuple[Vector, Vector, Vector]]:
    """Yield each difference once, first nonzero entry positive, shortest first, with a pair that has it."""
    found: dict[Vector, tuple[Vector, Vector]] = {}
    for group in groups:
        for index, base in enumerate(group):
            for later in group[index + 1 :]:
                # points come in loop order, so the first nonzero entry is positive
                offset = tuple((later - base).tolist())
                found.setdefault(offset, (tuple(later.tolist()), tuple(base.tolist())))
    for offset in sorted(found, key=lambda one: (sum(map(abs, one)), one)):
        yield offset, *found[offset]


def _period_points(access: Access, space: Space) -> Points:
    return np.array(list(product(*(range(extent) for extent in access.period(space)))))


def is_constant(access: Access, space: Space, offset: Vector) -> bool:
    """Return whether every point of the whole lattice shares with itself minus `offset`.

    Subscripts are affine but for divisions by constants, so their differences along `offset` repeat with the divisors'
    period: one period of points decides for all, whatever the extents of the box are.
    """
    points = _period_points(access, space)
    return bool((access.elements(space, points) == access.elements(space, points - np.array(offset))).all())


def _basis(offsets: list[Vector]) -> tuple[Vector, ...]:
    """Return the shortest independent offsets; raise if they do not generate all others."""
    basis: list[Vector] = []
    for offset in offsets:
        if np.linalg.matrix_rank(np.array([*basis, offset])) > len(basis):
            basis.append(offset)
    if basis:
        weights = np.linalg.lstsq(np.array(basis, float).T, np.array(offsets, float).T, rcond=None)[0]
        if not np.allclose(weights, np.rint(weights), atol=1e-6):
            raise ArithmeticError(f"{basis} do not generate all of {len(offsets)} offsets")
    return tuple(basis)


def _witness(access: Access, space: Space, offset: Vector, here: Vector, there: Vector) -> Witness:
    box = space.points()
    # A contradiction inside the box if there is one; over the whole lattice there is.
    points = np.concatenate([box[space.contains(box - np.array(offset))], _period_points(access, space)])
    change = access.elements(space, points) != access.elements(space, points - np.array(offset))
    counter = tuple(points[np.flatnonzero(change.any(axis=1))[0]].tolist())
    texts = tuple(text for text, differs in zip(access.texts(), change.any(axis=0), strict=True) if differs)
    return Witness(offset, here, there, counter, texts)


def reuse(access: Access, space: Space) -> Reuse:
    """Return an array's dependence vectors, or the proof that it has no constant ones."""
    groups = _groups(access, space)
    constant: list[Vector] = []
    witness = None
    for offset, here, there in _offsets(groups):
        if is_constant(access, space, offset):
            constant.append(offset)
        elif witness is None:
            witness = _witness(access, space, offset, here, there)
    basis = _basis(constant)
    uses = len(space.points()) / len(groups)
    if witness is None:
        return Reuse(access, basis, None, (), len(groups), uses)
    return Reuse(access, (), witness, basis, len(groups), uses)


def reuses(system: System) -> tuple[Reuse, Reuse, Reuse]:
    """Return the reuse of output, first and second operand."""
    output, first, second = (reuse(access, system.space) for access in system.accesses)
    return output, first, second


def is_regular(system: System) -> bool:
    """Return whether the system is a regular iterative algorithm: all dependence vectors constant."""
    return all(one.witness is None for one in reuses(system))
