"""Pooled bytes: collected at random spacing, then written as vectors one cycle after the other."""

from __future__ import annotations

import random

import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.sim import Simulator

from hw.pooled_bytes import PooledBytes
from hw.spec.config import AcceleratorConfig

ACT_BYTES = 16 * 1024


def run(cols: int, counts: list[int], bases: list[int], *, dense: bool) -> tuple[list, list[int], list[list[int]]]:
    """Return (cycles after the last byte, address, bytes, final) of all vectors, addresses beyond, and the bytes."""
    sizes = {"act_kib": ACT_BYTES // 1024, "weight_kib": 8, "param_entries": 64, "axi_data_width": 64}
    config = AcceleratorConfig(rows=2, cols=cols, max_kernel=3, **sizes)
    dut, rng = PooledBytes(config), random.Random(cols)
    sent = [[rng.randint(-128, 127) for _ in range(count)] for count in counts]
    vectors, beyond = [], []

    async def bench(ctx) -> None:
        for bytes_, base in zip(sent, bases, strict=True):
            ctx.set(dut.base, base)
            for index, q in enumerate(bytes_):
                while not dense and rng.random() < 0.5:
                    ctx.set(dut.q, rng.randint(-128, 127))
                    ctx.set(dut.last, 1)
                    await ctx.tick()
                    assert not ctx.get(dut.out_valid)
                ctx.set(dut.valid, 1)
                ctx.set(dut.q, q)
                ctx.set(dut.last, index == len(bytes_) - 1)
                await ctx.tick()
                ctx.set(dut.valid, 0)
                assert index == len(bytes_) - 1 or not ctx.get(dut.out_valid)
            for late in range(1, PooledBytes.LATENCY - (-len(bytes_) // cols)):
                if ctx.get(dut.out_valid):
                    data = [ctx.get(dut.out_data[lane]) for lane in range(ctx.get(dut.out_count))]
                    vectors.append((late, ctx.get(dut.out_addr), data, ctx.get(dut.final)))
                if ctx.get(dut.beyond):
                    beyond.append(ctx.get(dut.out_addr))
                await ctx.tick()
            assert not ctx.get(dut.out_valid) and not ctx.get(dut.beyond)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return vectors, beyond, sent


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("cols", [2, 5, 16, 64])
def test_every_byte_in_order_behind_the_last(cols: int, dense: bool) -> None:
    """One instruction after the other: as many bytes as there are parameter entries, single ones, full vectors."""
    counts = [64, 1, cols, min(cols + 1, 64), 17, max(cols - 1, 1)]
    bases = [4001 + 301 * index for index in range(len(counts))]
    vectors, beyond, sent = run(cols, counts, bases, dense=dense)
    want = [
        (PooledBytes.LATENCY + first // cols, base + first, bytes_[first : first + cols], first + cols >= len(bytes_))
        for base, bytes_ in zip(bases, sent, strict=True)
        for first in range(0, len(bytes_), cols)
    ]
    assert vectors == want
    assert not beyond


def test_vectors_beyond_the_scratchpad_are_named_and_not_written() -> None:
    vectors, beyond, sent = run(4, [10], [ACT_BYTES - 9], dense=True)
    assert [vector[1:] for vector in vectors] == [(ACT_BYTES - 9 + at, sent[0][at : at + 4], False) for at in (0, 4)]
    assert beyond == [ACT_BYTES - 1]
    assert not run(4, [10], [ACT_BYTES - 10], dense=True)[1]


@pytest.mark.parametrize("late", range(8))
def test_reset_drops_what_was_collected(late: int) -> None:
    """While bytes come, or `late` cycles behind the last one; the next instruction's bytes begin in lane 0."""
    sizes = {"act_kib": 16, "weight_kib": 8, "param_entries": 64, "axi_data_width": 64}
    config = AcceleratorConfig(rows=2, cols=4, max_kernel=3, **sizes)
    dut, reset, m = PooledBytes(config), Signal(), Module()
    m.submodules.dut = ResetInserter(reset)(dut)
    vectors = []

    async def send(ctx, values: range, *, complete: bool) -> None:
        ctx.set(dut.valid, 1)
        for q in values:
            ctx.set(dut.q, q)
            ctx.set(dut.last, complete and q == values[-1])
            await ctx.tick()
        ctx.set(dut.valid, 0)

    async def bench(ctx) -> None:
        for complete in (False, True):
            await send(ctx, range(50, 61), complete=complete)
            await ctx.tick().repeat(late) if late else None
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            for _ in range(8):
                assert not ctx.get(dut.out_valid)
                await ctx.tick()
        ctx.set(dut.base, 300)
        await send(ctx, range(6), complete=True)
        for _ in range(8):
            if ctx.get(dut.out_valid):
                data = [ctx.get(dut.out_data[lane]) for lane in range(ctx.get(dut.out_count))]
                vectors.append((ctx.get(dut.out_addr), data, ctx.get(dut.final)))
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert vectors == [(300, [0, 1, 2, 3], False), (304, [4, 5], True)]
