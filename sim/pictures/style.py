"""Colours, boxes and arrows that all pictures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "GREEN", "GREY", "INK", "ORANGE", "PALE", "PURPLE", "RED", "TILES"]
__all__ += ["arrow", "box", "canvas", "legend"]

INK, GREY, PALE = "#1f2933", "#8a94a0", "#eef1f4"
BLUE, RED, GREEN, ORANGE, PURPLE = "#2463a8", "#b3363e", "#2f7d4f", "#c9720d", "#6b4ba1"
TILES = ("#a9c9ea", "#f3c48b", "#b5dcb9", "#d9bfe8", "#f2b5b5", "#cfd8a8")
"""Fills of neighbouring tiles, channels and the like."""

Point = tuple[float, float]


def canvas(width: float, height: float, scale: float = 0.6) -> tuple[Figure, Axes]:
    """Return an empty drawing of `width` x `height` units, `scale` inches each, the origin at the top left."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * scale, height * scale))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_aspect("equal")
    axes.axis("off")
    return figure, axes


def box(
    axes: Axes,
    corner: Point,
    size: Point,
    text: str = "",
    *,
    fill: str = "white",
    edge: str = INK,
    fontsize: float = 8,
    rounding: float = 0.06,
    **options: Any,
) -> None:
    """Draw a box by its top left corner, with a text in its middle."""
    from matplotlib.patches import FancyBboxPatch

    style = f"round,pad=0,rounding_size={rounding}"
    patch = FancyBboxPatch(
        corner, *size, boxstyle=style, facecolor=fill, edgecolor=edge, **{"linewidth": 1, "zorder": 3, **options}
    )
    axes.add_patch(patch)
    if text:
        middle = (corner[0] + size[0] / 2, corner[1] + size[1] / 2)
        axes.text(*middle, text, ha="center", va="center", fontsize=fontsize, color=INK, zorder=5)


def arrow(
    axes: Axes, points: Sequence[Point], colour: str, *, head: bool = True, width: float = 1.2, zorder: float = 2
) -> None:
    """Draw a line through points, with a head at its end."""
    *_, before, end = points
    axes.plot(*zip(*points, strict=True), color=colour, linewidth=width, solid_capstyle="round", zorder=zorder)
    if head:
        properties = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", end, before, arrowprops={**properties, "mutation_scale": 9}, zorder=zorder)


def legend(axes: Axes, entries: Sequence[tuple[str, str]], corner: Point, step: float = 0.42) -> None:
    """Write colours and their meaning below each other."""
    for number, (colour, text) in enumerate(entries):
        y = corner[1] + number * step
        axes.plot([corner[0], corner[0] + 0.5], [y, y], color=colour, linewidth=2)
        axes.text(corner[0] + 0.65, y, text, fontsize=8, va="center", color=INK)
