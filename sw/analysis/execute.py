"""Execution of a space-time map: values meet by place and time only, as they would on the array."""

from __future__ import annotations

from collections.abc import Mapping as Dict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sw.analysis.dependences import Vector
from sw.analysis.schedule import Flow, Mapping

__all__ = ["Computation", "Run", "execute", "random_operands"]


@dataclass(frozen=True)
class Computation:
    """One multiply-accumulate: when (first: 0), where (row, column; the lowest: 0), and which point."""

    cycle: int
    place: tuple[int, int]
    point: Vector


@dataclass(frozen=True)
class Run:
    """What an execution did.

    Attributes
    ----------
    output
        The result.
    trace
        All computations in order of time.
    loads
        By operand: elements that entered from outside, counted each time.
    """

    output: NDArray[np.int64]
    trace: list[Computation]
    loads: dict[str, int]


def random_operands(mapping: Mapping, seed: int) -> dict[str, NDArray[np.int64]]:
    """Return int8 values for both operands of a map's system."""
    rng = np.random.default_rng(seed)
    system = mapping.system
    return {one.array: rng.integers(-128, 128, one.shape(system.space)) for one in system.operands}


def execute(mapping: Mapping, operands: Dict[str, NDArray[np.int64]]) -> Run:
    """Run a map.

    A PE sends what it has used or summed up along each flow; it arrives `delay` cycles later, `link` away.  A point
    takes what has arrived at its place in its cycle, else it loads the operand from outside (or starts a sum from 0).
    What leaves along no flow of the output is a result.

    Raises
    ------
    RuntimeError
        Two computations or two values of an array meet, or a value arrives where none is taken: the map is wrong.
    """
    system, space = mapping.system, mapping.system.space
    points = space.points()
    times = points @ np.array(mapping.schedule)
    times -= times.min()
    places = points @ np.array(mapping.allocation).T
    places -= places.min(axis=0)
    if places.shape[1] == 1:
        places = np.concatenate([np.zeros_like(places), places], axis=1)
    elements = {one.array: one.elements(space, points) for one in system.accesses}
    flows = {one.array: [flow for flow in mapping.flows if flow.array == one.array] for one in system.accesses}
    # along broadcasts within a cycle the value is passed on in this order
    broadcast = sum(
        (np.array(flow.vector) for flow in mapping.flows if not flow.delay), np.zeros(len(space.sizes), int)
    )
    order = np.lexsort((points @ broadcast, times))

    box = {tuple(point) for point in points.tolist()}
    arriving: dict[tuple[str, int, int, int], int] = {}
    busy: set[tuple[int, int, int]] = set()
    loads = {one.array: 0 for one in system.operands}
    output = np.zeros(system.output.shape(space), np.int64)
    trace = []
    for number in order:
        point, time = tuple(points[number].tolist()), int(times[number])
        row, column = places[number].tolist()
        if (row, column, time) in busy:
            raise RuntimeError(f"two computations on PE ({row}, {column}) in cycle {time}")
        busy.add((row, column, time))
        trace.append(Computation(time, (row, column), point))
        values = []
        for one in system.operands:
            value = arriving.pop((one.array, row, column, time), None)
            if value is None:
                loads[one.array] += 1
                value = int(operands[one.array][tuple(elements[one.array][number])])
            values.append(value)
        name = system.output.array
        total = arriving.pop((name, row, column, time), 0) + values[0] * values[1]
        if not _send(arriving, flows[name], point, (row, column, time), total, box):
            output[tuple(elements[name][number])] += total
        for one, value in zip(system.operands, values, strict=True):
            _send(arriving, flows[one.array], point, (row, column, time), value, box)
    if arriving:
        raise RuntimeError(f"nobody takes what arrives as {min(arriving)}")
    return Run(output, trace, loads)


def _send(
    arriving: dict[tuple[str, int, int, int], int],
    flows: list[Flow],
    point: Vector,
    at: tuple[int, int, int],
    value: int,
    box: set[Vector],
) -> bool:
    """Pass a value on to all points that take it from this one; return whether there are any."""
    sent = False
    for number, flow in enumerate(flows):
        to = tuple(np.add(point, flow.vector).tolist())
        # a point takes its value along the first flow whose other end is in the box
        earlier = any(tuple(np.subtract(to, one.vector).tolist()) in box for one in flows[:number])
        if to in box and not earlier:
            row, column, time = at
            key = (flow.array, row + flow.link[0], column + flow.link[1], time + flow.delay)
            if key in arriving:
                raise RuntimeError(f"two values of {flow.array} arrive at PE {key[1:3]} in cycle {key[3]}")
            arriving[key] = value
            sent = True
    return sent
