"""Pictures of the argument: dependence graph and space-time diagram, or what stands against them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sw.analysis.dependences import Reuse, Vector, reuses
from sw.analysis.execute import execute, random_operands
from sw.analysis.operators import Operator
from sw.analysis.recurrences import AnalysisError, System
from sw.analysis.report import implemented
from sw.analysis.schedule import FABRICS, Mapping, search
from sw.drawing import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "check_plot", "draw", "picture"]

FORMATS = (".png", ".svg", ".pdf")
_COLOURS = ("tab:green", "tab:blue", "tab:orange")
_LABELLED = 150  # computations, up to which each is labelled


def check_plot(path: Path) -> None:
    """Refuse a picture that could not be made, with :class:`AnalysisError`."""
    if path.suffix not in FORMATS:
        raise AnalysisError(f"--plot {path}: a picture ends in {', '.join(FORMATS)}")
    try:
        import matplotlib  # noqa: F401 - whether it loads is the question
    except ImportError:
        raise AnalysisError("--plot needs matplotlib: pip install 'rowcast[plot]'") from None


def picture(operator: Operator, suffix: str) -> bytes:
    """Return :func:`draw`'s picture in the format of a file name's suffix; the same bytes for the same operator."""
    figure = draw(operator)
    if suffix == ".svg":
        return svg(figure)
    out = io.BytesIO()
    figure.savefig(out, format=suffix.removeprefix("."), metadata={"CreationDate": None} if suffix == ".pdf" else None)
    return out.getvalue()


def draw(operator: Operator) -> Figure:
    """Return the picture of an operator's first system.

    Left the dependences.  Right computations by place and time: of the map that the generated array implements, if the
    system has one, else of the fastest; for a system without a schedule, what im2col leaves of the reuse.
    """
    from matplotlib.figure import Figure

    system = operator.systems[0]
    all_reuse = reuses(system)
    refused = [one for one in all_reuse if one.witness is not None]
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    if refused:
        left, right = figure.subplots(1, 2)
        _broken(left, system, refused[0])
        assert operator.im2col is not None, "what is refused has an im2col form"
        _reuse_left(right, refused[0], operator.im2col)
    else:
        mapping = implemented(system) or search(system, FABRICS["neighbours"])[0]
        _graph(figure, system, all_reuse)
        _space_time(figure.add_subplot(1, 2, 2), mapping)
    figure.suptitle(f"{operator.title}: {system}")
    return figure


def _index_axis(axes: Axes, letter: str, name: str) -> None:
    """Label an axis, with whole numbers as ticks."""
    axes.set(**{f"{letter}label": name})
    axes.locator_params(axis=letter, integer=True)


def _graph(figure: Figure, system: System, all_reuse: tuple[Reuse, ...]) -> None:
    points, space = system.space.points(), system.space
    solid = len(space.names) == 3
    axes = figure.add_subplot(1, 2, 1, projection="3d") if solid else figure.add_subplot(1, 2, 1)
    axes.scatter(*points.T, color="black", s=12)
    for one, colour in zip(all_reuse, _COLOURS, strict=True):
        for number, vector in enumerate(one.vectors):
            starts = points[space.contains(points + np.array(vector))]
            steps = np.broadcast_to(vector, starts.shape)
            label = None if number else f"{one.access} along {' '.join(map(str, one.vectors))}"
            if solid:
                axes.quiver(*starts.T, *steps.T, color=colour, label=label, arrow_length_ratio=0.2, linewidth=1)
            else:
                units = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.005}
                axes.quiver(*starts.T, *steps.T, color=colour, label=label, **units)
    for letter, name in zip("xyz", space.names, strict=False):
        _index_axis(axes, letter, name)
    axes.set_title("dependence graph")
    axes.legend(loc="upper left", bbox_to_anchor=(-0.22, 1.04), fontsize="x-small")


def _space_time(axes: Axes, mapping: Mapping) -> None:
    trace = execute(mapping, random_operands(mapping, 0)).trace
    places = sorted({one.place for one in trace}, reverse=True)
    line = {place: number for number, place in enumerate(places)}
    last = mapping.system.space.sizes[-1]
    for one in trace:
        shade = f"C{one.point[-1] % 10}"
        axes.broken_barh([(one.cycle + 0.05, 0.9)], (line[one.place] - 0.45, 0.9), color=shade, alpha=0.6)
        if len(trace) <= _LABELLED:
            axes.text(one.cycle + 0.5, line[one.place], ",".join(map(str, one.point)), ha="center", va="center", size=6)
    axes.set_yticks(range(len(places)), [f"PE {row},{column}" for row, column in places], size=6)
    axes.set_xlim(0, mapping.latency)
    _index_axis(axes, "x", "cycle")
    names = ", ".join(mapping.system.space.names)
    axes.set_title(
        f"({names}) at time {mapping.schedule}, colour: {mapping.system.space.names[-1]} of {last}\n"
        f"{mapping.processors} PEs, {mapping.latency} cycles, {100 * mapping.utilisation:.0f} % used, "
        f"stationary: {mapping.stationary}"
    )


def _broken(axes: Axes, system: System, one: Reuse) -> None:
    """Draw the plane of the last two indices, the others 0: the witness's offset, and where it leads elsewhere."""
    assert one.witness is not None
    space = system.space
    points = space.points()
    points = points[(points[:, :-2] == 0).all(axis=1)]
    axes.scatter(*points.T[-2:], color="black", s=12)
    for same, colour in ((True, "tab:blue"), (False, "tab:red")):
        starts = _starts(system, one, points, one.witness.offset, same)
        steps = np.broadcast_to(-np.array(one.witness.offset[-2:]), (len(starts), 2))
        word = "the same element" if same else "another element"
        label = f"{word} at {one.witness.offset} from it"
        units = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.005}
        axes.quiver(*starts.T[-2:], *steps.T, color=colour, label=label, **units)
    for letter, name in zip("xy", space.names[-2:], strict=True):
        _index_axis(axes, letter, name)
    axes.set_title(f"{one.access}\nhas no constant dependence vectors")
    axes.set_ylim(top=space.sizes[-1] + 0.6)  # room for the legend
    axes.legend(loc="upper right", fontsize="small")


def _starts(system: System, one: Reuse, points: np.ndarray, offset: Vector, same: bool) -> np.ndarray:
    inside = points[system.space.contains(points - np.array(offset))]
    here, there = (one.access.elements(system.space, where) for where in (inside, inside - np.array(offset)))
    return inside[(here == there).all(axis=1) == same]


def _reuse_left(axes: Axes, one: Reuse, product: System) -> None:
    after = next(other for other in reuses(product) if other.access.array == f"{one.access.array}'")
    bars = axes.bar(
        ["elements,\nconvolution", "elements,\nim2col", "uses of each,\nconvolution", "uses of each,\nim2col"],
        [one.elements, after.elements, one.uses, after.uses],
        color=["tab:blue", "tab:red", "tab:blue", "tab:red"],
    )
    axes.bar_label(bars, fmt="%.4g")
    axes.set_yscale("log")
    axes.set_title(f"im2col: {product}\nrows of an array that work: {product.space.sizes[0]}")
