"""Requantisation blocks against :mod:`hw.spec.numerics`, ties and extremes included."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import numpy as np
import pytest
from amaranth.lib import wiring
from amaranth.sim import Simulator

from hw.requantise import Requantise, RoundShift, ZeroPointClamp
from hw.spec.numerics import NUMERICS, Numerics, rshift_round


def corner(rng: random.Random, width: int) -> int:
    """Return a signed value of `width` bits: uniform, small, extreme or around a power of two (where ties are)."""
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    kind = rng.randrange(5)
    if kind == 0:
        value = rng.randint(low, high)
    elif kind == 1:
        value = rng.randint(-20, 20)
    elif kind == 2:
        value = rng.choice((low, high)) + rng.randint(-2, 2)
    elif kind == 3:
        value = rng.choice((1, -1)) * (1 << rng.randrange(width)) + rng.randint(-1, 1)
    else:
        value = rng.choice((1, -1)) * (2 * rng.randrange(1 << (width // 2)) + 1) << rng.randrange(width // 2)
    return min(max(value, low), high)


def run_combinational(dut: wiring.Component, check: Callable) -> None:
    async def bench(ctx) -> None:
        check(ctx)

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(("width", "shift_width"), [(7, 3), (6, 4)])
def test_round_shift_exhaustive(width: int, shift_width: int) -> None:
    dut = RoundShift(width, shift_width)

    def check(ctx) -> None:
        for shift in range(1 << shift_width):
            ctx.set(dut.shift, shift)
            for value in range(-(1 << (width - 1)), 1 << (width - 1)):
                ctx.set(dut.value, value)
                assert ctx.get(dut.floor) == value >> shift
                assert ctx.get(dut.floor) + ctx.get(dut.up) == rshift_round(value, shift), (value, shift)

    run_combinational(dut, check)


def test_round_shift_wide() -> None:
    rng = random.Random(1)
    dut = RoundShift(48, 6)

    def check(ctx) -> None:
        for shift in range(64):
            ctx.set(dut.shift, shift)
            half = 1 << max(shift - 1, 0)
            ties = [k * half + d for k in range(-3, 4) for d in (-1, 0, 1)]
            for value in [*ties, *(corner(rng, 48) for _ in range(20))]:
                value = min(max(value, -(1 << 47)), (1 << 47) - 1)
                ctx.set(dut.value, value)
                assert ctx.get(dut.floor) + ctx.get(dut.up) == rshift_round(value, shift), (value, shift)

    run_combinational(dut, check)


@pytest.mark.parametrize("numerics", [NUMERICS, Numerics(acc_width=20, mult_width=9, shift_width=5, mid_width=12)])
@pytest.mark.parametrize("extra", [None, 7])
@pytest.mark.parametrize("pipeline", [False, True])
def test_requantise(numerics: Numerics, extra: int | None, pipeline: bool) -> None:
    rng = random.Random(2)
    width = numerics.acc_width if extra is None else numerics.acc_width - extra
    dut = Requantise(numerics, None if extra is None else width, pipeline=pipeline)
    latency = dut.LATENCY
    assert (latency, dut.SHIFT_STAGE) == (2 + 3 * pipeline, 1 + pipeline)
    limit = 1 << (numerics.mid_width - 1)
    cases = [
        (corner(rng, width), rng.choice((0, 1, 1 << (numerics.mult_width - 1), rng.getrandbits(numerics.mult_width))),
         rng.getrandbits(numerics.shift_width))
        for _ in range(2500)
    ]
    # Values that round up to just inside, onto and beyond the saturation bounds.
    edge = [sign * (2 * limit + d) for sign in (1, -1) for d in range(-4, 5)]
    cases += [(value, 1, 1) for value in edge if abs(value) < 1 << (width - 1)]
    got = []

    async def bench(ctx) -> None:
        shifts = deque([0] * dut.SHIFT_STAGE)
        for value, mult, shift in [*cases, *[(0, 0, 0)] * latency]:
            ctx.set(dut.value, value)
            ctx.set(dut.mult, mult)
            shifts.append(shift)
            ctx.set(dut.shift, shifts.popleft())
            got.append(ctx.get(dut.mid))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    value, mult, shift = np.array(cases, np.int64).T
    want = numerics.saturate(rshift_round(value * mult, shift), numerics.mid_width)
    assert {-limit, limit - 1, limit - 2, 1 - limit} <= set(want.tolist())
    assert got[latency:] == want.tolist()


@pytest.mark.parametrize("width", [6, 9, 10, 26])
def test_zero_point_clamp(width: int) -> None:
    rng = random.Random(width)
    dut = ZeroPointClamp(width)

    def check(ctx) -> None:
        for _ in range(1500):
            value = corner(rng, width)
            if rng.random() < 0.5:
                value = max(min(rng.randint(-600, 600), (1 << (width - 1)) - 1), -(1 << (width - 1)))
            up, zero_point = rng.randrange(2), corner(rng, 8)
            lo, hi = sorted((corner(rng, 8), corner(rng, 8)))
            inputs = {"value": value, "up": up, "zero_point": zero_point, "lo": lo, "hi": hi}
            for name, number in inputs.items():
                ctx.set(getattr(dut, name), number)
            assert ctx.get(dut.q) == min(max(value + up + zero_point, lo), hi), inputs

    run_combinational(dut, check)
