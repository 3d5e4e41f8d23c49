"""The accelerator's block diagram."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from sim.pictures.blocks import OUTSIDE, BlockFacts, Bus
from sim.pictures.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, RED, arrow, box, canvas, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLOCKS", "ROUTES", "blocks_figure"]

Point = tuple[float, float]

BLOCKS: dict[str, tuple[Point, Point, str]] = {
    "s_axil": ((0.1, 4.1), (1.9, 0.9), "white"),
    "m_axi read": ((0.1, 1.1), (1.9, 0.9), "white"),
    "m_axi write": ((0.1, 13.3), (1.9, 0.9), "white"),
    "read_arbiter": ((3.6, 0.8), (3.2, 1.5), PALE),
    "control": ((3.6, 3.5), (3.2, 2.1), "#e9e2f4"),
    "load": ((3.6, 7.0), (3.2, 2.0), PALE),
    "store": ((3.6, 12.8), (3.2, 1.9), PALE),
    "weights": ((9.2, 6.2), (3.0, 1.3), "#f9ead6"),
    "scratchpad": ((9.2, 9.2), (3.0, 2.9), "#f9ead6"),
    "params": ((9.2, 13.3), (3.0, 1.3), "#f9ead6"),
    "exec": ((13.9, 3.5), (9.4, 10.2), "white"),
    "gemm": ((14.6, 4.85), (3.0, 0.75), "#dfeaf6"),
    "tiles": ((14.6, 6.15), (3.0, 0.75), "#dfeaf6"),
    "stos_sequencer": ((14.6, 7.45), (3.0, 0.75), "#dfeaf6"),
    "requests": ((14.6, 8.75), (3.0, 0.95), "#dfeaf6"),
    "array": ((19.3, 4.9), (3.0, 2.4), "#dfeaf6"),
    "maximum": ((19.3, 8.6), (3.0, 1.1), "#dfeaf6"),
    "writer": ((18.3, 11.0), (4.0, 1.9), "#dfeaf6"),
}
"""Corner, size and fill of each block."""

_DATA, _ASK, _ORDER = BLUE, GREY, PURPLE
_WEIGHTS, _RESULTS, _SUMS = ORANGE, RED, GREEN

ROUTES: dict[tuple[str, str], tuple[str, tuple[Point, ...], Point]] = {
    ("m_axi read", "read_arbiter"): (_DATA, ((2.0, 1.35), (3.6, 1.35)), (2.8, 1.13)),
    ("read_arbiter", "m_axi read"): (_ASK, ((3.6, 1.75), (2.0, 1.75)), (2.8, 1.98)),
    ("s_axil", "control"): (_ORDER, ((2.0, 4.35), (3.6, 4.35)), (2.8, 4.13)),
    ("control", "s_axil"): (_ORDER, ((3.6, 4.75), (2.0, 4.75)), (2.8, 4.98)),
    ("read_arbiter", "control"): (_DATA, ((4.7, 2.3), (4.7, 3.5)), (4.35, 2.9)),
    ("control", "read_arbiter"): (_ASK, ((5.7, 3.5), (5.7, 2.3)), (6.02, 2.9)),
    ("read_arbiter", "load"): (_DATA, ((6.8, 1.3), (7.9, 1.3), (7.9, 7.4), (6.8, 7.4)), (8.2, 5.0)),
    ("load", "read_arbiter"): (_ASK, ((6.8, 7.7), (8.5, 7.7), (8.5, 0.95), (6.8, 0.95)), (8.98, 3.0)),
    ("control", "load"): (_ORDER, ((4.7, 5.6), (4.7, 7.0)), (4.0, 6.3)),
    ("load", "control"): (_ORDER, ((5.7, 7.0), (5.7, 5.6)), (6.55, 6.3)),
    ("control", "exec"): (_ORDER, ((6.8, 4.3), (13.9, 4.3)), (11.3, 4.08)),
    ("exec", "control"): (_ORDER, ((13.9, 4.75), (6.8, 4.75)), (11.3, 4.98)),
    ("control", "store"): (_ORDER, ((3.6, 5.2), (2.7, 5.2), (2.7, 13.15), (3.6, 13.15)), (1.95, 9.5)),
    ("store", "control"): (_ORDER, ((4.5, 12.8), (4.5, 11.6), (3.1, 11.6), (3.1, 5.45), (3.6, 5.45)), (5.5, 12.2)),
    ("load", "weights"): (_WEIGHTS, ((6.8, 8.0), (8.1, 8.0), (8.1, 6.85), (9.2, 6.85)), (8.9, 7.1)),
    ("load", "scratchpad"): (_DATA, ((6.8, 8.3), (8.1, 8.3), (8.1, 9.8), (9.2, 9.8)), (8.62, 9.58)),
    ("load", "params"): (_WEIGHTS, ((6.8, 8.65), (7.6, 8.65), (7.6, 13.7), (9.2, 13.7)), (8.5, 13.48)),
    ("scratchpad", "store"): (_RESULTS, ((9.2, 11.2), (7.1, 11.2), (7.1, 13.2), (6.8, 13.2)), (8.4, 10.98)),
    ("store", "scratchpad"): (_ASK, ((6.8, 14.2), (7.35, 14.2), (7.35, 11.7), (9.2, 11.7)), (8.4, 11.95)),
    ("store", "m_axi write"): (_RESULTS, ((3.6, 13.75), (2.0, 13.75)), (2.8, 13.98)),
    ("weights", "array"): (_WEIGHTS, ((12.2, 6.45), (13.1, 6.45), (13.1, 4.4), (20.8, 4.4), (20.8, 4.9)), (18.7, 4.18)),
    ("gemm", "tiles"): (_ASK, ((16.6, 5.6), (16.6, 6.15)), (16.95, 5.88)),
    ("tiles", "gemm"): (_ASK, ((15.6, 6.15), (15.6, 5.6)), (14.9, 5.88)),
    ("gemm", "requests"): (_ASK, ((17.6, 5.1), (18.25, 5.1), (18.25, 9.3), (17.6, 9.3)), (18.25, 8.1)),
    ("requests", "gemm"): (_ASK, ((17.6, 8.95), (17.9, 8.95), (17.9, 5.4), (17.6, 5.4)), (17.9, 6.5)),
    ("stos_sequencer", "tiles"): (_ASK, ((16.6, 7.45), (16.6, 6.9)), (16.95, 7.18)),
    ("tiles", "stos_sequencer"): (_ASK, ((15.6, 6.9), (15.6, 7.45)), (14.9, 7.18)),
    ("stos_sequencer", "requests"): (_ASK, ((16.6, 8.2), (16.6, 8.75)), (16.95, 8.48)),
    ("requests", "stos_sequencer"): (_ASK, ((15.6, 8.75), (15.6, 8.2)), (15.25, 8.48)),
    ("stos_sequencer", "weights"): (_ASK, ((14.6, 7.8), (13.7, 7.8), (13.7, 6.85), (12.2, 6.85)), (12.7, 6.63)),
    ("requests", "weights"): (_ASK, ((14.6, 8.95), (13.5, 8.95), (13.5, 7.25), (12.2, 7.25)), (14.25, 8.73)),
    ("requests", "scratchpad"): (_ASK, ((14.6, 9.3), (13.3, 9.3), (13.3, 9.55), (12.2, 9.55)), (14.25, 9.08)),
    ("scratchpad", "array"): (_DATA, ((12.2, 10.2), (18.7, 10.2), (18.7, 6.6), (19.3, 6.6)), (14.6, 9.98)),
    ("scratchpad", "maximum"): (_DATA, ((18.7, 9.15), (19.3, 9.15)), (19.0, 8.93)),
    ("array", "writer"): (_SUMS, ((22.3, 6.1), (22.85, 6.1), (22.85, 11.95), (22.3, 11.95)), (22.5, 8.3)),
    ("maximum", "array"): (_DATA, ((20.8, 8.6), (20.8, 7.3)), (21.15, 8.0)),
    ("scratchpad", "writer"): (_DATA, ((12.2, 10.85), (17.4, 10.85), (17.4, 11.3), (18.3, 11.3)), (14.6, 10.63)),
    ("writer", "scratchpad"): (_RESULTS, ((18.3, 11.75), (12.2, 11.75)), (14.6, 11.53)),
    ("params", "writer"): (_WEIGHTS, ((12.2, 13.75), (19.6, 13.75), (19.6, 12.9)), (15.2, 14.0)),
    ("writer", "params"): (_ASK, ((18.3, 12.55), (13.1, 12.55), (13.1, 13.45), (12.2, 13.45)), (14.6, 12.33)),
}
"""Colour, points and the place of the label of each bus."""

_TITLES = {
    "exec": "exec unit",
    "stos_sequencer": "ST-OS sequencer",
    "gemm": "GEMM sequencer",
    "writer": "result writer",
    "requests": "operand requests",
    "tiles": "tile walk",
}
_TITLES |= {"load": "load unit", "store": "store unit", "read_arbiter": "read arbiter", "maximum": "running maximum"}
_LINE = 24
"""Letters of a line of the names inside a block."""

_NAMES = 8
"""Of more, only the last words are shown."""


def _inside(names: tuple[str, ...]) -> str:
    """Return names, equal ones but for their numbers once with their count, in lines."""
    many = len(names) > _NAMES
    families = Counter(re.sub(r"\d+", "", name.rpartition("_")[2] if many else name) for name in names)
    words = [family if count == 1 else f"{count} {family}" for family, count in families.items()]
    lines = [words[0]]
    for word in words[1:]:
        lines[-1] += ","
        if len(lines[-1]) + len(word) < _LINE:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def blocks_figure(facts: BlockFacts) -> Figure:
    """Return the picture of an accelerator.

    Raises
    ------
    ValueError
        If the design has a block or a bus that has no place in the picture, or the other way round.
    """
    if strange := set(facts.blocks) ^ {name for name in BLOCKS if name not in OUTSIDE.values()}:
        raise ValueError(f"blocks of the design and of the picture differ: {', '.join(sorted(strange))}")
    if strange := {(bus.source, bus.target) for bus in facts.buses} ^ set(ROUTES):
        raise ValueError(f"buses of the design and of the picture differ: {sorted(strange)}")
    figure, axes = canvas(23.8, 17.0, scale=0.52)
    for name, (corner, size, fill) in BLOCKS.items():
        children = facts.blocks.get(name, ())
        frame = name == "exec"
        edge = GREY if name in OUTSIDE.values() else INK
        box(axes, corner, size, fill=fill, edge=edge, zorder=0.5 if frame else 3, rounding=0.12)
        text = _inside(children) if children and not frame and children != ("memory",) else ""
        middle = corner[0] + size[0] / 2
        y = corner[1] + (0.3 if text or frame else size[1] / 2)
        title = {"horizontalalignment": "center", "verticalalignment": "center", "fontsize": 9, "zorder": 5}
        axes.text(middle, y, _TITLES.get(name, name), weight="bold", color=INK, **title)
        if text:
            axes.text(middle, y + 0.3, text, fontsize=6.5, color=INK, ha="center", va="top", zorder=5, linespacing=1.25)
    for bus in facts.buses:
        _bus(axes, bus)
    config = facts.config
    entries = [(_DATA, "activations, and what the bus reads"), (_WEIGHTS, "weights and parameters")]
    entries += [(_SUMS, "32-bit sums"), (_RESULTS, "int8 results")]
    legend(axes, entries, (0.5, 15.4), step=0.38)
    entries = [
        (_ASK, "requests: addresses, and how much to read"),
        (_ORDER, "instructions, regions, registers; events, errors"),
    ]
    legend(axes, entries, (8.2, 15.4), step=0.38)
    note = f"numbers: bits ({config.rows} x {config.cols} PEs, {config.axi_data_width}-bit bus)"
    axes.text(8.2, 15.4 + 2 * 0.38, note, fontsize=8, color=INK, va="center")
    return figure


def _bus(axes: Axes, bus: Bus) -> None:
    colour, points, label = ROUTES[bus.source, bus.target]
    arrow(axes, points, colour, width=1.0 if colour == _ASK else 1.6)
    text = "+".join(map(str, bus.widths))
    style = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
    axes.text(*label, text, fontsize=7, color=colour, ha="center", va="center", zorder=2.5, bbox=style)
