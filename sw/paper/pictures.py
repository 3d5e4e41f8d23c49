"""Pictures of docs/results.md, as SVG that is the same for the same figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sw.model.shapes import LAYER_TYPES, LayerType
from sw.paper.published import BASELINE, NETWORKS, PUBLISHED_SIZE, SIZES, SPEED_UPS, VARIANTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "TYPE_NAMES"]

Facts = Mapping[str, Any]

TYPE_NAMES: dict[LayerType, str] = {
    "first": "first convolution",
    "spatial": "depthwise, row and column filters",
    "pointwise": "pointwise",
    "linear": "fully connected",
    "other": "squeeze-and-excite, pooling, activations, last stores",
}
_COLOURS = dict(zip(LAYER_TYPES, ("tab:gray", "tab:red", "tab:blue", "tab:purple", "tab:green"), strict=True))
_STYLES = {
    "fuse_half": ("tab:blue", "-"),
    "fuse_full": ("tab:orange", "-"),
    "fuse_half_50": ("tab:blue", ":"),
    "fuse_full_50": ("tab:orange", ":"),
}


def _panels(rows: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with a column of panels per network."""
    # a figure of its own, so that neither a display nor pyplot's global state is needed
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, height), layout="constrained")
    axes = figure.subplots(rows, len(NETWORKS), sharey="row", squeeze=False)
    for place, title in zip(axes[0], NETWORKS.values(), strict=True):
        place.set_title(title, fontsize=10)
    return figure, [list(row) for row in axes]


def _speed_ups(axes: Axes, base: Facts, rows: Facts) -> None:
    """Draw the variants' speed-up over `base`, by size."""
    for variant, (colour, line) in _STYLES.items():
        values = [base[str(size)]["cycles"] / rows[variant][str(size)]["cycles"] for size in SIZES]
        axes.plot(SIZES, values, color=colour, linestyle=line, marker=".", label=VARIANTS[variant])
    axes.axhline(1, color="lightgray", linewidth=1, zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(SIZES, [str(size) for size in SIZES], fontsize=8)
    axes.minorticks_off()


def authors(facts: Facts) -> Figure:
    """Return speed-ups under the authors' assumptions, with the published ones."""
    figure, (row,) = _panels(1, 3.3)
    for axes, network in zip(row, NETWORKS, strict=True):
        rows = facts["authors"][network]
        _speed_ups(axes, rows[BASELINE], rows)
        published = list(SPEED_UPS[network].values())
        axes.scatter([PUBLISHED_SIZE] * len(published), published, marker="x", color="black", label="published")
        axes.set_xlabel("rows and columns")
    row[0].set_ylabel("speed-up, authors' closed form")
    row[0].legend(fontsize=8)
    return figure


def hardware(facts: Facts) -> Figure:
    """Return speed-ups on this hardware: over im2col without ST-OS, and over native depthwise."""
    figure, grid = _panels(2, 6)
    for column, network in enumerate(NETWORKS):
        rows = facts["hardware"]["cells"][network]
        for line, base in enumerate(("im2col", BASELINE)):
            axes = grid[line][column]
            _speed_ups(axes, rows[base], rows)
            points = [
                (size, rows[base][str(size)]["cycles"] / cell["rtl"])
                for variant in VARIANTS
                for size in SIZES
                if "rtl" in (cell := rows[variant][str(size)])
            ]
            if points:
                axes.scatter(*zip(*points, strict=True), marker="o", facecolors="none", color="black", label="RTL")
        grid[1][column].set_xlabel("rows and columns")
    grid[0][0].set_ylabel("speed-up over im2col\n(array without ST-OS)")
    grid[1][0].set_ylabel("speed-up over native depthwise\n(same array)")
    grid[0][0].legend(fontsize=8)
    return figure


def types(facts: Facts) -> Figure:
    """Return shares of cycles by layer type: the authors' closed form above, this hardware below."""
    figure, grid = _panels(2, 6.5)
    for column, network in enumerate(NETWORKS):
        above = facts["authors"][network]
        below = facts["hardware"]["cells"][network]
        _shares(grid[0][column], {"depthwise": above[BASELINE], "Half": above["fuse_half"]})
        _shares(
            grid[1][column], {"im2col": below["im2col"], "native": below[BASELINE], "Half": below["fuse_half"]}
        )  # fmt: skip
    grid[0][0].set_ylabel("% of cycles, authors' closed form\nleft depthwise, right Half")
    grid[1][0].set_ylabel("% of cycles, this hardware\nim2col, native depthwise, Half")
    handles, labels = grid[1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    return figure


def _shares(axes: Axes, bars: Facts) -> None:
    """Draw, for each size, one stacked bar per entry of `bars`."""
    width = 0.8 / len(bars)
    for number, rows in enumerate(bars.values()):
        places = [index + (number - (len(bars) - 1) / 2) * width for index in range(len(SIZES))]
        floor = [0.0] * len(SIZES)
        for kind in LAYER_TYPES:
            shares = [100 * rows[str(size)]["types"][kind] / rows[str(size)]["cycles"] for size in SIZES]
            label = TYPE_NAMES[kind] if number == 0 else None
            axes.bar(places, shares, 0.9 * width, floor, color=_COLOURS[kind], label=label)
            floor = [low + share for low, share in zip(floor, shares, strict=True)]
    axes.set_xticks(range(len(SIZES)), [str(size) for size in SIZES], fontsize=8)
    axes.set_ylim(0, 100)


PICTURES: dict[str, Callable[[Facts], Figure]] = {
    "speed-up-authors.svg": authors,
    "speed-up-hardware.svg": hardware,
    "layer-types.svg": types,
}
"""What draws each picture, by file name."""
