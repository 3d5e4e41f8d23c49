"""The table of networks and arrays beside its targets, for terminals and documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from sim.bench_causes import CAUSES, PARTS, kind_of
from sim.targets import Targets
from sim.verilator.model import LATENCY
from sim.whole_cases import Case

__all__ = ["COMMAND", "document", "explanation", "native_table", "table", "verdict"]

COMMAND = "nox -s bench"

_TEXT = ("network", "array")
_NUMBERS = ("measured", "target", "ratio", "bound", "x bound", "target's bound", "authors", "authors / measured")
_NATIVE = ("measured", "FuSe", "ratio", "limit", "bound", "x bound")
_LEAST = 0.005
"""Share of the target below which a cause is not told by name."""

Row = Mapping[str, Any]


def _kilo(cycles: float) -> str:
    return f"{cycles / 1000:,.0f}" if cycles >= 99_950 else f"{cycles / 1000:,.1f}"


def _array(row: Row) -> str:
    return f"{row['rows']}x{row['cols']}"


def _cells(row: Row) -> list[str]:
    """Return a row of the table, in the order of the columns."""
    cycles = row["cycles"]
    return [
        row["network"],
        _array(row),
        _kilo(cycles),
        _kilo(row["target"]),
        f"{cycles / row['target']:.3f}",
        _kilo(row["bound"]),
        f"{cycles / row['bound']:.2f}",
        _kilo(row["target_bound"]),
        _kilo(row["authors"]),
        f"{row['authors'] / cycles:.2f}",
    ]


def _native_cells(row: Row) -> list[str]:
    """Return a row of the table of depthwise networks, in the order of the columns."""
    cycles, over = row["cycles"], row["over"]
    return [
        row["network"],
        _array(row),
        _kilo(cycles),
        _kilo(over["cycles"]),
        f"{cycles / over['cycles']:.2f}",
        f"{over['limit']:.2f}",
        _kilo(row["bound"]),
        f"{cycles / row['bound']:.2f}",
    ]


def _rows(rows: Sequence[Row], targets: Targets, *, native: bool) -> list[tuple[Case, Row | None]]:
    """Return the cells of the table, or depthwise networks, in the file's order, each with what was measured."""
    found = {Case(row["network"], row["preset"]): row for row in rows}
    return [(case, found.get(case)) for case in targets.cases() if (targets.native(case) is not None) == native]


def _grid(rows: Sequence[Row], targets: Targets, *, native: bool) -> list[list[str]]:
    """Return the cells of a table as text; a case that was not measured says so."""
    columns = len(_NATIVE if native else _NUMBERS)
    return [
        [case.network, f"{case.config.rows}x{case.config.cols}", "not measured", *["-"] * (columns - 1)]
        if row is None
        else (_native_cells if native else _cells)(row)
        for case, row in _rows(rows, targets, native=native)
    ]


def _table(title: str, head: Sequence[str], rows: Sequence[Row], targets: Targets, *, native: bool) -> Table:
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in _TEXT:
        made.add_column(name, no_wrap=True)
    for name in head:
        made.add_column(name, justify="right", no_wrap=True)
    cases = _rows(rows, targets, native=native)
    for cells, (_, row) in zip(_grid(rows, targets, native=native), cases, strict=True):
        made.add_row(*cells, style=None if row is not None and _reached(row) else "bold red")
    return made


def table(rows: Sequence[Row], targets: Targets) -> Table:
    """Return the cells as a table for a terminal, those that were not measured too."""
    title = "Thousand cycles of a 224x224 picture, measured on RTL, beside the targets"
    return _table(title, _NUMBERS, rows, targets, native=False)


def native_table(rows: Sequence[Row], targets: Targets) -> Table:
    """Return depthwise networks beside their FuSe networks as a table for a terminal."""
    return _table("Unmodified networks with native depthwise convolutions", _NATIVE, rows, targets, native=True)


def _reached(row: Row) -> bool:
    """Whether a row counts: within its target, with the right bytes."""
    return row["cycles"] <= row["target"] and not row["differences"]


def verdict(rows: Sequence[Row], missing: Mapping[Case, str], targets: Targets) -> str:
    """Return how many of all cells reach their target, and which do not count.

    Parameters
    ----------
    rows
        Measured cells.
    missing
        The others, with the reason.
    targets
        The file, which says how many there are.
    """
    parts = []
    for native, what in ((False, "cells reach their target"), (True, "depthwise networks are within their limit")):
        cells = _rows(rows, targets, native=native)
        if cells:
            parts.append(f"{sum(row is not None and _reached(row) for _, row in cells)} of {len(cells)} {what}.")
    wrong = [f"{row['network']}@{row['preset']}" for row in rows if row["differences"]]
    if wrong:
        parts.append(f"Not counted, because RTL and ISS differ: {', '.join(wrong)}.")
    if missing:
        parts.append(f"Not measured: {'; '.join(f'{case} ({reason})' for case, reason in missing.items())}.")
    return "\n".join(parts)


