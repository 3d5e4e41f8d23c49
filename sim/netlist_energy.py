"""Energy of a netlist's instances over a window, from counted changes of its nets and a library's tables."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from hw.report.cell_energy import Library
from sim.activity import Scope

__all__ = ["CLOCK", "Energy", "Netlist"]

CLOCK = "clk"
"""Net of that name in every module."""

_CELL = re.compile(r"^  (\S+) (\S+|\\\S+ ) ?\((.*?)\n  \);", re.MULTILINE | re.DOTALL)
_PIN = re.compile(r"\.(\w+|\\\S+ )\(([^)]*)\)")


@dataclass(frozen=True)
class Energy:
    """Energy of a part, in fJ, over a window.

    Parameters
    ----------
    clock
        Clock pins of registers.
    switching
        Half C V^2 of the pins that a net drives, per change.
    internal
        Inside cells, but for clock pins.
    leakage
        All the time.
    nets, counted
        Nets that cells drive, and those of them whose changes were counted.
    """

    clock: float = 0.0
    switching: float = 0.0
    internal: float = 0.0
    leakage: float = 0.0
    nets: int = 0
    counted: int = 0

    def __add__(self, other: Energy) -> Energy:
        return Energy(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(Energy)})

    @property
    def total(self) -> float:
        """All of it."""
        return self.clock + self.switching + self.internal + self.leakage


class Netlist:
    """Cells and instances of each module, wires without length.

    Parameters
    ----------
    modules
        Name of each module and its text, cells with named pins; modules that are not here are cells or, if the library
        does not have them either, memories, which are left out.
    library
        Cells.
    """

    def __init__(self, modules: Mapping[str, str], library: Library) -> None:
        self.library = library
        self._cells: dict[str, list[tuple[str, dict[str, str]]]] = defaultdict(list)
        self._children: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._loads: dict[str, dict[str, float]] = {}
        for module, text in modules.items():
            loads: dict[str, float] = defaultdict(float)
            for kind, name, body in _CELL.findall(text):
                if kind in modules:
                    self._children[module].append((name.strip("\\ "), kind))
                elif kind in library.cells:
                    pins = {pin: net.strip().removeprefix("\\").replace(" ", "") for pin, net in _PIN.findall(body)}
                    self._cells[module].append((kind, pins))
                    for pin, net in pins.items():
                        if net and "'" not in net:
                            loads[net] += library.cells[kind].capacitance.get(pin, 0.0)
            self._loads[module] = loads

    def energies(
        self, module: str, counts: Scope, cycles: int, nanoseconds: float, *, path: str = "", usual: float = 0.0
    ) -> Iterator[tuple[str, Energy]]:
        """Yield (path, energy of its own cells) of an instance of `module` and of all in it.

        Parameters
        ----------
        counts
            Changes in the instance; a net that is not there changes as often as the mean of those that are.
        cycles, nanoseconds
            Clock cycles counted, and how long one takes.
        path
            Names of instances from the top, with dots.
        usual
            Changes of nets of an instance in which nothing was counted.
        """
        counted = [changes for name, changes in counts.bits.items() if name not in (CLOCK, "rst")]
        usual = sum(counted) / len(counted) if counted else usual
        yield path, self._own(module, counts, cycles, nanoseconds, usual)
        for name, kind in self._children[module]:
            inner = f"{path}.{name}" if path else name
            scope = counts.children.get(name, Scope())
            yield from self.energies(kind, scope, cycles, nanoseconds, path=inner, usual=usual)

    def _own(self, module: str, counts: Scope, cycles: int, nanoseconds: float, usual: float) -> Energy:
        bits, loads, library = counts.bits, self._loads[module], self.library
        clock = internal = leakage = 0.0
        nets = found = 0
        half = library.volts**2 / 2

        def changes(net: str) -> float:
            return bits.get(net, usual)

        for kind, pins in self._cells[module]:
            cell = library.cells[kind]
            leakage += cell.leakage * nanoseconds * cycles * 1e-3
            seen = [bits[net] for pin, net in pins.items() if pin in cell.internal and net in bits]
            for pin, net in pins.items():
                if pin in cell.internal:
                    nets += 1
                    found += bool(seen)
                    # an unused QN is not in the simulation: it changes with Q
                    number = bits.get(net, seen[0] if seen else usual)
                    internal += number * cell.per_change(pin, loads.get(net, 0.0))
                elif net == CLOCK:
                    clock += 2 * cycles * (cell.hidden[pin] + cell.capacitance[pin] * half)  # up and down
                elif net in loads:
                    internal += changes(net) * cell.hidden[pin]
        # pins count where they are, whatever drives them: also those behind a port
        switching = sum(changes(net) * load * half for net, load in loads.items() if net != CLOCK)
        return Energy(clock, switching, internal, leakage, nets, found)
