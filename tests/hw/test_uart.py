"""UART: every byte at rates that are off, noise, broken frames, timing of the transmitter."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from amaranth.hdl import Module

from hw.soc.uart import MIN_BIT_CLOCKS, UARTReceiver, UARTTransmitter
from tests.hw.control_bench import simulate

CLOCK = 1e-6


def frame(byte: int, stop: int = 1) -> list[int]:
    return [0, *(byte >> bit & 1 for bit in range(8)), stop]


async def put(ctx: Any, line: Any, levels: Iterable[int], bit_seconds: float) -> None:
    """Drive a line without regard to the clock."""
    for level in levels:
        ctx.set(line, level)
        await ctx.delay(bit_seconds)


def receive(bit_clocks: int, drive: Any) -> tuple[list[int], int]:
    """Return the bytes and the number of framing errors that a receiver makes of a line."""
    dut = UARTReceiver(bit_clocks)
    found: list[int] = []
    errors = 0

    async def listen(ctx: Any) -> None:
        nonlocal errors
        while True:
            _, _, valid, byte, error = await ctx.tick().sample(dut.o.valid, dut.o.payload, dut.framing_error)
            assert not (valid and error)
            errors += error
            if valid:
                found.append(byte)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.rx, 1)
        await ctx.delay(10.3 * CLOCK)
        await drive(ctx, dut.rx)
        ctx.set(dut.rx, 1)
        await ctx.delay(12 * bit_clocks * CLOCK)

    simulate(dut, bench, background=(listen,))
    return found, errors


@pytest.mark.parametrize("off", [-0.03, -0.02, 0.0, 0.02, 0.03])
@pytest.mark.parametrize("bit_clocks", [16, 27])
def test_rates_that_are_off(bit_clocks: int, off: float) -> None:
    rng = random.Random(bit_clocks)
    sent = [0x00, 0xFF, 0x55, 0xAA, *rng.randbytes(12)]

    async def drive(ctx: Any, rx: Any) -> None:
        for byte in sent:  # back to back, so an error would add up if the edge of the start bit were not looked at
            await put(ctx, rx, frame(byte), bit_clocks * CLOCK * (1 + off))
            if rng.random() < 0.3:
                await put(ctx, rx, [1], rng.random() * 5 * CLOCK)

    assert receive(bit_clocks, drive) == (sent, 0)


def test_a_rate_far_off_is_not_received() -> None:
    async def drive(ctx: Any, rx: Any) -> None:
        await put(ctx, rx, frame(0x80), 16 * CLOCK * 1.12)

    assert receive(16, drive)[0] != [0x80]


def test_framing_error_and_break() -> None:
    async def drive(ctx: Any, rx: Any) -> None:
        await put(ctx, rx, frame(0x31), 16 * CLOCK)
        await put(ctx, rx, [*frame(0x32, stop=0), 1], 16 * CLOCK)
        await put(ctx, rx, [*[0] * 40, 1], 16 * CLOCK)  # a break is one error
        await put(ctx, rx, frame(0x33), 16 * CLOCK)

    assert receive(16, drive) == ([0x31, 0x33], 2)


def test_noise() -> None:
    """Glitches of a cycle on an idle line and inside bits, and a start bit that does not last."""

    async def drive(ctx: Any, rx: Any) -> None:
        await put(ctx, rx, [0, 1] * 6, 0.9 * CLOCK)
        await put(ctx, rx, [0], 4 * CLOCK)
        await put(ctx, rx, [1], 20 * CLOCK)
        for level in frame(0x96):
            await put(ctx, rx, [level], 7.1 * CLOCK)
            await put(ctx, rx, [1 - level], 0.9 * CLOCK)
            await put(ctx, rx, [level], 8 * CLOCK)

    assert receive(16, drive) == ([0x96], 0)


@pytest.mark.parametrize("bit_clocks", [MIN_BIT_CLOCKS, 7])
def test_transmitter_bit_by_bit(bit_clocks: int) -> None:
    dut = UARTTransmitter(bit_clocks)
    sent = [0xA5, 0x00, 0xFF, 0x13]
    levels: list[int] = []

    async def record(ctx: Any) -> None:
        while True:
            _, _, level = await ctx.tick().sample(dut.tx)
            levels.append(level)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.i.valid, 1)
        for byte in sent:
            ctx.set(dut.i.payload, byte)
            await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)
        await ctx.tick().until(dut.i.ready)
        await ctx.tick().repeat(3)

    simulate(dut, bench, background=(record,))
    expected = [1]
    for byte in sent:
        expected += [level for level in frame(byte) for _ in range(bit_clocks)] + [1]
    assert levels[: len(expected)] == expected
    assert set(levels[len(expected) :]) == {1}


@pytest.mark.parametrize("bit_clocks", [MIN_BIT_CLOCKS, 10])
def test_both_ends_together(bit_clocks: int) -> None:
    m = Module()
    m.submodules.sender = sender = UARTTransmitter(bit_clocks)
    m.submodules.receiver = receiver = UARTReceiver(bit_clocks)
    m.d.comb += receiver.rx.eq(sender.tx)
    sent = list(random.Random(3).randbytes(24))
    found: list[int] = []

    async def listen(ctx: Any) -> None:
        while True:
            _, _, valid, byte = await ctx.tick().sample(receiver.o.valid, receiver.o.payload)
            if valid:
                found.append(byte)

    async def bench(ctx: Any) -> None:
        for byte in sent:
            ctx.set(sender.i.payload, byte)
            ctx.set(sender.i.valid, 1)
            await ctx.tick().until(sender.i.ready)
            ctx.set(sender.i.valid, 0)
            await ctx.tick().repeat(1 + bit_clocks % 3)
        await ctx.tick().until(sender.i.ready)
        await ctx.tick().repeat(4)

    simulate(m, bench, background=(listen,))
    assert found == sent


@pytest.mark.parametrize("block", [UARTReceiver, UARTTransmitter])
def test_bits_that_are_too_short(block: Any) -> None:
    with pytest.raises(ValueError, match="bit_clocks=3"):
        block(3)
