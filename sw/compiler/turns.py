"""Turns: EXECs cut in two so that the next one computes while the last results of the one before it drain.

An EXEC that reads what the one before it writes waits until that one's last row has been written, about
``2*rows + cols`` cycles.  Cut in two, ``a b`` becomes ``a1 a2 b1 b2``, where b1 reads only what a1 writes and b2 only
what has been written when b1's steps are through: all of them overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Mode, Opcode, ResidualOp, Target
from sw.compiler.cost import Extent, exec_cycles
from sw.compiler.steps import Span, Step

__all__ = ["take_turns"]

_PIPELINE = 24
"""Cycles from a row's leaving the array until it can be read, and then to the next step."""


@dataclass(frozen=True)
class _Walk:
    """Along what an EXEC can be cut: `total` pixels, or lines, at multiples of `unit`."""

    total: int
    unit: int
    pixels: bool


def take_turns(steps: Sequence[Step], config: AcceleratorConfig) -> list[Step]:
    """Return the steps with neighbouring EXECs cut where the second one then need not wait for the first.

    Pointwise layers are cut along their pixels, or between packed lines, and row convolutions between lines.
    """
    result: list[Step] = []
    last: int | None = None  # the EXEC before, in result
    for step in steps:
        if step.opcode == Opcode.EXEC:
            pieces = [step]
            if last is not None and _waits(result[last], step):
                found = _cut_pair(result[last], step, config)
                if found is not None:
                    before, pieces = found
                    result[last : last + 1] = before
            result += pieces
            last = len(result) - 1
        else:
            result.append(step)
    return result


def _waits(before: Step, step: Step) -> bool:
    return any(written.overlaps(read) for written in before.writes for read in step.reads)


def _cut_pair(before: Step, step: Step, config: AcceleratorConfig) -> tuple[list[Step], list[Step]] | None:
    """Return both EXECs in two pieces each, or None if no cut serves: the pieces between must hide the drain."""
    walks = _walk(before, config), _walk(step, config)
    if walks[0] is None or walks[1] is None:
        return None
    drain = 2 * config.rows + config.cols + _PIPELINE
    for stop in _middle_first(walks[0]):
        first, second = _cut(before, walks[0], stop)
        if _cycles(second, config) < drain:
            continue
        for start in _middle_first(walks[1]):
            third, fourth = _cut(step, walks[1], start)
            if _cycles(third, config) >= drain and not _waits(second, third):
                return [first, second], [third, fourth]
    return None


def _walk(step: Step, config: AcceleratorConfig) -> _Walk | None:
    """Return how an EXEC can be cut, None if it cannot."""
    if step["gap"] or step["fold"] or step["pad_y"] or step["kh"] != 1 or len(step.writes) != 1:
        return None
    if step["mode"] == Mode.GEMM and not step["depthwise"] and step["out_h"] == 1:
        joined = step["kw"] == step["sx"] == 1 and not step["pad_x"] and step["in_w"] == step["out_w"]
        return _Walk(step["out_w"], config.cols, pixels=True) if joined and not step["seg"] else None
    if step["mode"] in (Mode.GEMM, Mode.STOS_CH) and step["out_h"] > 1:
        return _Walk(step["out_h"], 1, pixels=False)
    return None


def _middle_first(walk: _Walk) -> Iterator[int]:
    """Return the places to cut at, the middle first."""
    places = range(walk.unit, walk.total, walk.unit)
    return iter(sorted(places, key=lambda place: abs(2 * place - walk.total)))


def _cut(step: Step, walk: _Walk, at: int) -> tuple[Step, Step]:
    return _piece(step, walk, 0, at), _piece(step, walk, at, walk.total)


def _piece(step: Step, walk: _Walk, start: int, stop: int) -> Step:
    """Return output pixels (lines) `start` to `stop` - 1 of an EXEC."""
    values = dict(step.values)
    if walk.pixels:
        read, written = (start, stop - start), (start, stop - start)
        values |= {"in_w": stop - start, "in_pitch": stop - start, "out_w": stop - start, "out_pitch": stop - start}
    else:
        lines = (stop - 1) * step["sy"] + 1 - start * step["sy"]
        read = start * step["sy"] * step["in_pitch"], lines * step["in_pitch"]
        written = start * step["out_pitch"], (stop - start) * step["out_pitch"]
        missing = max(0, stop - max(start, step["out_h"] - step["seg_missing"]))
        values |= {"in_h": lines, "out_h": stop - start}
        if step["seg"]:
            values["seg_missing"] = missing
    added = step["res"] == ResidualOp.ADD
    values["in_base"] = step["in_base"] + read[0]
    values["out_base"] = step["out_base"] + written[0]
    if added:
        values["res_base"] = step["res_base"] + written[0]

    def moved(span: Span) -> Span:
        if span.memory != Target.ACT:
            return span
        if span.base == step["in_base"] and span.stride == step["in_cs"]:
            return replace(span, base=span.base + read[0], length=min(read[1], span.length - read[0]))
        if added and span.base == step["res_base"]:
            return replace(span, base=span.base + written[0], length=min(written[1], span.length - written[0]))
        return span

    (out,) = step.writes
    end = replace(out, base=out.base + written[0], length=min(written[1], out.length - written[0]))
    return replace(step, values=values, reads=[moved(span) for span in step.reads], writes=[end])


def _cycles(step: Step, config: AcceleratorConfig) -> int:
    extent = Extent(*(step[name] for name in ("cin", "cout", "out_h", "out_w", "kh", "kw", "sy", "sx")))
    return exec_cycles(config, Mode(step["mode"]), bool(step["depthwise"]), extent)
