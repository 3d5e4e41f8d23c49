"""Operand reads of an EXEC: when, and in which banks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode
from sw.model.execute import gemm_steps
from sw.model.tiles import Ints, Tiles

__all__ = ["NO_MATTER", "OperandReads", "operand_reads"]

NO_MATTER = 1 << 30


@dataclass(frozen=True)
class OperandReads:
    """Reads of some tiles, in order.

    Parameters
    ----------
    times
        Cycles from the first tile's last step.
    low, high
        Banks of the first and the last byte; -1 where a read meets padding alone and needs none.
    spare
        Cycles by which it can be late without delaying the tiles behind it; NO_MATTER if others of its tile or window
        decide.
    """

    times: Ints
    low: Ints
    high: Ints
    spare: Ints


@dataclass(frozen=True)
class _Pattern:
    """Reads of any tile with so many rows: distances from its first place; of windows, times from its last step."""

    times: Ints
    channels: Ints
    lines: Ints
    pixels: Ints
    spare: Ints


def operand_reads(
    config: AcceleratorConfig, instruction: Instruction, tiles: Tiles, first: int, end: int, begin: int
) -> OperandReads:
    """Return the reads of some tiles.

    Parameters
    ----------
    tiles
        All tiles of the instruction.
    first, end
        Those from `first` to before `end`, all of which have as many rows.
    begin
        When the first tile's reads begin: cycles from its last step, negative.
    """
    item, chosen = instruction, slice(first, end)
    pattern = _pattern(config, item, int(tiles.rows[first]))
    channel = tiles.channels[chosen, None] * (0 if _dense(item) else 1) + pattern.channels
    line = tiles.lines[chosen, None] * item["sy"] - item["pad_y"] + pattern.lines
    pixel = tiles.pixels[chosen, None] * item["sx"] - item["pad_x"] + pattern.pixels
    if item["fold"]:  # beyond the plane, lines go on in the segments beside
        beyond = np.clip(line // max(item["in_h"], 1), -2, 2)
        line, pixel = line - beyond * item["in_h"], pixel + beyond * item["seg"]
    low, high = np.maximum(pixel, 0), np.minimum(pixel + _span(config, item), item["in_w"]) - 1
    place = item["in_base"] + channel * item["in_cs"] + line * item["in_pitch"]
    inside = (line >= 0) & (line < item["in_h"]) & (low <= high)
    times, spare = _times(item, tiles, pattern, first, end, begin)
    return OperandReads(
        times,
        np.where(inside, _bank(config, place + low), -1).ravel(),
        np.where(inside, _bank(config, place + high), -1).ravel(),
        spare,
    )


def _times(
    item: Instruction, tiles: Tiles, pattern: _Pattern, first: int, end: int, begin: int
) -> tuple[Ints, Ints]:
    """Return when each read is, and its spare cycles."""
    ends, count = tiles.ends[first:end], len(pattern.times)
    spare = np.tile(pattern.spare, len(ends))
    if _lines_shift(item):
        times = (ends[:, None] + pattern.times).ravel()
        if first == 0:  # nothing goes before the first window but the begin
            window = int(np.argmax(spare != NO_MATTER)) + 1
            spare[window - 1] += times[window - 1] - (begin + window - 1)
            times[:window] = begin + np.arange(window)
        return times, spare
    # All but a tile's last read follow the tile before; that one may wait for the other tile's rows to leave.
    before = tiles.ends[first - 1 : end - 1] if first else np.append(begin - 1, ends[:-1])
    whole = before[:, None] + 1 + np.arange(count)
    whole[:, -1] = ends
    return whole.ravel(), spare


def _lines_shift(item: Instruction) -> bool:
    return item["mode"] in (Mode.STOS_CH, Mode.STOS_LN)


def _span(config: AcceleratorConfig, item: Instruction) -> int:
    """Return the bytes of a read: windows come with their halo unless every second pixel is read."""
    if item["sx"] == 2 and (not _lines_shift(item) or item["kw"] == 1):
        return 2 * config.cols - 1
    return config.read_lanes if _lines_shift(item) else config.cols


def _bank(config: AcceleratorConfig, address: Ints) -> Ints:
    return address // config.act_bank_bytes % config.act_banks


def _dense(instruction: Instruction) -> bool:
    return instruction["mode"] == Mode.GEMM and not instruction["depthwise"]


def _pattern(config: AcceleratorConfig, item: Instruction, rows: int) -> _Pattern:
    """Return the reads of a tile; a sequencer asks as early as it may."""
    kh, kw, mode = item["kh"], item["kw"], item["mode"]
    if not _lines_shift(item):
        step = np.arange(gemm_steps(item))
        channel, tap = np.divmod(step, kh * kw)
        last = step == len(step) - 1
        return _Pattern(0 * step, channel, tap // kw, tap % kw, np.where(last, 0, NO_MATTER))
    # Windows of n lines: the channels' or, of streamed lines, all for a phase's first one and then one each.
    left = kw - 1 - config.halo if not (item["sx"] == 2 and kw == 1) else 0
    if mode == Mode.STOS_CH:
        windows = [(np.full(rows, y), np.arange(rows)) for y in range(kh)]
    else:
        windows = []
        for phase in range(min(item["sy"], kh)):
            windows.append((phase + item["sy"] * np.arange(rows), np.zeros(rows, np.int64)))
            further = range(phase + item["sy"], kh, item["sy"])
            windows += [(np.array([y + item["sy"] * (rows - 1)]), np.zeros(1, np.int64)) for y in further]
    captured, times, spare = -kw, [], []
    for loaded, _ in reversed(windows):
        captured -= max(len(loaded), kw)  # of the window before, from when on lines are loaded
        times.append(captured + np.arange(len(loaded)))
        spare.append(np.append(np.full(len(loaded) - 1, NO_MATTER), max(kw - len(loaded), 0)))
    lines, channels = (np.concatenate(part) for part in zip(*windows, strict=True))
    return _Pattern(
        np.concatenate(times[::-1]), channels, lines, np.full(len(lines), left), np.concatenate(spare[::-1])
    )
