"""Energy of library cells, from a Liberty file: leakage, internal energy per change of a pin, capacitance of pins."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean

from hw.errors import RequestError
from hw.report.liberty import Liberty

__all__ = ["SLOPE_NS", "CellEnergy", "Library", "read_energies"]

SLOPE_NS = 0.02
"""Transition time at which internal energies are read: nearest to that of a gate which drives a few others."""

_PART = re.compile(r'([\w.]+)\s*\(([^)]*)\)\s*(\{|;)|([\w.]+)\s*:\s*"?([^";]*)"?\s*;|(\})')
_COMMENT = re.compile(r"/\*.*?\*/|\\\n", re.DOTALL)


@dataclass
class _Group:
    kind: str
    name: str
    values: dict[str, str] = field(default_factory=dict)
    groups: list[_Group] = field(default_factory=list)

    def all(self, kind: str) -> Iterator[_Group]:
        return (group for group in self.groups if group.kind == kind)


@dataclass(frozen=True)
class CellEnergy:
    """A cell.

    Parameters
    ----------
    leakage
        nW, mean of all states.
    capacitance
        fF, of each input.
    hidden
        fJ per change of an input that changes no output; mean over rise, fall and the other inputs' states.
    internal
        Per output (loads in fF, fJ per change at each), mean over rise, fall and causes.
    """

    leakage: float
    capacitance: dict[str, float]
    hidden: dict[str, float]
    internal: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]

    def per_change(self, output: str, load: float) -> float:
        """Return the internal energy in fJ of a change of an output that drives `load` fF."""
        loads, energies = self.internal[output]
        if len(loads) < 2:
            return energies[0] if energies else 0.0
        upper = min(max(bisect_right(loads, load), 1), len(loads) - 1)
        share = (load - loads[upper - 1]) / (loads[upper] - loads[upper - 1])
        return energies[upper - 1] + share * (energies[upper] - energies[upper - 1])


@dataclass(frozen=True)
class Library:
    """Cells by name, and the supply in volts."""

    cells: dict[str, CellEnergy]
    volts: float


def read_energies(liberty: Liberty) -> Library:
    """Return the energies of all cells.

    Raises
    ------
    RequestError
        If the library has no supply voltage, or no internal energies or leakage at all.
    """
    root = _parse(liberty.text)
    top = next(root.all("library"))
    if "nom_voltage" not in top.values:
        raise RequestError(f"{liberty.file} has no nom_voltage, which energies need: take another corner's file")
    amount, unit = top.values.get("capacitive_load_unit", "1,pf").replace('"', "").split(",")
    femto = float(amount) * {"ff": 1.0, "pf": 1000.0}[unit.strip().lower()]
    leak = top.values.get("leakage_power_unit", "1nW")
    number, prefix = re.fullmatch(r"([\d.]*)([pnum]?)W", leak).groups()
    nano = float(number or 1) * {"p": 1e-3, "n": 1.0, "u": 1e3, "m": 1e6, "": 1e9}[prefix]
    templates = {group.name: group.values for group in top.all("power_lut_template")}
    cells = {cell.name: _cell(cell, templates, femto, nano) for cell in top.all("cell")}
    if not any(any(energies) for cell in cells.values() for _, energies in cell.internal.values()):
        raise RequestError(f"{liberty.file} has no internal_power tables: power needs a library with them")
    return Library(cells, float(top.values["nom_voltage"]))


def _cell(cell: _Group, templates: dict[str, dict[str, str]], femto: float, nano: float) -> CellEnergy:
    capacitance, hidden, internal = {}, {}, {}
    for pin in cell.all("pin"):
        found = []
        for power in pin.all("internal_power"):
            tables = [table for table in power.groups if table.kind in ("rise_power", "fall_power")]
            found += [_table(table, templates.get(table.name, {}), femto) for table in tables]
        if pin.values.get("direction") == "output":
            loads = next((loads for loads, _ in found if len(loads) > 1), (0.0,))
            same = [energies for mine, energies in found if mine == loads]
            internal[pin.name] = (loads, tuple(map(fmean, zip(*same, strict=True))) if same else (0.0,))
        else:
            capacitance[pin.name] = float(pin.values.get("capacitance", 0)) * femto
            hidden[pin.name] = fmean(energies[0] for _, energies in found) if found else 0.0
    leakage = float(cell.values.get("cell_leakage_power", 0)) * nano
    return CellEnergy(leakage, capacitance, hidden, internal)


def _table(table: _Group, template: dict[str, str], femto: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (loads, energies) of a table at :data:`SLOPE_NS`; a table without loads has one energy."""
    numbers = [float(number) for number in _numbers(table.values["values"])]
    axes = {}
    for place in ("1", "2"):
        index = table.values.get(f"index_{place}", template.get(f"index_{place}"))
        if index is not None and f"variable_{place}" in template:
            axes[place] = (template[f"variable_{place}"], [float(number) for number in _numbers(index)])
    slopes = next((values for kind, values in axes.values() if "transition" in kind), [SLOPE_NS])
    at = min(range(len(slopes)), key=lambda place: abs(slopes[place] - SLOPE_NS))
    loads = next((values for kind, values in axes.values() if "capacitance" in kind), None)
    if loads is None:
        return (0.0,), (numbers[min(at, len(numbers) - 1)] * femto,)
    outer = "transition" in axes["1"][0]
    chosen = [numbers[at * len(loads) + i] if outer else numbers[i * len(slopes) + at] for i in range(len(loads))]
    return tuple(load * femto for load in loads), tuple(energy * femto for energy in chosen)


def _numbers(text: str) -> list[str]:
    return re.findall(r"-?[\d.]+(?:[eE][-+]?\d+)?", text)


def _parse(text: str) -> _Group:
    root = _Group("", "")
    stack = [root]
    for match in _PART.finditer(_COMMENT.sub(" ", text)):
        kind, argument, end, key, value, close = match.groups()
        if close:
            stack.pop()
        elif key:
            stack[-1].values[key] = value.strip()
        elif end == "{":
            stack[-1].groups.append(_Group(kind, argument.strip().strip('"')))
            stack.append(stack[-1].groups[-1])
        else:
            stack[-1].values[kind] = argument
    return root
