"""A netlist as a tree: how often each module is there, its area, and the memories."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter

from hw.errors import ToolError
from hw.report.liberty import Liberty
from hw.report.synthesis import Mapped

__all__ = ["Hierarchy", "MemoryShape", "ModuleFigures", "family"]

_MEMORY = re.compile(r"rowcast_ram_(\d+)x(\d+)(?:_|$)")


@dataclass(frozen=True)
class MemoryShape:
    """Memories of one geometry.

    Parameters
    ----------
    module
        The module that stands for one; its name also tells the ports (see :mod:`hw.ram`).
    count, depth, width
        How many; words, and bits of each.
    """

    module: str
    count: int
    depth: int
    width: int

    @property
    def bits(self) -> int:
        """Of all of them."""
        return self.count * self.depth * self.width


@dataclass(frozen=True)
class ModuleFigures:
    """A module in a design.

    Parameters
    ----------
    name
        Verilog module.
    count
        Instances in the whole design.
    own, total
        Size of one instance without and with the modules it uses, memories left out: um2, or transistors.
    """

    name: str
    count: int
    own: float
    total: float

    @property
    def everywhere(self) -> float:
        """Own size of all instances."""
        return self.count * self.own


class Hierarchy:
    """The modules below a top module.

    Parameters
    ----------
    modules
        Netlists by name; unknown cells must be in the library, or memories.
    top
        Module to begin with.
    liberty
        The library; None: sizes are transistors.

    Attributes
    ----------
    modules : dict of str to ModuleFigures
        Those in use, the top first, each after those that use it.
    memories : list of MemoryShape
        Largest first.
    """

    def __init__(self, modules: Mapping[str, Mapped], top: str, liberty: Liberty | None) -> None:
        self._mapped, self._liberty = modules, liberty
        uses = {name: [cell for cell in mapped.cells if cell in modules] for name, mapped in modules.items()}
        bottom_up = list(TopologicalSorter(uses).static_order())
        own = {name: self._own(name) for name in modules}
        total: dict[str, float] = {}
        for name in bottom_up:
            cells = modules[name].cells
            total[name] = own[name] + sum(cells[used] * total[used] for used in uses[name])
        counts = Counter({top: 1})
        memories: Counter[str] = Counter()
        for name in reversed(bottom_up):
            for cell, number in modules[name].cells.items():
                if cell in modules:
                    counts[cell] += number * counts[name]
                elif _MEMORY.match(cell):
                    memories[cell] += number * counts[name]
        self.modules = {
            name: ModuleFigures(name, counts[name], own[name], total[name])
            for name in reversed(bottom_up)
            if counts[name]
        }
        shapes = [(match, count) for cell, count in memories.items() if count and (match := _MEMORY.match(cell))]
        found = [MemoryShape(match.string, count, int(match[1]), int(match[2])) for match, count in shapes]
        self.memories = sorted(found, key=lambda shape: (-shape.bits, shape.module))
        self.top = self.modules[top]

    def _own(self, name: str) -> float:
        mapped = self._mapped[name]
        if self._liberty is None:
            assert mapped.transistors is not None
            return float(mapped.transistors)
        area = 0.0
        for cell, count in mapped.cells.items():
            if cell in self._liberty.areas:
                area += count * self._liberty.areas[cell]
            elif cell not in self._mapped and not _MEMORY.match(cell):
                library = self._liberty.file
                raise ToolError(f"module {name} has {count} cells {cell}, of which library {library} has none")
        return area

    @property
    def memory_bits(self) -> int:
        """Bits of all memories."""
        return sum(shape.bits for shape in self.memories)


def family(module: str) -> str:
    """Return a module's name without the numbers that Amaranth and geometries put behind it."""
    return re.sub(r"_?\d+(?:x\d+)?(?:_\d+)?$", "", module)
