# amaranth: UnusedElaboratable=no
"""Output stage against :meth:`Numerics.output`: ties, saturation, extreme shifts, residual, latency."""

from __future__ import annotations

import random

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.sim import Simulator

from hw.output_stage import OutputStage
from hw.shared import Emitter, convert
from hw.spec.numerics import NUMERICS

INT32 = np.iinfo(np.int32)


def vector(rng: random.Random, lanes: int) -> dict:
    """Return the inputs of one vector; acc + bias fits 32 bits."""
    bias = rng.choice((0, rng.randint(-5000, 5000), rng.randint(INT32.min, INT32.max), INT32.min, INT32.max))
    mult = rng.choice((0, 1, 32768, 65535, rng.getrandbits(16), rng.getrandbits(16)))
    shift = rng.randint(0, NUMERICS.max_shift)
    post = rng.choice((0, 0, rng.randint(0, 15), 15))
    style = rng.randrange(5)
    totals = []
    for _ in range(lanes):
        if style == 0:
            total = rng.randint(INT32.min, INT32.max)
        elif style == 1:
            total = rng.choice((INT32.min, INT32.max, 0, -1, 1)) + rng.randint(-2, 2)
        elif style == 2:  # exact ties of the channel shift: an odd multiple of half
            mult = 1 << rng.randint(0, 15)
            half = 1 << max(shift - 1 - (mult.bit_length() - 1), 0)
            total = half * (2 * rng.randint(-300, 300) + 1)
        else:  # results in and around a byte, whatever mult and shift are
            wanted = rng.randint(-200, 200) << post
            total = (wanted << shift) // max(mult, 1) + rng.randint(-1, 1)
        low, high = max(INT32.min, INT32.min + bias), min(INT32.max, INT32.max + bias)
        totals.append(min(max(total, low), high))
    bounds = [rng.choice((-128, 127, 0, rng.randint(-128, 127))) for _ in range(2)]
    if rng.random() < 0.8:  # else often in the wrong order, where the upper bound wins
        bounds.sort()
    if rng.random() < 0.5:
        bounds = [-128, 127]
    return {
        "acc": [total - bias for total in totals],
        "param": {"bias": bias, "mult": mult, "shift": shift, "reserved": rng.getrandbits(8)},
        "cfg": {
            "out_zp": rng.choice((-128, 0, 127, rng.randint(-128, 127))),
            "q_lo": bounds[0],
            "q_hi": bounds[1],
            "post_shift": post,
            "res": rng.randrange(2),
            "res_zp": rng.choice((-128, 127, rng.randint(-128, 127))),
            "res_mult": rng.choice((0, 1, 65535, rng.getrandbits(16))),
        },
        "residual": [rng.choice((-128, 127, rng.randint(-128, 127))) for _ in range(lanes)],
    }


def golden(item: dict) -> list[int]:
    cfg = dict(item["cfg"])
    residual = item["residual"] if cfg.pop("res") else None
    param = {name: item["param"][name] for name in ("bias", "mult", "shift")}
    return NUMERICS.output(item["acc"], **param, **cfg, residual=residual).tolist()


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize("lanes", [1, 3, 6, 12])
def test_bit_exact(lanes: int, pipeline: bool) -> None:
    rng = random.Random(lanes)
    dut = OutputStage(lanes, pipeline=pipeline)
    latency, residual_stage = dut.LATENCY, dut.RESIDUAL_STAGE
    assert latency == 5 + pipeline and residual_stage == 3
    items = [vector(rng, lanes) if rng.random() < 0.9 else None for _ in range(2400 // lanes)]
    got = []

    async def bench(ctx) -> None:
        for cycle in range(len(items) + dut.LATENCY):
            item = items[cycle] if cycle < len(items) else None
            ctx.set(dut.valid, item is not None)
            for port in ("acc", "param", "cfg") if item else ():
                ctx.set(getattr(dut, port), item[port])
            earlier = cycle - dut.RESIDUAL_STAGE
            if 0 <= earlier < len(items) and items[earlier]:
                ctx.set(dut.residual, items[earlier]["residual"])
            else:
                ctx.set(dut.residual, [rng.randint(-128, 127) for _ in range(lanes)])
            got.append(list(ctx.get(dut.q)) if ctx.get(dut.out_valid) else None)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert got[: dut.LATENCY] == [None] * dut.LATENCY
    for item, result in zip(items, got[dut.LATENCY :], strict=True):
        assert result == (golden(item) if item else None), item
    flat = [value for result in got if result for value in result]
    assert len(set(flat)) > 100  # not all of it clamped


@pytest.mark.parametrize("pipeline", [False, True])
def test_every_shift_and_tie(pipeline: bool) -> None:
    """Each shift 0 to 47 with totals around every half near zero and at both ends."""
    dut = OutputStage(6, pipeline=pipeline)
    cfg = {"out_zp": 3, "q_lo": -128, "q_hi": 127, "post_shift": 0, "res": 0, "res_zp": 0, "res_mult": 9}
    items = []
    for shift in range(NUMERICS.max_shift + 1):
        for mult in (1, 65535, 1 << max(0, min(15, shift - 17))):
            half = (1 << max(shift - 1, 0)) // mult
            totals = [k * half + d for k in (-5, -3, -2, -1, 1, 2, 3, 5) for d in (-1, 0, 1)]
            totals += [INT32.min, INT32.min + 1, -1, 0, 1, INT32.max]
            for start in range(0, len(totals), 6):
                acc = [min(max(t, INT32.min), INT32.max) for t in totals[start : start + 6]]
                param = {"bias": 0, "mult": mult, "shift": shift, "reserved": 0}
                items.append({"acc": acc, "param": param, "cfg": cfg, "residual": [77] * 6})
    ties = sum(
        2 * abs(acc * item["param"]["mult"]) % (2 << item["param"]["shift"]) == 1 << item["param"]["shift"]
        for item in items
        for acc in item["acc"]
    )
    assert ties > 100
    got = []

    async def bench(ctx) -> None:
        ctx.set(dut.valid, 1)
        ctx.set(dut.residual, [77] * 6)
        for item in items:
            for port in ("acc", "param", "cfg"):
                ctx.set(getattr(dut, port), item[port])
            await ctx.tick()
            if ctx.get(dut.out_valid):
                got.append(list(ctx.get(dut.q)))
        for _ in range(dut.LATENCY - 1):
            await ctx.tick()
            got.append(list(ctx.get(dut.q)))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    for item, result in zip(items, got, strict=True):
        assert result == golden(item), item


def test_lanes_are_one_module() -> None:
    platform = Emitter()
    convert(OutputStage(12), "output_stage", platform)
    assert [key[0].__name__ for key in platform.modules] == ["OutputLane"]
    assert rtlil.convert(OutputStage(3), emit_src=False).count("\nmodule \\top.lane") >= 3


def test_no_lanes_are_refused() -> None:
    with pytest.raises(ValueError, match="not 0"):
        OutputStage(0)
