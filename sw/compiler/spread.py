"""Kernels whose input and result are packed differently: one EXEC per piece of lines that lie alike in both.

A kernel that reads a plain tensor, or another packing than it writes, runs segment by segment: every EXEC makes some
lines of one segment of the result, from lines around one segment of the input.  Strided layers need no plain copy in
front of them then and no packed one behind, row filters may reach beyond the gap between segments, and a copy from
layout to layout is the kernel that changes nothing else.

Pixels of the result that belong to no image line hold nothing in particular (a copy's hold the zero point).  Those
between segments are written; lines of the last segment behind the image's last one only if the caller wants them, since
a layer that computes them takes longer.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC, Mode, ResidualOp, Target
from hw.spec.packing import Packing
from sw.compiler.cost import Extent, exec_cycles
from sw.compiler.lower import Kernel
from sw.compiler.steps import Span, Step

__all__ = ["Piece", "kernel_cycles", "pieces", "spread_problem", "spread_steps"]

_FIELD = {field.name: field for field in EXEC.fields}

_FOLDS = 2
"""Segments to either side in which `fold` finds lines."""


@dataclass(frozen=True)
class Piece:
    """What one EXEC of a spread kernel reads and writes of every channel.

    Parameters
    ----------
    target, out_pitch, out_w, out_h
        First byte of the result within its plane, and its shape.
    source, in_pitch, in_w, in_h
        The same of the input.
    pad_y, pad_x, seg
        As in isa.EXEC; `seg` is not 0 where lines beyond the segment's are found by `fold`.
    """

    target: int
    out_pitch: int
    out_w: int
    out_h: int
    source: int
    in_pitch: int
    in_w: int
    in_h: int
    pad_y: int
    pad_x: int
    seg: int = 0


def pieces(kernel: Kernel, *, whole: bool = False) -> list[Piece]:
    """Return the EXECs of a spread kernel, with lines behind the image's last one if the `whole` plane is wanted."""
    return [_reading(kernel, first, run) for first, run in _parts(kernel, whole)]


def _parts(kernel: Kernel, whole: bool) -> list[tuple[int, _Run]]:
    """Return what each EXEC makes, with the number of its first image line."""
    assert kernel.spread
    return [part for start, run in _runs(kernel, whole) for part in _within_segments(kernel, start, run)]


@dataclass(frozen=True)
class _Run:
    """Image lines that follow each other at `pitch` bytes in the result, written `width` pixels wide."""

    target: int
    pitch: int
    width: int
    count: int

    def part(self, start: int, stop: int) -> _Run:
        """Return the lines `start` to `stop` - 1."""
        return _Run(self.target + start * self.pitch, self.pitch, self.width, stop - start)


def _runs(kernel: Kernel, whole: bool) -> list[tuple[int, _Run]]:
    """Return what makes up the result, with the number of the first image line of each."""
    packing = kernel.packing
    if packing is None:
        _, height, width = kernel.map_shape
        return [(0, _Run(0, width, width, height))]
    # The last segment has no gap behind it.
    last = packing.segments - 1
    if packing.lines == 1:
        runs = [
            (0, _Run(0, packing.pitch, packing.pitch, last)),
            (last, _Run(last * packing.pitch, packing.pitch, packing.image_width, 1)),
        ]
        return [(start, run) for start, run in runs if run.count]
    # readers of a copy may mind what lies there
    missing = 0 if whole or kernel.relayout else packing.missing
    shapes = [(packing.pitch, packing.lines)] * last + [(packing.image_width, packing.lines - missing)]
    return [
        (segment * packing.lines, _Run(segment * packing.pitch, packing.width, *shape))
        for segment, shape in enumerate(shapes)
    ]


def _within_segments(kernel: Kernel, start: int, run: _Run) -> list[tuple[int, _Run]]:
    """Cut a run into as few parts as can be, so that an EXEC finds all lines that a part needs."""
    if kernel.source_packing is None:
        return [(start, run)]
    parts, first = [], 0
    for stop in range(1, run.count + 1):
        if stop == run.count or _problem(kernel, start + first, run.part(first, stop + 1)) is not None:
            parts.append((start + first, run.part(first, stop)))
            first = stop
    return parts


def _segments(kernel: Kernel, packing: Packing, first: int, count: int) -> tuple[int, int]:
    """Return the first and the last segment of the input in which lines lie that some output lines need."""
    (kh, _), (sy, _), (pad_y, _) = kernel.kernel, kernel.stride, kernel.pad
    top = first * sy - pad_y
    low, high = (min(max(line, 0), packing.image_height - 1) for line in (top, top + (count - 1) * sy + kh - 1))
    return low // packing.lines, high // packing.lines


