"""Reports as text: tables for a terminal, Markdown for pages, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from hw.report.yosys_run import PE

__all__ = ["csv_text", "markdown", "overview", "stos_by_module", "table", "tables"]

Report = dict[str, Any]
Rows = list[Sequence[str]]

_FIGURES = (
    *("pe_um2", "pe_plain_um2", "pe_transistors", "pe_plain_transistors", "stos_price_pe", "stos_price_pe_transistors"),
    *("logic_um2", "logic_plain_um2", "logic_transistors", "logic_plain_transistors"),
    *("stos_price_logic", "stos_price_logic_transistors", "memory_count", "memory_bits"),
    *("fmax_mhz", "period_ps", "period_plain_ps", "stos_price_clock"),
    *("pe_period_ps", "pe_plain_period_ps", "stos_price_clock_pe"),
)
"""Columns of the CSV beside the configuration."""


def table(rows: Rows, *, left: int = 1) -> str:
    """Return rows, the first one the head, as aligned columns; the first `left` columns are text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [cell.ljust(width) for cell, width in zip(row[:left], widths[:left], strict=True)]
        cells += [cell.rjust(width) for cell, width in zip(row[left:], widths[left:], strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join([line(rows[0]), "  ".join("-" * width for width in widths), *map(line, rows[1:])])


def markdown(rows: Rows) -> str:
    """Return rows, the first one the head, as a Markdown table; all but the first column are numbers."""
    head, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "| --- |" + " ---: |" * (len(rows[0]) - 1), *rest])


def overview(reports: Sequence[Report], names: Sequence[str]) -> Rows:
    """Return one line for each report."""
    unit = _unit(reports[0])
    rows: Rows = [
        (
            *("accelerator", f"PE, {unit}", "plain PE", "price", f"logic, {unit}", "plain logic", "price"),
            *("memory, Kibit", "longest path"),
        )
    ]
    for report, name in zip(reports, names, strict=True):
        price = "stos_price_{}" + ("" if unit == "um2" else "_transistors")
        rows.append(
            (
                name,
                *(_number(report[f"{pe}_{unit}"], 1 if unit == "um2" else 0) for pe in ("pe", "pe_plain")),
                _percent(report[price.format("pe")]),
                *(_number(report[f"{logic}_{unit}"], 0) for logic in ("logic", "logic_plain")),
                _percent(report[price.format("logic")]),
                _number(report["memory_bits"] / 1024, 1),
                _path(report),
            )
        )
    return rows


def tables(report: Report, name: str) -> str:
    """Return all tables of one report."""
    unit, method = _unit(report), report["method"]
    cells = method["library"]["name"] if method["library"] else method["cells"]
    parts = [f"{name}: {cells}, {method['synthesis']}"]
    modules: Rows = [("module", "instances", f"{unit} each", "with submodules", "all instances", "share of logic")]
    for module in sorted(report["modules"], key=lambda module: -module["count"] * module["own"]):
        modules.append(
            (
                module["name"],
                f"{module['count']:,}",
                *(_number(module[size], 1) for size in ("own", "total")),
                _number(module["count"] * module["own"], 0),
                _percent(module["share"]),
            )
        )
    memories: Rows = [("memory", "count", "words", "bits per word", "bits")]
    for memory in report["memories"]:
        memories.append((memory["module"], *(f"{memory[key]:,}" for key in ("count", "depth", "width", "bits"))))
    memories.append(("all", f"{report['memory_count']:,}", "", "", f"{report['memory_bits']:,}"))
    parts += [table(modules), table(memories)]
    if report["stos_by_module"]:
        parts.append(table(stos_by_module(report)))
    path = report["longest_path"]
    if "module" in path:
        delay = f", {path['delay_ps']:,.0f} ps" if path["delay_ps"] is not None else ""
        parts.append(f"longest path ({path['method']}): {path['gates']} gates in {path['module']}{delay}")
    else:
        clock = _percent(report["stos_price_clock"])
        parts.append(
            f"longest path ({path['method']}): {path['period_ps']:,.0f} ps with set-up time, {report['fmax_mhz']:.1f} "
            f"MHz, {path['gates']} gates from {path['start']} to {path['end']}; against --no-stos {clock}"
        )
        if report["pe_path"]:
            pe = report["pe_path"]["period_ps"]
            parts.append(f"{PE} alone: {pe:,.0f} ps; against --no-stos {_percent(report['stos_price_clock_pe'])}")
    return "\n\n".join(parts)


def stos_by_module(report: Report, at_least: float = 0.0) -> Rows:
    """Return what ST-OS adds to each kind of module, where that is at least a fraction of the plain logic."""
    rows: Rows = [("what ST-OS adds", _unit(report), "without ST-OS", "added", "of plain logic")]
    for row in report["stos_by_module"]:
        if abs(row["share_of_plain"]) >= at_least:
            sizes = (_number(row[key], 0) for key in ("size", "plain", "added"))
            rows.append((row["module"], *sizes, _percent(row["share_of_plain"], 2)))
    return rows


def csv_text(reports: Sequence[Report], names: Sequence[str]) -> str:
    """Return one line for each report: name, configuration, figures; what was not measured is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    fields = list(reports[0]["config"])
    writer.writerow(["name", *fields, *_FIGURES])
    for report, name in zip(reports, names, strict=True):
        figures = ("" if report[key] is None else report[key] for key in _FIGURES)
        writer.writerow([name, *(report["config"][field] for field in fields), *figures])
    return out.getvalue()


def _unit(report: Report) -> str:
    return "um2" if report["method"]["library"] else "transistors"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:+.{digits}f} %"


def _path(report: Report) -> str:
    path = report["longest_path"]
    if "period_ps" in path:
        return f"{path['period_ps']:,.0f} ps"
    delay = f", {path['delay_ps']:,.0f} ps" if path["delay_ps"] is not None else ""
    return f"{path['gates']} gates{delay} (abc)"
