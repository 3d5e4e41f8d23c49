"""The array with its links."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.pictures.array_facts import ArrayFacts, Link
from sim.pictures.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, RED, arrow, box, canvas, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["array_figure"]

_PE = 1.1
_HALO = 0.62
_PITCH = 1.9
_REGISTER = 0.17
_COLOURS = {"h": RED, "v": BLUE, "d": GREEN, "w_row": ORANGE, "out": GREEN}


class _Plan:
    """Where everything is drawn."""

    def __init__(self, facts: ArrayFacts) -> None:
        config = facts.config
        self.rows, self.cols, self.halo, self.stos = config.rows, config.cols, config.halo, config.stos
        self.skew = (self.rows - 1) * 1.6 * _REGISTER
        self.halo_left = 1.5 + self.skew
        self.left = self.halo_left + self.halo * 1.05 + 0.75
        self.top = 1.5 + max(self.cols - 1, self.halo) * 1.6 * _REGISTER
        self.bottom = self.top + (self.rows - 1) * _PITCH + _PE
        self.right = self.left + (self.cols - 1) * _PITCH + _PE
        self.width = self.right + 0.6
        self.height = self.bottom + 1.5 + (self.cols - 1) * 1.6 * _REGISTER + 2.35

    def labelled(self, link: Link) -> bool:
        """Whether a link at the top or bottom edge is the one with its lane's label: a column has two with ST-OS."""
        return not link.registers or not self.stos or (link.target is not None and link.target[1] < 0)

    def corner(self, place: tuple[int, int]) -> tuple[float, float]:
        row, column = place
        y = self.top + row * _PITCH
        if column < 0:
            return self.halo_left + (column + self.halo) * 1.05, y + _PE - _HALO
        return self.left + column * _PITCH, y


def _registers(axes: Axes, start: tuple[float, float], count: int, colour: str, *, down: bool) -> None:
    for number in range(count):
        offset = number * 1.6 * _REGISTER
        half = _REGISTER / 2
        corner = (start[0] - half, start[1] + offset) if down else (start[0] + offset, start[1] - half)
        box(axes, corner, (_REGISTER, _REGISTER), fill=colour, edge=colour, rounding=0.01, zorder=4)


def _horizontal(axes: Axes, plan: _Plan, link: Link) -> None:
    """Draw an ``h`` link: from the left neighbour, or a weight of the left edge."""
    assert link.target is not None
    x, y = plan.corner(link.target)
    if link.source is None:
        level = y + 0.22
        arrow(axes, [(0.75, level), (x, level)], RED)
        _registers(axes, (1.15, level), link.registers, RED, down=False)
        axes.text(0.65, level, f"w[{link.lane}]", ha="right", va="center", fontsize=8, color=INK)
        return
    from_x, _ = plan.corner(link.source)
    if link.source[1] < 0:  # over the boxes between
        across, level = from_x + 0.8 * _HALO, y + 0.36
        arrow(axes, [(across, y + _PE - _HALO), (across, level), (x, level)], RED)
        return
    arrow(axes, [(from_x + _PE, y + _PE / 2), (x, y + _PE / 2)], RED)


def _vertical(axes: Axes, plan: _Plan, link: Link) -> None:
    """Draw a ``v`` or ``d`` link: from the row above, or a pixel of the top edge."""
    assert link.target is not None
    x, y = plan.corner(link.target)
    size = _HALO if link.target[1] < 0 else _PE
    across = x + size * (0.5 if link.target[1] < 0 else 0.75 if link.kind == "d" else 0.28)
    colour = _COLOURS[link.kind]
    if link.source is not None:
        _, from_y = plan.corner(link.source)
        arrow(axes, [(across, from_y + size), (across, y)], colour)
        return
    skewed = link.registers > 0
    shift = 0.24 if skewed and link.target[1] >= 0 else 0.0
    points = [(across, 0.7), (across + shift, 0.95), (across + shift, y - 0.4), (across, y - 0.2), (across, y)]
    arrow(axes, points, colour)
    _registers(axes, (across + shift, 1.05), link.registers, colour, down=True)
    if plan.labelled(link):
        axes.text(across, 0.55, f"a[{link.lane}]", ha="center", va="center", fontsize=8, color=INK)


def _results(axes: Axes, plan: _Plan, link: Link) -> None:
    assert link.source is not None
    x, y = plan.corner(link.source)
    across, start, end = x + 0.75 * _PE, y + _PE, plan.height - 2.35
    fork = start + 0.45  # below the tap wires
    shift = -0.24 if link.registers else 0.0
    points = [(across, start), (across, fork), (across + shift, fork + 0.2), (across + shift, end - 0.35)]
    arrow(axes, [*points, (across, end - 0.15), (across, end)], GREEN)
    _registers(axes, (across + shift, fork + 0.3), link.registers, GREEN, down=True)
    if plan.labelled(link):
        axes.text(across, end + 0.2, f"out[{link.lane}]", ha="center", va="center", fontsize=8, color=INK)


def _broadcasts(axes: Axes, plan: _Plan, links: list[Link]) -> None:
    """Draw the tap wires: from a row's weight below its PEs, with a branch up into each."""
    for link in links:
        assert link.target is not None
        row, _ = link.target
        x, y = plan.corner(link.target)
        level, across = y + _PE + 0.3, x + 0.52 * _PE
        start = plan.corner((row, 0))[1] + 0.22
        arrow(axes, [(0.9, start), (0.9, level), (across, level)], ORANGE, head=False, width=1.6, zorder=1)
        arrow(axes, [(across, level), (across, y + _PE)], ORANGE, width=1.6)
        axes.plot([across], [level], marker="o", markersize=3.5, color=ORANGE, zorder=4)


def array_figure(facts: ArrayFacts) -> Figure:
    """Return the picture of an array."""
    plan = _Plan(facts)
    figure, axes = canvas(plan.width, plan.height)
    for place in facts.pes:
        row, column = place
        box(axes, plan.corner(place), (_PE, _PE), f"PE\n{row},{column}", fill=PALE, fontsize=8)
    for place in facts.halo:
        box(axes, plan.corner(place), (_HALO, _HALO), "v", fill="white", edge=GREY, fontsize=7)
    for link in facts.links:
        if link.kind == "h":
            _horizontal(axes, plan, link)
        elif link.kind in ("v", "d"):
            _vertical(axes, plan, link)
        elif link.kind == "out":
            _results(axes, plan, link)
    _broadcasts(axes, plan, [link for link in facts.links if link.kind == "w_row"])
    if facts.config.stos:
        entries = [(RED, "h: weights (GEMM), or the window of pixels (ST-OS), move right")]
        entries += [(BLUE, "v: activations (GEMM, skewed), or lines being loaded (ST-OS), move down")]
        entries += [(GREEN, "d: finished sums drain down; GEMM's are deskewed")]
        entries += [(ORANGE, "w_row: one tap for all PEs of a row (ST-OS)")]
        note = "small squares: registers of skew and deskew, which columns of ST-OS pass by"
        note += "; v alone: halo registers" if facts.halo else ""
    else:
        entries = [(RED, "h: weights move right"), (BLUE, "v: activations move down")]
        entries += [(GREEN, "d: finished sums drain down")]
        note = "small squares: registers of skew and deskew"
    legend(axes, [*entries, (GREY, note)], (0.6, plan.height - 1.8), step=0.4)
    return figure
