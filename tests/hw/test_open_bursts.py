"""The bursts under way: in order, none lost, as many as named."""

from __future__ import annotations

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from hw.open_bursts import OpenBursts


@pytest.mark.parametrize("depth", [2, 3, 8])
@pytest.mark.parametrize(("write", "read"), [(1.0, 0.3), (0.3, 1.0), (0.7, 0.7), (1.0, 1.0)])
def test_every_burst_in_order(depth: int, write: float, read: float) -> None:
    dut = OpenBursts(16, depth)
    rng = random.Random(depth)
    held: deque[int] = deque()
    most = taken = 0

    async def bench(ctx) -> None:
        nonlocal most, taken
        for _ in range(300):
            value = rng.randrange(1 << 16)
            w_en, r_en = rng.random() < write, rng.random() < read
            ctx.set(dut.w_data, value)
            ctx.set(dut.w_en, w_en)
            ctx.set(dut.r_en, r_en)
            assert ctx.get(dut.empty) == (not held)
            if ctx.get(dut.r_rdy):
                assert ctx.get(dut.r_data) == held[0]
            put, got = w_en and ctx.get(dut.w_rdy), r_en and ctx.get(dut.r_rdy)
            if got:
                held.popleft()
                taken += 1
            if put:
                held.append(value)
            most = max(most, len(held))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert taken > 60
    assert most <= depth
    if write == 1.0 and read < 1.0:
        assert most == depth


def test_back_to_back() -> None:
    """One burst per cycle, 3 cycles after it came."""
    dut = OpenBursts(8, 8)
    seen = []

    async def bench(ctx) -> None:
        ctx.set(dut.r_en, 1)
        for cycle in range(30):
            ctx.set(dut.w_en, cycle < 20)
            ctx.set(dut.w_data, cycle)
            if ctx.get(dut.r_rdy):
                seen.append((cycle, ctx.get(dut.r_data)))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [(value + 3, value) for value in range(20)]
