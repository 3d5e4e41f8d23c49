"""The table of whole networks measured on RTL, for terminals and documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

__all__ = ["markdown", "table"]

_TEXT = ("network", "weights", "array")
_NUMBERS = (
    "cycles",
    "use %",
    "DRAM in",
    "DRAM out",
    "tensors",
    "bytes equal",
    "build s",
    "run s",
    "kcycles/s",
    "ISS s",
    "answer",
)


def _cells(row: Mapping[str, Any]) -> list[str]:
    """Return a row of the report as text, in the order of the columns."""
    build = row["build_seconds"]
    answer = f"{row['prediction']}" if row["label"] is None else f"{row['prediction']} (is {row['label']})"
    return [
        row["network"],
        row["weights"],
        f"{row['rows']}x{row['cols']}",
        f"{row['cycles']:,}",
        f"{100 * row['utilisation']:.1f}",
        f"{row['dram_read']:,}",
        f"{row['dram_written']:,}",
        f"{row['tensors']}",
        f"{row['bytes']:,}" if row["equal"] else "DIFFER",
        "?" if build is None else f"{build:.0f}",
        f"{row['seconds']:.1f}",
        f"{row['cycles_per_second'] / 1000:.0f}",
        f"{row['iss_seconds']:.1f}",
        "-" if row["weights"] == "random" else answer,
    ]


def table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Return the rows as a table for a terminal."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in _TEXT:
        made.add_column(name, no_wrap=True)
    for name in _NUMBERS:
        made.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(*_cells(row))
    return made


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [[*_TEXT, *_NUMBERS], ["---"] * len(_TEXT) + ["---:"] * len(_NUMBERS)]
    lines += [[f"`{network}`", *rest] for network, *rest in map(_cells, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
