"""Arrival: the first EXEC begins when a few lines of its input are there, not when all are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from hw.spec.isa import Mode, Opcode, ResidualOp, Target
from sw.compiler.steps import Span, Step

__all__ = ["split_first"]

_FIRST = 2
"""Output lines of the first piece.  Each further one has twice as many: computing takes longer than loading."""

Lines = tuple[int, int]


def split_first(steps: Sequence[Step]) -> list[Step]:
    """Return the steps with the program's first EXEC, and the load of its input, in pieces of lines.

    Nothing else can run meanwhile.  The steps stay as they are if they have another form: the first EXEC must walk
    lines (no joined or packed ones, no STOS_LN), have one operand and no pooling, and read what one LOAD brings.
    """
    first = next((index for index, step in enumerate(steps) if step.opcode == Opcode.EXEC), None)
    if first is None or not _by_lines(steps[first]):
        return list(steps)
    source = next(span for span in steps[first].reads if span.memory == Target.ACT)
    loads = [i for i in range(first) if any(span.overlaps(source) for span in steps[i].writes)]
    if len(loads) != 1 or (total := _lines_loaded(steps[loads[0]], steps[first])) is None:
        return list(steps)
    load, run = steps[loads[0]], steps[first]
    pieces: list[Step] = []
    loaded = 0
    for start, stop in _pieces(run["out_h"]):
        lines = _input_lines(run, start, stop)
        if lines[1] > loaded:
            pieces.append(_load_lines(load, run, (loaded, lines[1])))
            loaded = lines[1]
        pieces.append(_exec_lines(run, (start, stop), lines))
    if loaded < total:
        pieces.append(_load_lines(load, run, (loaded, total)))
    return [*steps[: loads[0]], *steps[loads[0] + 1 : first], *pieces, *steps[first + 1 :]]


def _by_lines(run: Step) -> bool:
    plain = not (run["gap"] or run["seg"] or run["fold"]) and run["res"] == ResidualOp.NONE
    # a relayout's lines lie apart: a span each
    return plain and run["mode"] != Mode.STOS_LN and run["out_h"] > _FIRST and len(run.writes) == 1


def _lines_loaded(load: Step, run: Step) -> int | None:
    """Return how many lines of the EXEC's input a LOAD brings; None if it does not bring whole channels of them."""
    pitch, channels = run["in_pitch"], run["cin"] or run["cout"]
    if load["mem_addr"] != run["in_base"] or run["in_cs"] % pitch:
        return None
    if load["rows"] == 1 and load["row_bytes"] == channels * run["in_cs"]:
        return run["in_cs"] // pitch
    if load["rows"] == channels and load["mem_stride"] == run["in_cs"] and load["row_bytes"] % pitch == 0:
        return load["row_bytes"] // pitch
    return None


def _pieces(lines: int) -> list[Lines]:
    stops, height = [0], _FIRST
    while lines - stops[-1] >= 2 * height:
        stops.append(stops[-1] + height)
        height *= 2
    return [*itertools.pairwise(stops), (stops[-1], lines)]


def _input_lines(run: Step, start: int, stop: int) -> Lines:
    """Return the input lines (first, stop) that output lines `start` to `stop` - 1 read."""
    first = start * run["sy"] - run["pad_y"]
    last = (stop - 1) * run["sy"] - run["pad_y"] + run["kh"]
    first = min(max(first, 0), run["in_h"])
    return first, min(max(last, first), run["in_h"])


def _load_lines(load: Step, run: Step, lines: Lines) -> Step:
    rows, pitch = run["cin"] or run["cout"], run["in_pitch"]
    skipped, length = lines[0] * pitch, (lines[1] - lines[0]) * pitch
    stride = load["dram_stride"] if load["rows"] > 1 else run["in_cs"]
    values = {
        **load.values,
        "dram_offset": load["dram_offset"] + skipped,
        "mem_addr": load["mem_addr"] + skipped,
        "rows": rows,
        "row_bytes": length,
        "dram_stride": stride,
        "mem_stride": run["in_cs"],
    }
    (home,), (chip,) = load.reads, load.writes
    reads = [Span(home.memory, home.base + skipped, rows, stride, length)]
    writes = [Span(chip.memory, chip.base + skipped, rows, run["in_cs"], length)]
    return replace(load, values=values, reads=reads, writes=writes)


def _exec_lines(run: Step, lines: Lines, read: Lines) -> Step:
    (written,) = run.writes
    values = {
        **run.values,
        "in_base": run["in_base"] + read[0] * run["in_pitch"],
        "in_h": read[1] - read[0],
        "out_base": run["out_base"] + lines[0] * run["out_pitch"],
        "out_h": lines[1] - lines[0],
        "pad_y": run["pad_y"] - lines[0] * run["sy"] + read[0],
    }

    def cut(span: Span) -> Span:
        if span.memory != Target.ACT:
            return span
        return replace(span, base=values["in_base"], length=(read[1] - read[0]) * run["in_pitch"])

    end = replace(written, base=values["out_base"], length=(lines[1] - lines[0]) * run["out_pitch"])
    return replace(run, values=values, reads=[cut(span) for span in run.reads], writes=[end])
