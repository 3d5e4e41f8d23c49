"""The array between shift registers: every port has its bits, and what comes out is the array's."""

from __future__ import annotations

import random

from amaranth.hdl import Cat, Module, Value
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.array import Array
from hw.soc.array_harness import ArrayHarness
from hw.spec.config import PRESETS


def test_bits_go_through_the_array() -> None:
    """Random bits into the harness, the same ones by hand into an array beside it."""
    config = PRESETS["tiny"].twin(pipeline_mac=True)
    m = Module()
    m.submodules.harness = harness = ArrayHarness(config)
    m.submodules.array = array = Array(config)
    ports = [(member.flow, Value.cast(port)) for _, member, port in array.signature.flatten(array)]
    inputs, outputs = (Cat(port for flow, port in ports if flow is kind) for kind in (In, Out))
    rng = random.Random(5)
    loaded = busy = 0

    async def bench(ctx) -> None:
        nonlocal loaded, busy
        chain, taken = 0, 0  # the chain's last bit says whether outputs are taken
        width = len(inputs)
        for _ in range(6 * width):
            ctx.set(inputs, chain & (1 << width) - 1)
            bit = rng.random() < 0.3
            ctx.set(harness.rx, bit)
            out, valid = ctx.get(outputs), ctx.get(array.out_valid)
            load = chain >> width
            loaded, busy = loaded + load, busy + valid
            taken = out if load else taken >> 1
            chain = (chain << 1 | bit) & (1 << width + 1) - 1
            await ctx.tick()
            assert ctx.get(harness.tx) == taken & 1
            assert ctx.get(harness.active) == valid
            assert not ctx.get(harness.irq) and not ctx.get(harness.link_error)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert loaded > 100 and busy > 100
