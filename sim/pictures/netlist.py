"""A component's netlist, as Yosys reads it, and what drives a bit of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from amaranth.lib.wiring import Component

from hw.emit import to_rtlil
from hw.shared import Emitter
from hw.yosys import run_yosys

__all__ = ["Module", "Source", "modules"]

Bit = int | str
"""A net's number, or a constant ``"0"``, ``"1"``, ``"x"``."""


@dataclass(frozen=True)
class Source:
    """Where a bit comes from, at the end of multiplexers, gates and registers.

    Parameters
    ----------
    cell
        Instance (or a register that the search stops at, by its net's name), None for a port of the module.
    port, index
        Port of it, and bit of that.
    registers
        Passed on the way.
    """

    cell: str | None
    port: str
    index: int
    registers: int


class Module:
    """One module of a netlist.

    Parameters
    ----------
    name
        Of the module.
    data
        What Yosys' ``write_json`` says of it.
    """

    def __init__(self, name: str, data: dict[str, Any]) -> None:
        self.name = name
        self.ports: dict[str, tuple[str, list[Bit]]] = {
            port: (item["direction"], item["bits"]) for port, item in data["ports"].items()
        }
        self._cells: dict[str, dict[str, Any]] = data["cells"]
        self._nets: dict[str, dict[str, Any]] = data["netnames"]

    @cached_property
    def instances(self) -> dict[str, str]:
        """Instance to module, of all cells that are no gates."""
        return {name: cell["type"] for name, cell in self._cells.items() if not cell["type"].startswith("$")}

    def nets(self, part: str) -> list[str]:
        """Return the designer's names of nets that hold `part`."""
        return [name for name in self._nets if part in name and "$" not in name]

    def bits(self, cell: str, port: str) -> list[Bit]:
        """Return the nets at a port of a cell, lowest bit first."""
        return self._cells[cell]["connections"][port]

    def inputs(self, cell: str) -> Iterator[str]:
        """Yield the input ports of a cell but clock and reset."""
        for port, direction in self._cells[cell]["port_directions"].items():
            if direction == "input" and port not in ("clk", "rst"):
                yield port

    @cached_property
    def _drivers(self) -> dict[Bit, tuple[str | None, str, int]]:
        found: dict[Bit, tuple[str | None, str, int]] = {}
        for name, (direction, bits) in self.ports.items():
            if direction == "input":
                found |= {bit: (None, name, index) for index, bit in enumerate(bits)}
        for name, cell in self._cells.items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "output":
                    found |= {bit: (name, port, index) for index, bit in enumerate(bits)}
        return found

    @cached_property
    def _names(self) -> dict[Bit, tuple[str, int]]:
        """Net to the name its designer gave it."""
        found: dict[Bit, tuple[str, int]] = {}
        for name, item in self._nets.items():
            if "$" not in name:
                found |= {bit: (name, index) for index, bit in enumerate(item["bits"]) if bit not in found}
        return found

    def sources(
        self, bit: Bit, *, stops: str = "", through: Sequence[str] = ("$mux", "$pmux", "$and", "$not")
    ) -> set[Source]:
        """Return what a bit's value can come from.

        Goes back through the data inputs of gates named in `through` and of registers; other gates end the search.
        Registers whose nets have `stops` in their names are sources themselves.
        """
        found: set[Source] = set()
        todo: list[tuple[Bit, int]] = [(bit, 0)]
        seen: set[tuple[Bit, int]] = set()
        while todo:
            here, registers = todo.pop()
            if here not in self._drivers:
                continue
            cell, port, index = self._drivers[here]
            register = cell is not None and self._cells[cell]["type"] == "$dff"
            once = (here, 0 if register else registers)  # a register may hold its value: a loop
            if once in seen:
                continue
            seen.add(once)
            if cell is None or cell in self.instances:
                found.add(Source(cell, port, index, registers))
                continue
            kind, connections = self._cells[cell]["type"], self._cells[cell]["connections"]
            if kind == "$dff":
                name, place = self._names.get(here, ("", 0))
                if stops and stops in name:
                    found.add(Source(name, "Q", place, registers))
                else:
                    todo.append((connections["D"][index], registers + 1))
            elif kind in through:
                width = len(connections["Y"])
                for data in {"A", "B"} & set(connections):
                    # $pmux has several words at B; $and may have a narrower operand, whose missing bits are 0
                    todo += [(word, registers) for word in connections[data][index::width]]
        return found

    def register_sources(self, name: str, **options: Any) -> set[Source]:
        """Return :meth:`sources` of the input of a register, by the name of its net; bit 0."""
        _, port, index = driver = self._drivers[self._nets[name]["bits"][0]]
        assert driver[0] is not None and port == "Q"
        return self.sources(self._cells[driver[0]]["connections"]["D"][index], **options)


def modules(component: Component, name: str, *, keep: Sequence[str] | None = None) -> dict[str, Module]:
    """Return a component's modules by name.

    Parameters
    ----------
    component
        To be elaborated, with modules shared as in the emitted Verilog.
    name
        Of the top module.
    keep
        Modules that stay; all others are dissolved into the top.  None: all stay.
    """
    platform = Emitter()
    with tempfile.TemporaryDirectory(prefix="rowcast-") as folder:
        source, target = Path(folder, "design.il"), Path(folder, "design.json")
        source.write_text(to_rtlil(component, name, platform))
        flatten = [] if keep is None else [*(f"setattr -mod -set keep_hierarchy 1 {one}" for one in keep), "flatten"]
        run_yosys(
            [f"read_rtlil {source}", f"hierarchy -top {name}", "proc", *flatten, "opt_clean", f"write_json {target}"]
        )
        found = json.loads(target.read_text())["modules"]
    return {module: Module(module, data) for module, data in found.items()}
