# amaranth: UnusedElaboratable=no
"""Rotators against list rotation, all amounts."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator

from hw.rotator import RotateLeft, RotateRight

SHAPES = [(2, 1), (2, 2), (16, 4), (16, 10), (16, 16), (32, 22), (64, 5)]


@pytest.mark.parametrize(("count", "lanes"), SHAPES)
def test_rotate_right(count: int, lanes: int) -> None:
    rng = random.Random(count * 100 + lanes)
    dut = RotateRight(8, count, lanes)

    async def bench(ctx) -> None:
        for amount in range(count):
            line = [rng.randrange(256) for _ in range(count)]
            ctx.set(dut.line, line)
            ctx.set(dut.amount, amount)
            assert list(ctx.get(dut.lanes)) == [line[(amount + i) % count] for i in range(lanes)]

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(("count", "lanes"), SHAPES)
def test_rotate_left(count: int, lanes: int) -> None:
    rng = random.Random(count * 100 + lanes)
    dut = RotateLeft(8, count, lanes)

    async def bench(ctx) -> None:
        for amount in range(count):
            values = [rng.randrange(256) for _ in range(lanes)]
            mask = [rng.randrange(2) for _ in range(lanes)]
            ctx.set(dut.lanes, values)
            ctx.set(dut.mask, sum(bit << i for i, bit in enumerate(mask)))
            ctx.set(dut.amount, amount)
            line = list(ctx.get(dut.line))
            assert [line[(amount + i) % count] for i in range(lanes)] == values
            want = sum(bit << (amount + i) % count for i, bit in enumerate(mask))
            assert ctx.get(dut.enables) == want

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("factory", [RotateLeft, RotateRight])
@pytest.mark.parametrize(("count", "lanes"), [(12, 4), (1, 1), (16, 17), (16, 0)])
def test_impossible_shapes_are_refused(factory: type, count: int, lanes: int) -> None:
    with pytest.raises(ValueError, match="line"):
        factory(8, count, lanes)
