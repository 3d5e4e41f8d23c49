# amaranth: UnusedElaboratable=no
"""Running maximum against Python's, at random spacing and in consecutive cycles."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator

from hw.maximum import Maximum


@pytest.mark.parametrize(("cols", "density"), [(1, 0.5), (3, 1.0), (5, 0.7)])
def test_sequences_of_random_length(cols: int, density: float) -> None:
    rng, dut = random.Random(cols), Maximum(cols)
    want: list[list[int] | None] = [None]
    got: list[list[int] | None] = []

    async def bench(ctx) -> None:
        sequence: list[list[int]] = []
        for _ in range(600):
            pixels = [rng.choice((-128, 127, *(rng.randint(-128, 127) for _ in range(6)))) for _ in range(cols)]
            valid, last = rng.random() < density, rng.random() < 0.4
            for port, value in ((dut.valid, valid), (dut.pixels, pixels), (dut.last, last)):
                ctx.set(port, value)
            if valid:
                sequence.append(pixels)
            want.append([max(column) for column in zip(*sequence, strict=True)] if valid and last else None)
            if valid and last:
                sequence.clear()
            got.append(list(ctx.get(dut.out)) if ctx.get(dut.out_valid) else None)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert dut.LATENCY == 1
    assert got == want[:-1]
    assert len({value for row in got if row for value in row}) > 40


def test_no_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="not 0"):
        Maximum(0)
