"""Kernels between layouts: what their pieces read and write, when they are taken, and that the bytes stay the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Mode, Opcode
from hw.spec.packing import Packing
from hw.spec.program import Program
from sw.compiler import optimise
from sw.compiler.ir import Graph
from sw.compiler.lower import Kernel, lower
from sw.compiler.packing import pack
from sw.compiler.spread import Piece, kernel_cycles, pieces, spread_problem
from tests.sw.compiled import check
from tests.sw.ir_graphs import Builder
from tests.sw.packed_networks import block

_SMALL = {"act_kib": 256, "act_banks": 2, "weight_kib": 64, "param_entries": 256, "axi_data_width": 64}
WIDE = AcceleratorConfig(rows=8, cols=32, **_SMALL)

FOURTEEN = Packing(14, 14, 15, 2)  # 7 lines of 2 segments
SEVEN = Packing(7, 7, 8, 4)  # 2 lines of 4 segments, one line missing
FLAT = Packing(7, 7, 9, 7)  # a line


def filters(kernel: tuple[int, int], size: int, stride: int) -> Kernel:
    """Return a plain depthwise layer with 5 channels."""
    build = Builder(0)
    graph = build.graph(build.conv(build.input((5, size, size)), 0, kernel, (stride, stride), depthwise=True))
    (found,) = lower(optimise(graph, WIDE), WIDE)[0]
    return found


def spread(kernel: Kernel, source: Packing | None, target: Packing | None) -> Kernel:
    view, (cout, *plane) = kernel.source, kernel.map_shape
    if source is not None:
        view = replace(view, shape=(view.shape[0], source.lines, source.width))
    if target is not None:
        plane = [target.lines, target.width]
    return replace(
        kernel,
        source=view,
        map_shape=(cout, plane[0], plane[1]),
        packing=target,
        spread=True,
        source_packing=source,
    )


def execs(program: Program, kind: str) -> list[dict[str, int]]:
    stream = program.instructions()
    found = [stream[pc] for layer in program.layers if layer.kind == kind for pc in layer.instructions]
    return [i.values for i in found if i.opcode == Opcode.EXEC]


def pixels(kernel: Kernel, *, whole: bool) -> np.ndarray:
    """Return how often every byte of a plane of the result is written."""
    cout, height, width = kernel.map_shape
    written = np.zeros(height * width, int)
    for piece in pieces(kernel, whole=whole):
        for line in range(piece.out_h):
            start = piece.target + line * piece.out_pitch
            written[start : start + piece.out_w] += 1
    return written


def image_pixels(packing: Packing) -> np.ndarray:
    """Return which bytes of a plane are of the image."""
    ones = np.ones((1, packing.image_height, packing.image_width), np.int8)
    return packing.pack(ones, 0).reshape(-1) == 1


@pytest.mark.parametrize("source", [None, FOURTEEN])
@pytest.mark.parametrize("target", [None, SEVEN, FLAT])
@pytest.mark.parametrize("kernel", [(1, 3), (3, 1), (5, 1), (3, 3)])
def test_pieces_write_every_byte_of_a_plane_once(
    source: Packing | None, target: Packing | None, kernel: tuple[int, int]
) -> None:
    if source is target is None:
        return
    made = spread(filters(kernel, 14, 2), source, target)
    assert spread_problem(made) is None
    assert (pixels(made, whole=True) == 1).all()
    written = pixels(made, whole=False)
    assert written.max() == 1 and (target is None or written[image_pixels(target)].all())
    # one line of SEVEN is missing: not computed, so the layer is quicker
    missing = np.flatnonzero(written == 0)
    assert list(missing) == (list(range(31 + 24, 31 + 31)) if target is SEVEN else [])


def test_a_copy_writes_lines_that_are_missing() -> None:
    """Its readers may look there for the zero point."""
    kernel = replace(filters((1, 1), 7, 1), kind="relayout")
    assert (pixels(spread(kernel, None, SEVEN), whole=False) == 1).all()


def test_a_strided_column_filter_from_one_packing_to_another() -> None:
    """Lines 2 and 3 of the result need line 7, which is below segment 0; lines 4 and 5 need segment 1 alone."""
    made = spread(filters((3, 1), 14, 2), FOURTEEN, SEVEN)
    first, second, *_ = pieces(made)
    assert first == Piece(
        target=0,
        out_pitch=31,
        out_w=8,
        out_h=2,
        source=0,
        in_pitch=29,
        in_w=29,
        in_h=7,
        pad_y=1,
        pad_x=0,
        seg=15,
    )
    assert (second.target, second.source, second.pad_y, second.pad_x) == (8, 0, 1 - 4, 0)
    third = next(piece for piece in pieces(made) if piece.target == 16)
    assert (third.source, third.in_w, third.pad_y, third.pad_x) == (15, 14, 0, 0)


def test_a_column_filter_over_four_segments_is_one_instruction() -> None:
    """14 lines in four segments of four: all of them are within two segments of segment 1."""
    (piece,) = pieces(spread(filters((3, 1), 14, 2), Packing(14, 14, 15, 4), None))
    assert (piece.out_h, piece.source, piece.in_w, piece.in_h) == (7, 0, 59, 4)
    assert (piece.pad_y, piece.pad_x, piece.seg) == (1 + 4, -15, 15)


def test_a_row_filter_stays_within_its_segment() -> None:
    """Five taps reach two pixels beyond a segment, the gap is one wide: the segment's ends are the input's."""
    made = spread(filters((1, 5), 7, 1), SEVEN, SEVEN)
    assert spread_problem(made) is None
    assert [(p.source, p.in_w, p.in_h, p.seg) for p in pieces(made)] == [
        (0, 7, 2, 0),
        (8, 7, 2, 0),
        (16, 7, 2, 0),
        (24, 7, 1, 0),
    ]


def test_what_cannot_be_spread() -> None:
    assert spread_problem(spread(filters((7, 1), 7, 1), Packing(7, 7, 8, 4), None)) is None  # 3 lines, 4 beside
    assert spread_problem(spread(filters((7, 1), 7, 1), Packing(7, 7, 8, 7), None)) is not None  # 2 beside
    square = spread(filters((5, 5), 14, 2), FOURTEEN, None)
    assert spread_problem(square) is not None  # wider than the gap
    assert spread_problem(replace(spread(filters((3, 1), 14, 2), FOURTEEN, None), mode=Mode.GEMM)) is not None
    far = Packing(40, 40, 41, 20)
    assert "pad_x" in str(spread_problem(spread(filters((7, 1), 40, 2), far, None)))
    assert spread_problem(spread(filters((1, 3), 40, 2), far, None)) is None


def strided(build: Builder, kernel: int = 3, *, exposed: bool = False) -> Graph:
    """14x14 blocks, a strided one, 7x7 blocks."""
    x = block(build, build.input((6, 14, 14)), 3, hidden=40)
    x = block(build, x, 3, hidden=40)
    x = build.conv(x, 40)
    x = build.fuse(x, kernel, (2, 2))
    if exposed:
        x = build.fuse(x, 3)
    x = build.conv(x, 12)
    x = block(build, block(build, x, 3, hidden=40), 3, hidden=40)
    return build.graph(build.linear(build.pool(x), 9))


def test_strided_layers_need_no_copies() -> None:
    build = Builder(3)
    program = check(strided(build), WIDE, build.values())
    copied = [layer.output_shape[0] for layer in program.layers if layer.kind == "relayout"]
    assert max(copied, default=0) <= 12  # not the 40 channels around the strided layer
    columns = [i for i in execs(program, "fuse_col") if i.get("sx") == 2]
    assert columns and all(i["fold"] and not i.get("seg_gap") and i["seg"] >= 15 for i in columns)


def test_filters_that_need_gaps_have_them() -> None:
    """Behind the strided layer comes one that reads across the segments, so that one writes zero points or plain."""
    build = Builder(4)
    graph = optimise(strided(build, exposed=True), WIDE)
    for kernel in pack(graph, *lower(graph, WIDE), WIDE).kernels:
        if kernel.spread and kernel.packing is not None and not kernel.relayout:
            readers = [k for k in graph.ops if getattr(k, "input", None) == kernel.target.storage]
            assert all(op.kernel == (1, 1) for op in readers if hasattr(op, "kernel"))
    check(strided(Builder(4), exposed=True), WIDE, build.values())


def test_cycles_are_the_sum_of_the_pieces() -> None:
    kernel = filters((3, 1), 14, 2)
    made = spread(kernel, FOURTEEN, SEVEN)
    assert kernel_cycles(WIDE, made, 5, 2) > kernel_cycles(WIDE, kernel, 5, 7) > 0
