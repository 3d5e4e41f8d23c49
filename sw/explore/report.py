"""Table, CSV and picture of an exploration."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sw.explore.point import OBJECTIVES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["csv_text", "picture", "table_text"]

Row = Mapping[str, Any]

_UNITS = {"cycles": "cycles of a picture", "energy": "energy of a picture, uJ", "area": "area, mm2"}


def csv_text(rows: Sequence[Row]) -> str:
    """Return all accelerators as CSV: configuration, figures, and 1 for those on the Pareto front."""
    out = io.StringIO()
    figures = [key for key in rows[0] if key not in ("params", "pareto")] if rows else []
    names = list(rows[0]["params"]) if rows else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *figures, "pareto"])
    for row in rows:
        chosen = [int(row["params"][name]) for name in names]
        writer.writerow([*chosen, *(row[key] for key in figures), int(row["pareto"])])
    return out.getvalue()


def table_text(rows: Sequence[Row], network: str) -> str:
    """Return the Pareto front, fastest first."""
    front = [row for row in rows if row["pareto"]]
    lines = [
        f"{network}: {len(rows)} accelerators, {len(front)} on the Pareto front (cycles, energy and area by models)",
        f"{'array':>9} {'act KiB':>8} {'weight KiB':>11} {'AXI bits':>9} "
        f"{'cycles':>12} {'use %':>6} {'uJ':>9} {'mm2':>7}",
    ]
    for row in front:
        chosen = row["params"]
        array = f"{chosen['rows']}x{chosen.get('cols', chosen['rows'])}{'' if chosen.get('stos', True) else ' -'}"
        lines.append(
            f"{array:>9} {chosen['act_kib']:>8} {chosen['weight_kib']:>11} {chosen['axi_data_width']:>9} "
            f"{row['cycles']:>12,} {100 * row['utilisation']:>6.1f} {row['energy_uj']:>9,.0f} {row['area_mm2']:>7.2f}"
        )
    return "\n".join(lines)


def picture(rows: Sequence[Row], objectives: Sequence[str], network: str) -> Figure:
    """Return the accelerators in the plane of two objectives, or of one and the area; the front is joined.

    Colour tells the number of PEs.  With three objectives the third one has a second picture beside.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    names = [*objectives, *(name for name in OBJECTIVES if name not in objectives)]
    pairs = [(names[0], name) for name in names[1 : max(2, len(objectives))]]
    figure = Figure(figsize=(6.5 * len(pairs), 5), layout="constrained")
    for axes, (across, up) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        x, y = [[row[OBJECTIVES[name]] for row in rows] for name in (across, up)]
        pes = [row["params"]["rows"] * row["params"].get("cols", row["params"]["rows"]) for row in rows]
        shown = axes.scatter(x, y, c=pes, norm="log", s=18)
        best = sorted((a, b) for a, b, row in zip(x, y, rows, strict=True) if row["pareto"])
        front = {"color": "black", "linewidth": 1, "marker": "o", "fillstyle": "none", "label": "Pareto front"}
        axes.plot(*zip(*best, strict=True), **front)
        axes.set(xscale="log", yscale="log", xlabel=_UNITS[across], ylabel=_UNITS[up])
        axes.legend()
        figure.colorbar(shown, ax=axes, label="PEs")
    figure.suptitle(f"{network}: accelerators, by models")
    return figure
