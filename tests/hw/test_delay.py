"""Delay chains: order, views, reset."""

from __future__ import annotations

from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib import data
from amaranth.sim import Simulator

from hw.delay import delayed


def test_delays_and_reset() -> None:
    m = Module()
    m.domains.sync = domain = ClockDomain()
    layout = data.StructLayout({"a": 4, "b": 3})
    plain, view = Signal(8), Signal(layout)
    control = delayed(m, plain, 3, name="control", reset_less=False)
    carried = delayed(m, view, 2, name="carried")
    assert control[0] is plain and carried[0] is view
    assert [len(control), len(carried)] == [4, 3]
    assert carried[2].shape() == layout and delayed(m, plain, 0, name="none") == [plain]

    async def bench(ctx) -> None:
        for cycle in range(10):
            ctx.set(plain, 100 + cycle)
            ctx.set(view, {"a": cycle, "b": cycle % 8})
            for stage in range(4):
                assert ctx.get(control[stage]) == (100 + cycle - stage if cycle >= stage else 0)
            assert ctx.get(carried[2].a) == max(cycle - 2, 0)
            await ctx.tick()
        ctx.set(domain.rst, 1)
        await ctx.tick()
        assert [ctx.get(register) for register in control[1:]] == [0, 0, 0]
        assert ctx.get(carried[1].a) == 9  # data has no reset

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
