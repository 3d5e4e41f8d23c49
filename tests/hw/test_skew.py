"""The skew delays lane i of a vector by i cycles."""

import random

import pytest
from amaranth.sim import Simulator

from hw.skew import Skew


@pytest.mark.parametrize(("lanes", "width"), [(2, 8), (4, 8), (7, 3), (12, 32)])
def test_lane_i_comes_i_cycles_late(lanes: int, width: int) -> None:
    dut = Skew(lanes, width)
    rng = random.Random(5)
    words = [rng.getrandbits(lanes * width) for _ in range(40)]

    async def bench(ctx) -> None:
        for cycle, word in enumerate(words):
            ctx.set(dut.i, word)
            got = ctx.get(dut.o)
            for lane in range(min(lanes, cycle + 1)):
                shift, mask = width * lane, (1 << width) - 1
                assert got >> shift & mask == words[cycle - lane] >> shift & mask
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
