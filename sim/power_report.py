"""Reports of :mod:`sim.power` as tables, for a terminal and for pages."""

from __future__ import annotations

from typing import Any

from hw.report.tables import markdown as as_markdown
from hw.report.tables import table

__all__ = ["beside_model", "by_layer", "by_part", "energy_shares", "markdown", "text"]

Report = dict[str, Any]
Rows = list[list[str]]

_MEMORIES = ("scratchpad", "weights", "parameters")


def by_layer(report: Report) -> Rows:
    """Return a line for each EXEC: energy and power of all logic, and against the plain array's."""
    rows = [["one EXEC of", "array", "cycles", "MACs", "MACs per cycle and PE", "mW", "pJ per cycle", "pJ per MAC",
             "ST-OS against plain"]]  # fmt: skip
    for one in report["layers"]:
        whole = one["parts"]["all logic"]
        busy = one["macs"] / one["cycles"] / report["rows"] / report["cols"]
        rows.append([
            _name(one), _array(one), f"{one['cycles']:,}", f"{one['macs']:,}", f"{busy:.2f}", f"{whole['mw']:.2f}",
            f"{whole['total'] / one['cycles']:.1f}", f"{whole['pj_per_mac']:.2f}", _against(report, one, "all logic"),
        ])  # fmt: skip
    return rows


def by_part(report: Report) -> Rows:
    """Return the mean power of each part of the logic in each EXEC, in mW, and how many of its nets were counted."""
    rows = [["mW", *(f"{one['kind']}, {_array(one)}" for one in report["layers"]), "nets counted"]]
    for name, part in report["layers"][0]["parts"].items():
        power = [f"{one['parts'][name]['mw']:.2f}" for one in report["layers"]]
        rows.append([name, *power, f"{part['counted']:,} of {part['nets']:,}"])
    return rows


def energy_shares(report: Report) -> Rows:
    """Return how the energy of all logic divides."""
    kinds = ("clock", "switching", "internal", "leakage")
    rows = [["of the energy of all logic", "clock pins", "nets' loads", "inside cells", "leakage"]]
    for one in report["layers"]:
        whole = one["parts"]["all logic"]
        shares = [f"{100 * whole[kind] / whole['total']:.1f} %" for kind in kinds]
        rows.append([f"{one['kind']}, {_array(one)}", *shares])
    return rows


def beside_model(report: Report) -> Rows:
    """Return pJ per MAC as measured and as the energy model estimates them."""
    rows = [["pJ per MAC", "PEs", "ST-OS against plain", "model: MAC, registers", "output stage", "model: the same",
             "model: memories"]]  # fmt: skip
    for one in report["layers"]:
        macs, model, parts = one["macs"], one["model"], one["parts"]
        figures = (
            parts["PEs"]["pj_per_mac"],
            (model["multiply-accumulate"] + model["array registers"]) / macs,
            parts["output stage"]["pj_per_mac"],
            model["output stage"] / macs,
            sum(model[name] for name in _MEMORIES) / macs,
        )
        cells = [f"{figure:.3f}" for figure in figures]
        rows.append([f"{one['kind']}, {_array(one)}", cells[0], _against(report, one, "PEs"), *cells[1:]])
    return rows


def text(report: Report) -> str:
    """Return all tables for a terminal."""
    head = f"{report['preset']}, {report['rows']}x{report['cols']}, {report['library']}, {report['mhz']:g} MHz"
    return "\n\n".join([head, *(table(rows) for rows in _tables(report))])


def markdown(report: Report) -> str:
    """Return all tables in Markdown."""
    return "\n\n".join(as_markdown(rows) for rows in _tables(report))


def _tables(report: Report) -> list[Rows]:
    return [by_layer(report), by_part(report), energy_shares(report), beside_model(report)]


def _name(one: dict[str, Any]) -> str:
    return f"{one['layer']} ({one['kind']})"


def _array(one: dict[str, Any]) -> str:
    return "ST-OS" if one["stos"] else "plain"


def _against(report: Report, one: dict[str, Any], part: str) -> str:
    """Return how much more energy the ST-OS array takes for the same work."""
    plain = [other for other in report["layers"] if other["kind"] == one["kind"] and not other["stos"]]
    if not one["stos"] or not plain:
        return ""
    return f"{100 * (one['parts'][part]['total'] / plain[0]['parts'][part]['total'] - 1):+.1f} %"
