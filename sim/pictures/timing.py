"""What the array does in each cycle of a small layer: a chart, from the trace of the RTL."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from hw.spec.isa import Mode
from sim.pictures.examples import Example
from sim.pictures.exec_trace import ExecTrace, Product, trace_exec
from sim.pictures.style import GREY, INK, TILES, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Chart", "Event", "Line", "timing_chart", "timing_figure"]

_UNUSED = "#e3e6ea"
_PLAIN = ("#5b8cc4", _UNUSED, "#5fa777")
"""Fills of events that belong to no tile, by group of lines."""

Output = tuple[int, int, int]
"""Channel, line, pixel."""


@dataclass(frozen=True, order=True)
class Event:
    """A mark in a chart: a cycle, the tile it belongs to (None: to none), and a text."""

    cycle: int
    tile: int | None = None
    text: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a chart."""

    label: str
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Chart:
    """Events by line and cycle, counted from the acceptance of the EXEC.

    Parameters
    ----------
    title, note
        What is computed; what a text in a PE's line means.
    control, pes, results
        Lines: what the sequencer does, each PE, and what leaves.
    tile_ends
        Cycles in which the last step of each tile enters the array.
    done
        Last cycle.
    """

    title: str
    note: str
    control: tuple[Line, ...]
    pes: tuple[Line, ...]
    results: tuple[Line, ...]
    tile_ends: tuple[int, ...]
    done: int


