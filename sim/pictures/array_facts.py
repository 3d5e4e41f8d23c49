"""The array as a graph: PEs, halo registers and edges of its netlist, and the links between them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from hw.array import PIXEL, Array
from hw.spec.config import AcceleratorConfig
from hw.spec.numerics import NUMERICS
from sim.pictures.netlist import Module, Source, modules

__all__ = ["ArrayFacts", "Link", "array_facts"]

Place = tuple[int, int]
"""Row and column; halo registers have negative columns, the one beside column 0 is -1."""

_HALO = re.compile(r"^(?P<row>.*)\.halo(?P<index>\d+)$")
_GATES = ("$mux", "$pmux", "$and", "$or", "$not")
_DATA = ("a", "w")  # ports of an array; others choose between data


@dataclass(frozen=True, order=True)
class Link:
    """A connection of 8 bits (``d``: 32) between two places, or between an edge of the array and a place.

    Parameters
    ----------
    kind
        ``h``, ``v`` or ``d``: to that register from the neighbour's, or from an edge; ``w_row``: the broadcast tap;
        ``out``: from ``d`` to the array's results.
    source, target
        Places, or (edge's lane,) with :attr:`edge`.
    registers
        Between the two: skew or deskew.
    """

    kind: str
    source: Place | None
    target: Place | None
    registers: int = 0
    lane: int | None = None


@dataclass(frozen=True)
class ArrayFacts:
    """What the netlist of an array holds.

    Parameters
    ----------
    config
        What was elaborated.
    pes, halo
        Places of PEs, and of halo registers.
    links
        All between them, sorted.
    """

    config: AcceleratorConfig
    pes: tuple[Place, ...]
    halo: tuple[Place, ...]
    links: tuple[Link, ...]

    def count(self) -> Counter[str]:
        """Return the number of links of each kind."""
        return Counter(link.kind for link in self.links)


class _Reader:
    """Follows the chains of one netlist."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.pes = [name for name, kind in module.instances.items() if kind == "rowcast_pe"]

    def drivers(self, pe: str, port: str) -> set[Source]:
        return self.module.sources(self.module.bits(pe, port)[0], stops=".halo", through=_GATES)

    def places(self) -> dict[str, Place]:
        """Return where each PE is: as many links below the top and right of the left edge as lead to it."""
        above = {pe: self._neighbour(pe, "v_in") for pe in self.pes}
        left = {pe: self._neighbour(pe, "h_in") for pe in self.pes}

        def steps(pe: str, towards: dict[str, str | None]) -> int:
            count = 0
            while (found := towards[pe]) is not None:
                pe, count = found, count + 1
            return count

        return {pe: (steps(pe, above), steps(pe, left)) for pe in self.pes}

    def _neighbour(self, pe: str, port: str) -> str | None:
        found = {source.cell for source in self.drivers(pe, port) if source.cell in self.pes}
        assert len(found) <= 1, f"{pe}.{port} has several drivers"
        return found.pop() if found else None


def array_facts(config: AcceleratorConfig) -> ArrayFacts:
    """Elaborate an array and read its links from the netlist."""
    module = modules(Array(config), "array", keep=("rowcast_pe",))["array"]
    reader = _Reader(module)
    places = reader.places()
    rows = {pe.rpartition(".")[0]: row for pe, (row, _) in places.items()}
    halo: dict[str, Place] = {}
    for net in module.nets("halo"):
        if match := _HALO.match(net):
            halo[net] = (rows[match["row"]], int(match["index"]) - config.halo)
    links: set[Link] = set()

    def link(kind: str, source: Source, target: Place, width: int) -> None:
        if source.cell is None:
            lane = source.index // width
            # Pixels left of column 0 share registers of the skew with columns, which take theirs in the other mode.
            if source.port in _DATA and (kind != "v" or lane == config.halo + target[1]):
                links.add(Link(kind, None, target, source.registers, lane))
        elif source.cell in places:
            links.add(Link(kind, places[source.cell], target, source.registers))
        else:
            origin = halo[source.cell]
            if origin != target:  # a register that keeps its value is no link
                links.add(Link(kind, origin, target, source.registers))

    for pe, place in places.items():
        for kind, width in (("h", PIXEL), ("v", PIXEL), ("d", NUMERICS.acc_width)):
            for source in reader.drivers(pe, f"{kind}_in"):
                link(kind, source, place, width)
        if config.stos:
            for source in reader.drivers(pe, "w_row_n"):
                link("w_row", source, place, PIXEL)
    for net, place in halo.items():
        for source in module.register_sources(net, stops=".halo", through=_GATES):
            link("v", source, place, PIXEL)
    for lane in range(config.cols):
        for source in module.sources(module.ports["out"][1][lane * NUMERICS.acc_width], through=_GATES):
            if source.cell is not None:  # neither what goes past the array nor what chooses
                links.add(Link("out", places[source.cell], None, source.registers, lane))
    ordered = sorted(links, key=lambda one: (one.kind, str(one.source), str(one.target), one.registers))
    return ArrayFacts(config, tuple(sorted(places.values())), tuple(sorted(halo.values())), tuple(ordered))


def pe_places(config: AcceleratorConfig) -> dict[str, Place]:
    """Return where each PE instance of an array is, by its path in the design (``rows0.row1.pe2``)."""
    return _Reader(modules(Array(config), "array", keep=("rowcast_pe",))["array"]).places()
