"""Linear schedules and allocations of regular systems onto an array, by search.

Point I is computed at time ``schedule . I`` on processor ``allocation @ I``.  An array whose elements pass along d
needs a link over ``allocation @ d`` with ``schedule . d`` registers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import gcd

import numpy as np

from sw.analysis.dependences import Reuse, Vector, reuses
from sw.analysis.recurrences import AnalysisError, Space, System

__all__ = ["FABRICS", "Fabric", "Flow", "Mapping", "allocation", "best", "search"]


@dataclass(frozen=True)
class Fabric:
    """What links an array has.

    Attributes
    ----------
    name, title
        As on the command line, and in words.
    links
        Displacements (rows, columns) over which values may move; None: to any of the eight neighbours.
    broadcasts
        Displacements along which an operand may reach all PEs in the same cycle.
    registers
        At most so many in a link; None: as many as the schedule wants.
    moving_sums
        Partial sums may move from PE to PE.
    inner_loads
        An operand that is used once may enter at any PE; else only where all PEs lie in one row or column, at the edge.
    """

    name: str
    title: str
    links: frozenset[tuple[int, int]] | None = None
    broadcasts: frozenset[tuple[int, int]] = frozenset()
    registers: int | None = None
    moving_sums: bool = True
    inner_loads: bool = True

    def carries(self, link: tuple[int, int], delay: int) -> bool:
        """Return whether a value may move over a displacement in so many cycles."""
        known = max(map(abs, link)) <= 1 if self.links is None else link in self.links
        return known and (self.registers is None or delay <= self.registers)


_RIGHT, _DOWN = (0, 1), (1, 0)
FABRICS = {
    fabric.name: fabric
    for fabric in (
        Fabric("neighbours", "links to all neighbours, any number of registers in each, no broadcast"),
        Fabric(
            "gemm",
            "the generated array in GEMM mode: operands move right and down through one register, sums stay",
            frozenset({_RIGHT, _DOWN}),
            registers=1,
            moving_sums=False,
            inner_loads=False,
        ),
        Fabric(
            "stos",
            "the generated array in ST-OS mode: one operand moves right through one register, the other is broadcast "
            "along each row, sums stay",
            frozenset({_RIGHT}),
            frozenset({_RIGHT}),
            registers=1,
            moving_sums=False,
            inner_loads=False,
        ),
    )
}
"""By name."""


@dataclass(frozen=True)
class Flow:
    """How the elements of one array get from point to point.

    Attributes
    ----------
    array
        Its name.
    vector
        Dependence vector, in the direction of time.
    delay
        Cycles along it, 0 in a broadcast.
    link
        Displacement on the array, (rows, columns).
    """

    array: str
    vector: Vector
    delay: int
    link: tuple[int, int]

    @property
    def kind(self) -> str:
        """Stationary, moving or broadcast."""
        if self.link == (0, 0):
            return "stationary"
        return "moving" if self.delay else "broadcast"


@dataclass(frozen=True)
class Mapping:
    """A space-time map of a system.

    Attributes
    ----------
    system
        What is mapped.
    schedule
        Time of a point is its product with this vector, up to a constant.
    allocation
        Rows of the matrix that makes the processor's coordinates of a point; one row: a linear array.
    flows
        Of output, first and second operand; none for an array whose elements are used once.
    processors, latency
        Places used, and cycles from the first computation to the last, both included.
    """

    system: System
    schedule: Vector
    allocation: tuple[Vector, ...]
    flows: tuple[Flow, ...]
    processors: int
    latency: int

    @property
    def utilisation(self) -> float:
        """Computations per place and cycle."""
        return len(self.system.space.points()) / (self.processors * self.latency)

    @property
    def stationary(self) -> str:
        """The arrays whose elements stay in a PE, "none" without one."""
        names = dict.fromkeys(flow.array for flow in self.flows if flow.kind == "stationary")
        return ", ".join(names) or "none"


def allocation(projection: Vector) -> tuple[Vector, ...]:
    """Return a matrix whose kernel is a projection direction with entries -1, 0 and 1: points along it share a PE."""
    last = max(axis for axis, entry in enumerate(projection) if entry)
    unit = np.eye(len(projection), dtype=int)
    rows = (
        unit[axis] - projection[axis] * projection[last] * unit[last] for axis in range(len(projection)) if axis != last
    )
    return tuple(tuple(row.tolist()) for row in rows)


def _dot(first: Sequence[int], second: Sequence[int]) -> int:
    return sum(one * other for one, other in zip(first, second, strict=True))


def _turned(rows: tuple[Vector, ...]) -> Iterator[tuple[Vector, ...]]:
    """Yield an allocation, transposed and with its axes reversed."""
    for order in permutations(rows):
        for signs in product((1, -1), repeat=len(rows)):
            yield tuple(tuple(sign * entry for entry in row) for sign, row in zip(signs, order, strict=True))


def _serial(vectors: tuple[Vector, ...], schedule: Vector, space: Space) -> tuple[Vector, ...]:
    """Return vectors that lead a partial sum over several indices through all of them, innermost index first."""
    axes = [next(axis for axis, entry in enumerate(vector) if entry) for vector in vectors]
    if len(vectors) < 2 or any(sum(map(abs, vector)) != 1 for vector in vectors):
        return vectors
    back = np.zeros(len(schedule), int)
    chain = []
    for axis in sorted(axes, reverse=True):
        step = np.zeros(len(schedule), int)
        step[axis] = 1 if schedule[axis] >= 0 else -1
        chain.append(tuple((step - back).tolist()))
        back += step * (space.sizes[axis] - 1)
    return tuple(chain)


def _flow(
    array: str, vector: Vector, schedule: Vector, rows: tuple[Vector, ...], fabric: Fabric, sums: bool
) -> Flow | None:
    """Return the flow along a vector or its reverse, None if the fabric cannot carry it."""
    delay = _dot(schedule, vector)
    for sign in (1, -1) if not delay else (1 if delay > 0 else -1,):
        oriented = tuple(sign * entry for entry in vector)
        place = tuple(_dot(row, oriented) for row in rows)
        link = (0, *place) if len(place) == 1 else place
        flow = Flow(array, oriented, abs(delay), (link[0], link[1]))
        if not delay:
            possible = not sums and flow.link in fabric.broadcasts
        elif flow.kind == "stationary":
            possible = True
        else:
            possible = fabric.carries(flow.link, abs(delay)) and (fabric.moving_sums or not sums)
        if possible:
            return flow
    return None


def _flows(
    system: System, all_reuse: Sequence[Reuse], schedule: Vector, rows: tuple[Vector, ...], fabric: Fabric
) -> tuple[Flow, ...] | None:
    flows = []
    for number, one in enumerate(all_reuse):
        vectors = one.vectors if number else _serial(one.vectors, schedule, system.space)
        for vector in vectors:
            flow = _flow(one.access.array, vector, schedule, rows, fabric, sums=not number)
            if flow is None:
                return None
            flows.append(flow)
    return tuple(flows)


def _conflict_free(system: System, schedule: Vector, rows: tuple[Vector, ...]) -> bool:
    """Return whether no two points meet in the same place at the same time."""
    points = system.space.points()
    return len(np.unique(points @ np.array([schedule, *rows]).T, axis=0)) == len(points)


def best(system: System, fabric: Fabric, rows: tuple[Vector, ...], reach: int = 2) -> Mapping | None:
    """Return the fastest map with an allocation, None without one.

    Of equally fast ones, that with the fewest registers, then an allocation as given rather than turned, then the
    fewest indices that run backwards.

    Parameters
    ----------
    system, fabric
        What is mapped onto what.
    rows
        Allocation, one or two rows; those of a fabric with directions are tried turned and reversed too.
    reach
        Entries of the schedule lie in -reach .. reach.

    Raises
    ------
    AnalysisError
        The system is not regular.
    """
    space = system.space
    all_reuse = reuses(system)
    for one in all_reuse:
        if one.witness is not None:
            raise AnalysisError(f"{system.name}: {one.access} has no constant dependence vectors, hence no schedule")
    turned = [rows] if fabric.links is None else list(_turned(rows))
    found = []
    for schedule in product(range(-reach, reach + 1), repeat=len(space.sizes)):
        latency = 1 + sum(abs(entry) * (size - 1) for entry, size in zip(schedule, space.sizes, strict=True))
        for turn, candidate in enumerate(turned):
            flows = _flows(system, all_reuse, schedule, candidate, fabric)
            if flows is not None:
                registers = sum(flow.delay for flow in flows)
                backwards = sum(entry < 0 for entry in schedule)
                order = (latency, registers, turn, backwards, schedule)
                found.append((order, flows, candidate))
    used_once = any(not one.vectors for one in all_reuse[1:])
    for (latency, _, _, _, schedule), flows, candidate in sorted(found):
        places = np.unique(space.points() @ np.array(candidate).T, axis=0)
        at_edge = np.ptp(places, axis=0).min() == 0 or places.shape[1] == 1
        reachable = fabric.inner_loads or not used_once or at_edge
        if reachable and _conflict_free(system, schedule, candidate):
            return Mapping(system, schedule, candidate, flows, len(places), latency)
    return None


def search(system: System, fabric: Fabric, reach: int = 2) -> list[Mapping]:
    """Return the best map for each projection direction with entries -1, 0 and 1 that has one, fastest first.

    Parameters
    ----------
    system, fabric, reach
        As for :func:`best`.  The system has two or three indices: one dimension is time.

    Raises
    ------
    AnalysisError
        The system is not regular, or has another number of indices.
    """
    count = len(system.space.sizes)
    if count not in (2, 3):
        raise AnalysisError(
            f"{system.name}: {count} indices; one dimension of time and one or two of space take 2 or 3"
        )
    found = []
    for projection in product((-1, 0, 1), repeat=count):
        # of a direction and its reverse, the one whose first nonzero entry is positive
        if gcd(*projection) == 1 and next(entry for entry in projection if entry) > 0:
            mapping = best(system, fabric, allocation(projection), reach)
            if mapping is not None:
                found.append(mapping)
    return sorted(found, key=lambda one: (one.latency, one.processors))
