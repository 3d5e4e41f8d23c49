"""The tiles of an EXEC: when each ends, and which rows it gives the result writer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode
from sw.model.execute import ExecCycles, line_pixels, tile_cycles, tile_rows

__all__ = ["Ints", "Rows", "Tiles", "exec_rows", "exec_tiles"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tiles:
    """Tiles in order, one entry each.

    Parameters
    ----------
    rows
        Rows in use.
    channels, lines, pixels
        First channel, output line and pixel.
    ends
        Cycles from the first tile's last step to theirs.
    """

    rows: Ints
    channels: Ints
    lines: Ints
    pixels: Ints
    ends: Ints


@dataclass(frozen=True)
class Rows:
    """Rows in the order in which they come to the result writer, one entry each.

    Parameters
    ----------
    times
        Cycles from the first tile's last step until the row is there.
    channels
        Their channels.
    places
        Their first pixels: bytes behind the output's first one.
    pixels
        That they have.
    last
        Whether the row is the last one of its channel.
    """

    times: Ints
    channels: Ints
    places: Ints
    pixels: Ints
    last: npt.NDArray[np.bool_]


def exec_tiles(config: AcceleratorConfig, instruction: Instruction, cost: ExecCycles) -> Tiles:
    """Return an EXEC's tiles.  Cycles that its own second operand costs are spread over them."""
    lines = instruction["mode"] == Mode.STOS_LN
    height, width = instruction["out_h"], line_pixels(config, instruction)
    along = -(-instruction["out_w"] // width)
    full = tile_rows(config, instruction)
    # Blocks of rows are the outermost loop, but of streamed lines one inside the channels.
    deep = height if lines else instruction["cout"]
    blocks = -(-deep // full)
    outer, middle = (instruction["cout"], blocks) if lines else (blocks, height)
    first, inner = np.divmod(np.arange(outer * middle * along), middle * along)
    second, tile = np.divmod(inner, along)
    block = second if lines else first
    rows = np.minimum(deep - block * full, full)
    return Tiles(
        rows=rows,
        channels=first if lines else first * full,
        lines=second * full if lines else second,
        pixels=tile * width,
        ends=_ends(config, instruction, cost, rows),
    )


def _ends(config: AcceleratorConfig, instruction: Instruction, cost: ExecCycles, rows: Ints) -> Ints:
    apart = np.zeros(len(rows), np.int64)
    for size in np.unique(rows):
        apart[rows == size] = tile_cycles(config, instruction, int(size))
    if instruction["mode"] == Mode.GEMM:
        change = np.append(False, rows[1:] != rows[:-1])
        apart[change] = np.maximum(apart[change], config.rows + config.cols - 1)
    apart[0] = 0
    ends = np.cumsum(apart)
    return ends * cost.rest // int(ends[-1]) if cost.rest > ends[-1] > 0 else ends


def exec_rows(
    config: AcceleratorConfig, instruction: Instruction, cost: ExecCycles, tiles: Tiles, first: int = 0
) -> Rows:
    """Return the rows of an EXEC's tiles from the `first` one on."""
    number = tiles.rows[first:]
    of = np.repeat(np.arange(first, len(tiles.rows)), number)
    row = np.arange(len(of)) - np.repeat(np.cumsum(number) - number, number)
    if instruction["mode"] in (Mode.STOS_CH, Mode.STOS_LN):
        times = tiles.ends[of] + cost.last_out - (tiles.rows[of] - 1) + row
    else:
        times = tiles.ends[of] + cost.first_out + row
    channels, lines, pixels = tiles.channels[of], tiles.lines[of], tiles.pixels[of]
    if instruction["mode"] == Mode.STOS_LN:
        lines = lines + row
    else:
        channels = channels + row
    width = line_pixels(config, instruction)
    return Rows(
        times=times,
        channels=channels,
        places=channels * instruction["out_cs"] + lines * instruction["out_pitch"] + pixels,
        pixels=np.minimum(instruction["out_w"] - pixels, width),
        last=(lines == instruction["out_h"] - 1) & (pixels + width >= instruction["out_w"]),
    )
