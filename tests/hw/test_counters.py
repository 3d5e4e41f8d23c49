"""Performance counters against a model, and that every unit event has its counter."""

from __future__ import annotations

import random
from typing import Any

from hw.counters import EVENTS, INCREMENTS, PerformanceCounters
from hw.spec.csr import Counter
from hw.spec.isa import Queue
from tests.hw.control_bench import simulate


def test_counts_what_is_enabled() -> None:
    dut = PerformanceCounters()
    rng = random.Random(1)

    async def bench(ctx: Any) -> None:
        totals = dict.fromkeys(Counter, 0)
        for _ in range(300):
            enable = rng.random() < 0.7
            ctx.set(dut.enable, enable)
            for counter in Counter:
                step = rng.getrandbits(INCREMENTS[counter.name].width)
                ctx.set(dut.increments[counter.name], step)
                totals[counter] += step * enable
            await ctx.tick()
        ctx.set(dut.enable, 0)
        await ctx.tick().repeat(2)
        assert {counter: ctx.get(dut.values[counter]) for counter in Counter} == totals
        ctx.set(dut.enable, 1)
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        ctx.set(dut.enable, 0)
        await ctx.tick().repeat(3)
        assert all(ctx.get(dut.values[counter]) == 0 for counter in Counter)

    simulate(dut, bench)


def test_every_event_has_a_counter() -> None:
    names = {f"{queue.name}_{event.upper()}" for queue, layout in EVENTS.items() for event, _ in layout}
    others = {"CYCLES", "INSTRUCTIONS", "FETCH_DRAM", *(f"{queue.name}_TOKEN" for queue in Queue)}
    assert names | others == {counter.name for counter in Counter}
