"""Lane ranges against counting lanes, for every small line, position and array."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator

from hw.window import X_WIDTH, lane_range


def expected(x: int, width: int, valid: int, first: int, count: int) -> tuple[int, int]:
    inside = [first + i for i in range(count) if valid and 0 <= x + i < width]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


@pytest.mark.parametrize(("first", "count"), [(0, 1), (0, 4), (2, 3), (3, 5)])
def test_every_small_window(first: int, count: int) -> None:
    m = Module()
    x, width, valid = Signal(signed(X_WIDTH)), Signal(20), Signal()
    lo, hi = lane_range(m, x, width, valid, first=first, count=count)
    far = (1 << 20) - 1  # the longest line a field can name
    cases = [(p, w, v) for v in (1, 0) for w in range(count + 3) for p in range(-count - 2, count + 5)]
    cases += [(p, far, 1) for p in (-31, -1, 0, far - count - 1, far - 1, far, far + count)]

    async def bench(ctx) -> None:
        for case in cases:
            for signal, value in zip((x, width, valid), case, strict=True):
                ctx.set(signal, value)
            got = (ctx.get(lo), ctx.get(hi))
            assert got == expected(*case, first, count), case

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
