"""Table, CSV and picture of a search."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["csv_text", "picture", "table_text"]

Row = Mapping[str, Any]

_COLUMNS = ("kind", "architecture", "accuracy", "cycles", "table_cycles", "pareto")


def csv_text(rows: Sequence[Row]) -> str:
    """Return networks as CSV; `cycles` is empty for those that were not compiled as a whole."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "pareto": int(row.get("pareto", False))})
    return out.getvalue()


def table_text(front: Sequence[Row], baselines: Sequence[Row]) -> str:
    """Return the front, fastest first, and the baselines."""
    lines = [f"{'':>14} {'cycles':>11} {'table':>11} {'top-1 %':>8}  network"]
    for number, row in enumerate(front):
        lines.append(_line(f"front {number}", row))
    lines += [_line(row["kind"], row) for row in baselines]
    return "\n".join(lines)


def _line(name: str, row: Row) -> str:
    return f"{name:>14} {row['cycles']:>11,} {row['table_cycles']:>11,} {row['accuracy']:>8.2f}  {row['architecture']}"


def picture(rows: Sequence[Row], front: Sequence[Row], baselines: Sequence[Row], title: str) -> Figure:
    """Return all networks by their table's cycles, front and baselines by those of the network as a whole.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    x, y = [[row[name] for row in rows] for name in ("table_cycles", "accuracy")]
    axes.scatter(x, y, s=10, color="0.7", label=f"{len(rows)} networks, cycles by the table")
    best = [(row["cycles"], row["accuracy"]) for row in front]
    axes.plot(*zip(*best, strict=True), color="black", marker="o", linewidth=1, label="Pareto front")
    for row, marker in zip(baselines, "s^Dv", strict=False):
        axes.plot([row["cycles"]], [row["accuracy"]], marker, label=row["kind"])
    axes.set(xscale="log", xlabel="cycles of a picture, predicted", ylabel="top-1 on held-out pictures, %", title=title)
    axes.legend()
    return figure
