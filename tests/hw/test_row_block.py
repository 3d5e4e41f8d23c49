"""Blocks of rows cover the array with at most two shapes; triangular shift registers delay entry i by i cycles."""

import random

import pytest
from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.row_block import block_sizes
from hw.skew import skewed


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 16, 17, 64, 255, 256])
def test_blocks_cover_the_rows(rows: int) -> None:
    sizes = block_sizes(rows)
    assert sum(sizes) == rows and min(sizes) > 0
    assert len(set(sizes)) <= 2 and len(sizes) <= rows**0.5 + 1


class Triangle(wiring.Component):
    """Four signed bytes, entry i delayed by i cycles."""

    i: In(32)
    o: Out(32)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        values = [Signal(signed(8), name=f"value{index}") for index in range(4)]
        m.d.comb += [value.eq(self.i.word_select(index, 8)) for index, value in enumerate(values)]
        m.d.comb += self.o.eq(Cat(skewed(m, values, name="skew")))
        return m


def test_entry_i_comes_i_cycles_late() -> None:
    dut = Triangle()
    rng = random.Random(5)
    words = [rng.getrandbits(32) for _ in range(40)]

    async def bench(ctx) -> None:
        for cycle, word in enumerate(words):
            ctx.set(dut.i, word)
            got = ctx.get(dut.o)
            for index in range(min(4, cycle + 1)):
                assert got >> 8 * index & 0xFF == words[cycle - index] >> 8 * index & 0xFF
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
