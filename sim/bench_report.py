"""The table of networks and arrays beside its targets, for terminals and documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from sim.bench_causes import CAUSES, PARTS, kind_of
from sim.memory import LATENCY

__all__ = ["COMMAND", "document", "explanation", "table"]

COMMAND = "nox -s bench"

_TEXT = ("network", "array")
_NUMBERS = ("measured", "target", "ratio", "bound", "x bound", "authors", "authors / measured")
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
        _kilo(row["authors"]),
        f"{row['authors'] / cycles:.2f}",
    ]


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table for a terminal."""
    title = "Thousand cycles of a 224x224 picture, measured on RTL, beside the targets"
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in _TEXT:
        made.add_column(name, no_wrap=True)
    for name in _NUMBERS:
        made.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(*_cells(row), style="bold red" if row["cycles"] > row["target"] else None)
    return made


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


def document(rows: Sequence[Row], targets: Mapping[str, Any]) -> str:
    """Return the page that `docs/cycles.md` is.

    Parameters
    ----------
    rows
        Measured cells, in the order of the table.
    targets
        The data file of targets: its ``source`` and ``remark`` are quoted.
    """
    missed = [row for row in rows if row["cycles"] > row["target"]]
    times = {
        row["preset"]: f"{row['build_seconds']:.0f} s to build, {row['cycles'] / row['seconds'] / 1000:.0f} kcycles/s"
        for row in rows
        if row["build_seconds"]
    }
    text = [
        "# Cycles of whole networks",
        "",
        f"    {COMMAND}                              # this page's table, after the benchmark of generation",
        f"    {COMMAND} -- --markdown docs/cycles.md # this page",
        "",
        "Thousand cycles for one 224x224 picture, batch 1, int8, from the start command to the last byte in DRAM,",
        "counted by the hardware (CYCLES): generated Verilog of the presets, compiled by Verilator, whole networks on",
        f"every array. The memory answers after {LATENCY} cycles and moves one beat per cycle and direction. After",
        "each run all bytes of DRAM must equal the instruction-set simulator's. Weights are random: they make no",
        "difference to cycles.",
        "",
        *_markdown([*_TEXT, *_NUMBERS], 2, [_code(_cells(row)) for row in rows]),
        "",
        f"* *target*: {targets['source']}.",
        "* *bound* (`sw/model/bound.py`): the sum over the layers of max(MACs / N^2, inputs / N, outputs / N,",
        "  weights / N), input that a stride skips left out. No schedule on an N-wide array beats it.",
        f"* {targets['remark']}.",
        "* *authors* (`sw/model/authors.py`): the FuSeConv authors' closed form for their own array, without memory,",
        "  of the network measured.",
        f"* Simulation of one picture, on one core: {'; '.join(f'{name} {text}' for name, text in times.items())}.",
        "",
        f"{len(rows) - len(missed)} of {len(rows)} cells reach their target."
        + (" Where the others' cycles went, largest share first:" if missed else ""),
        "",
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