class _Decoder:
    """Says which weight, pixel and result the bytes of an example are."""

    def __init__(self, example: Example, trace: ExecTrace) -> None:
        self.example, self.trace = example, trace
        self.mode = Mode(trace.instruction["mode"])
        image = np.pad(example.image, ((0, 0), *((pad, pad) for pad in example.padding))).astype(np.int64)
        kernel = example.weight.shape[2:]
        windows = sliding_window_view(image, kernel, axis=(1, 2))
        if example.groups == 1:
            self.sums = np.einsum("iyxmn,oimn->oyx", windows, example.weight)
        else:
            self.sums = np.einsum("oyxmn,oimn->oyx", windows, example.weight)

    def product(self, product: Product) -> tuple[Output, int]:
        """Return the result that a product is a part of, and its step: the input channel, or the tap."""
        pixel, weight = product.other, product.left
        if self.mode != Mode.GEMM:
            pixel, weight = weight, pixel
        channel, y, x = (int(index) for index in np.unravel_index(pixel - 1, self.example.image.shape))
        filter_, source, m, n = (int(index) for index in np.unravel_index(weight - 1, self.example.weight.shape))
        assert channel == (source if self.example.groups == 1 else filter_), "pixel and weight of different channels"
        (py, px), (_, _, kh, kw) = self.example.padding, self.example.weight.shape
        step = source if kh == kw == 1 else m * kw + n
        return (filter_, y + py - m, x + px - n), step

    def tile(self, output: Output) -> int | None:
        """Return the number of a result's tile, in order of execution; None if the layer has no such result."""
        filter_, y, x = output
        if not all(0 <= index < size for index, size in zip(output, self.sums.shape, strict=True)):
            return None
        rows, cols = self.trace.config.rows, self.trace.config.cols
        _, height, width = self.sums.shape
        across = -(-width // cols)
        match self.mode:
            case Mode.GEMM:
                return (y * width + x) // cols
            case Mode.STOS_CH:
                return (filter_ // rows * height + y) * across + x // cols
            case _:
                return filter_ * -(-height // rows) + y // rows

    def row(self, sums: tuple[int, ...]) -> Output:
        """Return the first result of a row that leaves the array."""
        lanes = self.sums.reshape(len(self.sums), -1)
        found = [
            (int(filter_), int(start))
            for filter_ in range(len(lanes))
            for start in range(0, lanes.shape[1], len(sums))
            if tuple(int(one) for one in lanes[filter_, start : start + len(sums)]) == sums
        ]
        ((filter_, start),) = found
        y, x = divmod(start, self.sums.shape[2])
        return filter_, y, x

    def line(self, pixels: Iterable[int]) -> str:
        """Return what a loaded line is: its channel and line, or nothing for padding."""
        found = {
            tuple(int(index) for index in np.unravel_index(pixel - 1, self.example.image.shape)[:2])
            for pixel in pixels
            if pixel
        }
        assert len(found) <= 1, "a line of several lines"
        return ",".join(map(str, found.pop())) if found else "-"


def timing_chart(example: Example) -> Chart:
    """Run an example on the RTL and return its chart."""
    trace = trace_exec(example.program(), example.inputs)
    decoder = _Decoder(example, trace)
    rows, cols = trace.config.rows, trace.config.cols
    gemm = decoder.mode == Mode.GEMM
    ends = tuple(step.cycle for step in trace.steps if step.last)
    places: dict[tuple[int, int], list[Event]] = {(row, col): [] for row in range(rows) for col in range(cols)}
    leaving = []
    for row in trace.rows:
        output = decoder.row(row.sums)
        shown = output[1] if decoder.mode == Mode.STOS_LN else output[0]
        leaving.append(Event(row.cycle, decoder.tile(output), str(shown)))
    used = Counter(event.tile for event in leaving)
    for product in trace.products:
        output, step = decoder.product(product)
        tile = decoder.tile(output) if gemm else bisect_left(ends, product.cycle)
        row, _ = product.place
        counts = row < used[tile]
        assert not counts or decoder.tile(output) == tile, "a product of another tile"
        places[product.place].append(Event(product.cycle, tile if counts else None, str(step)))
    control = [Line("operand reads", tuple(Event(read.cycle) for read in trace.reads))]
    if not gemm:
        loads = [Event(step.cycle, None, decoder.line(step.line)) for step in trace.steps if step.load]
        control.append(Line("line loaded (c,y)", tuple(loads)))
        control.append(Line("capture", tuple(Event(step.cycle) for step in trace.steps if step.capture)))
    working = tuple(Event(step.cycle) for step in trace.steps if any(step.weights))
    control.append(Line("weights" if gemm else "taps", working))
    control.append(Line("last step of tile", tuple(Event(cycle) for cycle in ends)))
    what = {
        Mode.GEMM: "GEMM: pointwise convolution",
        Mode.STOS_CH: "ST-OS: row filters, a channel per row",
        Mode.STOS_LN: "ST-OS: column filters, a line per row, lines stream down",
    }[decoder.mode]
    channels, height, width = example.image.shape
    kernel = "x".join(map(str, example.weight.shape[2:]))
    return Chart(
        title=f"{what}; {kernel} on {channels} channels of {height} x {width} pixels, {rows} x {cols} PEs",
        note="in a PE: input channel" if gemm else "in a PE: tap; blank: its pixel is padding, 0; grey: row not in use",
        control=tuple(control),
        pes=tuple(Line(f"PE {row},{col}", tuple(events)) for (row, col), events in places.items()),
        results=(
            Line("line leaves" if decoder.mode == Mode.STOS_LN else "channel leaves", tuple(leaving)),
            Line("write", tuple(Event(cycle) for cycle in trace.writes)),
        ),
        tile_ends=ends,
        done=trace.done,
    )


_LABELS = 3.4
_CELL = 0.62
_STEP = 0.5


def timing_figure(chart: Chart) -> Figure:
    """Return the picture of a chart."""
    groups = (chart.control, chart.pes, chart.results)
    first = min(event.cycle for event in chart.control[0].events) - 1
    cycles = chart.done - first + 1
    lines = sum(map(len, groups))
    height = 1.5 + lines * _STEP + 2 * 0.35 + 0.9
    figure, axes = canvas(_LABELS + cycles * _CELL + 0.4, height, scale=0.42)
    axes.text(0.2, 0.45, chart.title, fontsize=9, color=INK, va="center", weight="bold")
    axes.text(0.2, 0.98, f"{chart.note};  colour: tile", fontsize=8, color=INK, va="center")
    y = 1.5

    def left(cycle: int) -> float:
        return _LABELS + (cycle - first) * _CELL

    top = y
    for number, group in enumerate(groups):
        for line in group:
            axes.text(_LABELS - 0.15, y + _STEP / 2, line.label, fontsize=7, color=INK, ha="right", va="center")
            axes.plot([_LABELS, left(chart.done + 1)], [y + _STEP, y + _STEP], color="#e8ebee", linewidth=0.6, zorder=1)
            for event in line.events:
                plain = _UNUSED if event.text else _PLAIN[number]
                fill = plain if event.tile is None else TILES[event.tile % len(TILES)]
                _cell(axes, left(event.cycle), y, fill, event.text)
            y += _STEP
        y += 0.35
    bottom = y - 0.35
    for cycle in range(-(-first // 5) * 5, chart.done + 2, 5):
        axes.text(left(cycle) + _CELL / 2, bottom + 0.3, str(cycle), fontsize=7, color=GREY, ha="center", va="center")
        axes.plot([left(cycle)] * 2, [top, bottom], color="#d5dae0", linewidth=0.6, zorder=0)
    axes.text(_LABELS - 0.15, bottom + 0.3, "cycle from acceptance", fontsize=7, color=GREY, ha="right", va="center")
    gaps = [after - before for before, after in pairwise(chart.tile_ends)]
    apart = " ".join(map(str, gaps))
    text = f"tiles end {apart} cycles apart" if len(set(gaps)) > 1 else f"a tile every {gaps[0]} cycles"
    axes.text(left(chart.done + 1), 0.98, text, fontsize=8, color=INK, ha="right", va="center")
    return figure


def _cell(axes: Axes, x: float, y: float, fill: str, text: str) -> None:
    from matplotlib.patches import Rectangle

    size = (_CELL - 0.06, _STEP - 0.08)
    axes.add_patch(Rectangle((x + 0.03, y + 0.04), *size, facecolor=fill, edgecolor="none", zorder=2))
    if text:
        small = 6.5 if len(text) < 3 else 5
        axes.text(x + _CELL / 2, y + _STEP / 2, text, fontsize=small, color=INK, ha="center", va="center", zorder=3)
