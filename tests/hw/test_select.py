"""Selection by index and thermometer codes, every input."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from hw.select import lanes_below, select


@pytest.mark.parametrize("entries", [1, 2, 5, 8])
def test_select(entries: int) -> None:
    m = Module()
    index, values = Signal(range(entries)), [Signal(8, init=100 + entry) for entry in range(entries)]
    chosen = Signal(8)
    m.d.comb += chosen.eq(select(index, values))

    async def bench(ctx) -> None:
        for entry in range(entries):
            ctx.set(index, entry)
            assert ctx.get(chosen) == 100 + entry

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("lanes", [1, 2, 5, 7, 8, 13])
@pytest.mark.parametrize("spare", [0, 1])
def test_lanes_below(lanes: int, spare: int) -> None:
    m = Module()
    bound, code = Signal(lanes.bit_length() + spare), Signal(lanes)
    below = lanes_below(m, bound, lanes, name="below")
    assert len(below) == lanes
    m.d.comb += code.eq(below)

    async def bench(ctx) -> None:
        for value in range(1 << len(bound)):
            ctx.set(bound, value)
            assert ctx.get(code) == (1 << min(value, lanes)) - 1

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
