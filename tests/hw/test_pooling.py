# amaranth: UnusedElaboratable=no
"""Pooling against :meth:`Numerics.pool`: interleaved slots, the same slot in consecutive cycles, latency and order."""

from __future__ import annotations

import random

import pytest
from amaranth.back import rtlil
from amaranth.sim import Simulator

from hw.pooling import Pooling
from hw.spec.numerics import NUMERICS

SHAPES = [(1, 1, 6), (3, 4, 6), (6, 3, 6), (8, 2, 6), (12, 5, 7), (64, 16, 7), (65, 2, 8)]


@pytest.mark.parametrize(("lanes", "depth", "latency"), SHAPES)
@pytest.mark.parametrize("pipeline", [False, True])
def test_random_sums(lanes: int, depth: int, latency: int, pipeline: bool) -> None:
    rng = random.Random(lanes)
    dut = Pooling(lanes, depth, pipeline=pipeline)
    latency += 3 * pipeline
    assert dut.latency == latency
    sums: list[int | None] = [None] * depth
    want: list[int | None] = []
    got: list[int | None] = []
    repeats = 0

    async def bench(ctx) -> None:
        nonlocal repeats
        slot, before = 0, None
        for cycle in range(2400 // (1 + lanes // 16) + latency):
            valid = cycle < 2400 // (1 + lanes // 16) and rng.random() < 0.9
            if rng.random() < 0.6:
                slot = rng.randrange(depth)
            first = sums[slot] is None or rng.random() < 0.02
            last = rng.random() < 0.4
            used = rng.choice((0, (1 << lanes) - 1, rng.getrandbits(lanes)))
            extreme = rng.random() < 0.2
            q = [rng.choice((-128, 127)) if extreme else rng.randint(-128, 127) for _ in range(lanes)]
            cfg = {
                "gap_bias": rng.choice((0, rng.randint(-3000, 3000), -(1 << 25), (1 << 25) - 1)),
                "gap_mult": rng.choice((1, 65535, rng.getrandbits(16))),
                "gap_shift": rng.choice((0, 8, 18, 20, rng.randrange(64), 63)),
                "gap_zp": rng.randint(-128, 127),
            }
            inputs = {"valid": valid, "q": q, "used": used, "slot": slot, "first": first, "last": last, "cfg": cfg}
            for name, value in inputs.items():
                ctx.set(getattr(dut, name), value)
            result = None
            if valid:
                repeats += slot == before
                total = sum(pixel for lane, pixel in enumerate(q) if used >> lane & 1) + (0 if first else sums[slot])
                sums[slot] = total
                if last:
                    if rng.random() < 0.5:  # a result in the middle of its range
                        cfg["gap_bias"] = rng.randint(-3000, 3000)
                        cfg["gap_mult"] = rng.randint(32768, 65535)
                        cfg["gap_shift"] = 16 + max((total + cfg["gap_bias"]).bit_length() - 7, 0)
                        ctx.set(dut.cfg, cfg)
                    bare = {name.removeprefix("gap_"): value for name, value in cfg.items()}
                    result = int(NUMERICS.pool(total, **bare))
                    sums[slot] = None if rng.random() < 0.7 else total
            before = slot if valid else None
            want.append(result)
            got.append(ctx.get(dut.out_q) if ctx.get(dut.out_valid) else None)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert got == [None] * latency + want[:-latency]
    assert repeats > 50
    assert len({value for value in want if value is not None}) > 40


@pytest.mark.parametrize("extreme", [-128, 127])
def test_largest_sums(extreme: int) -> None:
    """A map of 2**20 pixels, all at one end, 4096 vectors in consecutive cycles: the sum reaches its 28 bits."""
    dut = Pooling(256, 3)
    cfg = {"gap_bias": 300 if extreme < 0 else -300, "gap_mult": 40000, "gap_shift": 36, "gap_zp": -5}
    vectors = 4096

    async def bench(ctx) -> None:
        ctx.set(dut.q, [extreme] * 256)
        ctx.set(dut.cfg, cfg)
        ctx.set(dut.used, (1 << 256) - 1)
        ctx.set(dut.slot, 2)
        ctx.set(dut.valid, 1)
        for index in range(vectors):
            ctx.set(dut.first, index == 0)
            ctx.set(dut.last, index == vectors - 1)
            await ctx.tick()
        ctx.set(dut.valid, 0)
        await ctx.tick().repeat(dut.latency - 1)
        assert ctx.get(dut.out_valid)
        total = 256 * extreme * vectors
        assert abs(total).bit_length() >= NUMERICS.pool_width - 1
        assert ctx.get(dut.out_q) == NUMERICS.pool(total, bias=cfg["gap_bias"], mult=40000, shift=36, zp=-5)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_sums_are_one_memory() -> None:
    text = rtlil.convert(Pooling(6, 16), emit_src=False)
    memories = [line for line in text.splitlines() if line.startswith("  memory ")]
    assert memories == [f"  memory width {NUMERICS.pool_width} size 16 \\sums"]


@pytest.mark.parametrize(("lanes", "depth"), [(0, 4), (4, 0)])
def test_empty_shapes_are_refused(lanes: int, depth: int) -> None:
    with pytest.raises(ValueError, match=f"not {lanes} and {depth}"):
        Pooling(lanes, depth)
