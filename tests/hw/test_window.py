"""Ranges of bytes against looking at each, for every small line, position, stride and array."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator

from hw.window import X_WIDTH, byte_range, pixel_bounds


def expected(x: int, width: int, valid: int, used: dict[int, int]) -> tuple[int, int]:
    """Of the bytes in use, given with the pixel each has if the first has pixel 0."""
    inside = [byte for byte, pixel in used.items() if valid and 0 <= x + pixel < width]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


@pytest.mark.parametrize(
    ("first", "count", "columns"), [(0, 1, 1), (0, 1, 2), (0, 4, 4), (0, 7, 3), (2, 3, 3), (3, 5, 5), (6, 3, 3)]
)
def test_every_small_window(first: int, count: int, columns: int) -> None:
    m = Module()
    x, width, valid, strided = Signal(signed(X_WIDTH)), Signal(20), Signal(), Signal()
    bounds = pixel_bounds(m, x, width, strided)
    read = max(first + count, 2 * columns - 1)
    lo, hi = byte_range(m, *bounds, valid, strided, first=first, count=count, columns=columns, span=read)
    uses = [{first + i: i for i in range(count)}, {i: i for i in range(0, 2 * columns, 2)}]
    far = (1 << 20) - 1  # the longest line a field can name

    async def bench(ctx) -> None:
        for stride, used in enumerate(uses):
            span = max(used.values()) + 1
            cases = [(p, w, v) for v in (1, 0) for w in range(span + 3) for p in range(-span - 2, span + 5)]
            cases += [(p, far, 1) for p in (-31, -1, 0, far - span - 1, far - span, far - 2, far - 1, far, far + span)]
            cases += [(2 * far, far, 1)]
            ctx.set(strided, stride)
            for case in cases:
                for signal, value in zip((x, width, valid), case, strict=True):
                    ctx.set(signal, value)
                got = (ctx.get(lo), ctx.get(hi))
                assert got == expected(*case, used), (stride, case)

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