def _reading(kernel: Kernel, first: int, run: _Run) -> Piece:
    packing = kernel.source_packing
    (kh, _), (sy, _), (pad_y, pad_x) = kernel.kernel, kernel.stride, kernel.pad
    top = first * sy - pad_y  # image line under the first tap
    piece = functools.partial(Piece, run.target, run.pitch, run.width, run.count)
    if packing is None:
        _, height, width = kernel.source.shape
        low = min(max(top, 0), height)
        high = min(max(top + (run.count - 1) * sy + kh, low), height)
        return piece(low * width, width, width, high - low, low - top, pad_x)
    low, high = _segments(kernel, packing, first, run.count)
    if kh == 1:
        # the bounds of the segment are the image's: whatever lies between segments is not read
        lines = min(packing.lines, packing.image_height - low * packing.lines)
        return piece(low * packing.pitch, packing.width, packing.image_width, lines, low * packing.lines - top, pad_x)
    # from the first segment on, seen from one with two others at most on either side
    home = max(low, high - _FOLDS)
    source, left = low * packing.pitch, pad_x - (home - low) * packing.pitch
    top -= home * packing.lines
    return piece(source, packing.width, packing.width - source, packing.lines, -top, left, packing.pitch)


def _problem(kernel: Kernel, first: int, run: _Run) -> str | None:
    """Return why no single EXEC makes some lines, or None."""
    if (packing := kernel.source_packing) is not None:
        low, high = _segments(kernel, packing, first, run.count)
        if high - low > (2 * _FOLDS if kernel.kernel[0] > 1 else 0):
            return "its windows reach farther than two segments"
    piece = _reading(kernel, first, run)
    for name in ("pad_y", "pad_x", "seg"):
        if not _FIELD[name].minimum <= getattr(piece, name) <= _FIELD[name].maximum:
            return f"{name}={getattr(piece, name)} does not fit its field"
    return None


def spread_problem(kernel: Kernel) -> str | None:
    """Return why a kernel cannot run spread, or None: what it reads lies too far away, or fields are too short."""
    if kernel.pool is not None or kernel.mode == Mode.MAX:
        return "it pools"
    packing, (kh, kw) = kernel.source_packing, kernel.kernel
    if packing is not None and kh > 1:
        reach = max(kernel.pad[1], kw - 1 - kernel.pad[1])
        if kernel.mode not in (Mode.STOS_CH, Mode.STOS_LN) or reach > packing.gap and kw > 1:
            return "it reads lines above and below that are not beside"
    return next((found for first, run in _parts(kernel, True) if (found := _problem(kernel, first, run))), None)


def kernel_cycles(config: AcceleratorConfig, kernel: Kernel, cout: int, lines: int) -> int:
    """Estimate the cycles of a kernel over `cout` channels and `lines` lines (all of them if it is spread)."""
    cin = kernel.source.shape[0]
    if kernel.spread:
        extents = [Extent(cin, cout, one.out_h, one.out_w, *kernel.kernel, *kernel.stride) for one in pieces(kernel)]
    elif (size := kernel.block(cout, config)) < config.rows:
        extents = [kernel.extent(min(size, cout - first), lines) for first in range(0, cout, size)]
    else:
        extents = [kernel.extent(cout, lines)]
    return sum(exec_cycles(config, kernel.mode, kernel.depthwise, extent) for extent in extents)


def spread_steps(kernel: Kernel, step: Step, *, whole: bool = False) -> list[Step]:
    """Cut a spread kernel's EXEC, whose addresses are those of whole planes, into its :func:`pieces`."""
    values = step.values
    added = kernel.residual_op == ResidualOp.ADD
    constants = [span for span in step.reads if span.memory != Target.ACT]
    others = [span for span in step.reads[1:] if span.memory == Target.ACT and not added]
    steps = []
    for piece in pieces(kernel, whole=whole):

        def lines(base: int, piece: Piece = piece) -> list[Span]:
            starts = (base + piece.target + line * piece.out_pitch for line in range(piece.out_h))
            return [Span(Target.ACT, start, values["cout"], values["out_cs"], piece.out_w) for start in starts]

        length = max(0, (piece.in_h - 1) * piece.in_pitch + piece.in_w)
        # where lines go on in other segments, the whole plane
        start, length = (0, kernel.source.plane) if piece.seg else (piece.source, length)
        read = Span(Target.ACT, values["in_base"] + start, values["cin"] or values["cout"], values["in_cs"], length)
        changed = {
            "in_base": values["in_base"] + piece.source,
            "in_pitch": piece.in_pitch,
            "in_w": piece.in_w,
            "in_h": piece.in_h,
            "out_base": values["out_base"] + piece.target,
            "out_pitch": piece.out_pitch,
            "out_w": piece.out_w,
            "out_h": piece.out_h,
            "pad_y": piece.pad_y,
            "pad_x": piece.pad_x,
            "seg": piece.seg,
            "fold": int(piece.seg > 0),
        }
        if added:
            changed["res_base"] = values["res_base"] + piece.target
        reads = [read, *(lines(values["res_base"]) if added else others), *constants]
        steps.append(
            Step(step.opcode, {**values, **changed}, step.layer, reads=reads, writes=lines(values["out_base"]))
        )
    return steps