def explanation(row: Row) -> str:
    """Return in a sentence where the cycles beyond the bound went, the largest share first."""
    over = row["cycles"] - row["target"]
    limit = _LEAST * row["target"]
    told = {name: cycles for name, cycles in row["causes"].items() if abs(cycles) >= limit}
    parts = [f"{name} {_kilo(cycles)}" for name, cycles in sorted(told.items(), key=lambda item: -item[1])]
    rest = sum(row["causes"].values()) - sum(told.values())
    beyond = row["cycles"] - row["bound"]
    return (
        f"{row['network']} on {_array(row)}: {_kilo(over)} over the target, {_kilo(beyond)} beyond the bound: "
        f"{', '.join([*parts, f'others {_kilo(rest)}'])}"
    )


def _markdown(head: Sequence[str], texts: int, rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * texts + ["---:"] * (len(head) - texts), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _code(cells: list[str]) -> list[str]:
    return [f"`{cells[0]}`", *cells[1:]]


def _causes_table(rows: Sequence[Row]) -> list[str]:
    """Return the causes of all rows, those of tiles by kind; the columns' sum is what is beyond the bound."""
    sums = []
    for row in rows:
        found: Counter[str] = Counter()
        for name, cycles in row["causes"].items():
            found[kind_of(name) or name] += cycles
        sums.append(found)
    kinds = {kind for row in rows for name in row["causes"] if (kind := kind_of(name))}
    names = [*sorted(kinds), *(name for name in CAUSES if any(name in found for found in sums))]
    lines = []
    for row, found in zip(rows, sums, strict=True):
        cells = [_kilo(found[name]) for name in names]
        lines.append(_code([row["network"], _array(row), _kilo(row["cycles"] - row["bound"]), *cells]))
    return _markdown([*_TEXT, "beyond the bound", *names], 2, lines)


def document(rows: Sequence[Row], missing: Mapping[Case, str], targets: Targets) -> str:
    """Return the page that `docs/cycles.md` is.

    Parameters
    ----------
    rows
        Measured cells, in the order of the table.
    missing
        Cells that were not measured, with the reason.
    targets
        The data file of targets: its ``source`` and ``remarks`` are quoted.
    """
    missed = [row for row in rows if row["cycles"] > row["target"]]
    times = {
        row["preset"]: f"{row['build_seconds']:.0f} s to build, {row['cycles'] / row['seconds'] / 1000:.0f} kcycles/s"
        for row in rows
        if row["build_seconds"]
    }
    native = [
        "Unmodified networks, depthwise convolutions native on the ST-OS array, beside their FuSe networks:",
        "",
        *_markdown([*_TEXT, *_NATIVE], 2, [_code(cells) for cells in _grid(rows, targets, native=True)]),
        "",
    ]
    text = [
        "# Cycles of whole networks",
        "",
        "<!-- not run: whole networks on RTL take an hour -->",
        "",
        f"    {COMMAND}                              # this page's table, after the benchmark of generation",
        f"    {COMMAND} -- --markdown docs/cycles.md # this page",
        "",
        "Thousand cycles for one 224x224 picture, batch 1, int8, from the start command to the last byte in DRAM,",
        "counted by the hardware (CYCLES): generated Verilog of the presets, compiled by Verilator, whole networks on",
        f"every array. The memory answers after {LATENCY} cycles and moves one beat per cycle and direction. After",
        "each run all bytes of DRAM are compared with the instruction-set simulator's. Weights are random: they make",
        "no difference to cycles.",
        "",
        *_markdown([*_TEXT, *_NUMBERS], 2, [_code(cells) for cells in _grid(rows, targets, native=False)]),
        "",
        f"* *target*: {targets.source}.",
        "* *bound* (`sw/model/bound.py`): the sum over the layers of max(MACs / N^2, inputs / N, outputs / N,",
        "  weights / N) of the network measured: the bound of this array's ports, MACs with padding included, input",
        "  that a stride skips left out. *Target's bound* is the one that the target was computed with.",
        *(f"* `{network}`: {remark}." for network, remark in targets.remarks.items()),
        "* *authors* (`sw/model/authors.py`): the FuSeConv authors' closed form for their own array, without memory,",
        "  of the network measured.",
        f"* Simulation of one picture, on one core: {'; '.join(f'{name} {text}' for name, text in times.items())}.",
        "",
        *(native if targets.natives else []),
        verdict(rows, missing, targets),
        "",
        *(["Where the cycles of missed targets went, largest share first:", ""] if missed else []),
        *(f"* {explanation(row)}." for row in missed),
        *([""] if missed else []),
        "## Cycles beyond the bound",
        "",
        "Every cycle between bound and measurement has one cause (`sim/bench_causes.py`): the trace of the run on RTL",
        "says when each EXEC started and ended, the cycle model how long its tiles take. Thousand cycles:",
        "",
        *_causes_table(rows),
        "",
        "* Kinds of layers: the steps of their tiles, less the bound of those layers. In the list above they are split",
        "  in three:",
        *(f"    * *{name}*: {meaning}." for name, meaning in PARTS.items()),
        *(f"* *{name}*: {meaning}." for name, meaning in CAUSES.items()),
        "",
    ]
    return "\n".join(text)
