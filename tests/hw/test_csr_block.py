"""Registers over AXI4-Lite: every register of the tables, answers, strobes, locking, counters, interrupts."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hw.csr_block import STATE_REGISTERS, CSRBlock
from hw.spec.config import PRESETS
from hw.spec.csr import CSR_ADDR_WIDTH, MAGIC, REGISTERS, WATCHDOG_DEFAULT, Access, Counter, address
from hw.spec.isa import ISA_VERSION
from tests.hw.control_bench import OKAY, SLVERR, LiteManager, simulate

CONFIG = PRESETS["tiny"].twin(rows=5, stos=False)


def used_mask(name: str) -> int:
    fields = REGISTERS[name].fields
    return (1 << (fields.used if fields else 32)) - 1


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_identity_and_reset_values(stall: float) -> None:
    dut = CSRBlock(CONFIG)

    async def bench(ctx: Any) -> None:
        bus = LiteManager(ctx, dut.axil, random.Random(1), stall=stall)
        expected = {
            "MAGIC": MAGIC,
            "ISA_VERSION": ISA_VERSION,
            "HASH_LO": CONFIG.hash & 0xFFFF_FFFF,
            "HASH_HI": CONFIG.hash >> 32,
            "SHAPE": 5 | 4 << 16,
            "FEATURES": CONFIG.max_kernel << 2,
            "WATCHDOG": WATCHDOG_DEFAULT,
        }
        for name in REGISTERS:
            assert await bus.get(name) == expected.get(name, 0), name

    simulate(dut, bench)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_every_writable_register_keeps_its_own_value(stall: float) -> None:
    dut = CSRBlock(CONFIG)
    rng = random.Random(2)
    values = {name: rng.getrandbits(32) for name, reg in REGISTERS.items() if reg.access is Access.RW}

    async def bench(ctx: Any) -> None:
        bus = LiteManager(ctx, dut.axil, rng, stall=stall)
        for name, value in values.items():
            await bus.set(name, value)
        for name, value in values.items():
            assert await bus.get(name) == value & used_mask(name), name
            assert ctx.get(dut.values[name]) == value & used_mask(name)
        for index in range(4):
            base = values[f"REGION{index}_BASE_HI"] << 32 | values[f"REGION{index}_BASE_LO"]
            assert ctx.get(dut.regions[index].base) == base
            assert ctx.get(dut.regions[index].size) == values[f"REGION{index}_SIZE"]

    simulate(dut, bench)


def test_answers() -> None:
    """Unknown addresses and read-only registers answer SLVERR to writes; nothing changes."""
    dut = CSRBlock(CONFIG)

    async def bench(ctx: Any) -> None:
        bus = LiteManager(ctx, dut.axil, random.Random(3))
        known = {register.addr for register in REGISTERS.values()}
        holes = [addr for addr in range(0, 1 << CSR_ADDR_WIDTH, 4) if addr not in known]
        for addr in random.Random(4).sample(holes, 40):
            assert await bus.read(addr) == (0, SLVERR)
            assert await bus.write(addr, 0xFFFF_FFFF) == SLVERR
        for name, register in REGISTERS.items():
            if register.access is Access.RO:
                before = await bus.get(name)
                assert await bus.write(register.addr, ~before & 0xFFFF_FFFF) == SLVERR, name
                assert await bus.get(name) == before
        assert await bus.read(address("MAGIC") + 2) == (MAGIC, OKAY)

    simulate(dut, bench)


def test_locked_registers_refuse_writes() -> None:
    dut = CSRBlock(CONFIG)

    async def bench(ctx: Any) -> None:
        bus = LiteManager(ctx, dut.axil, random.Random(5))
        await bus.set("PROG_COUNT", 7)
        ctx.set(dut.locked, 1)
        for name, register in REGISTERS.items():
            if register.access is Access.RW:
                assert await bus.write(register.addr, 0x1234) == SLVERR, name
        assert await bus.get("PROG_COUNT") == 7
        await bus.set("IRQ_STATUS", 3)
        await bus.set("CTRL", 0)
        ctx.set(dut.locked, 0)
        await bus.set("PROG_COUNT", 8)
        assert await bus.get("PROG_COUNT") == 8

    simulate(dut, bench)


def test_strobes() -> None:
    dut = CSRBlock(CONFIG)

    async def bench(ctx: Any) -> None:
        bus = LiteManager(ctx, dut.axil, random.Random(6))
        await bus.set("PROG_OFFSET", 0x11223344)
        expected = 0x11223344
        rng = random.Random(7)
        for _ in range(30):
            strobe, value = rng.getrandbits(4), rng.getrandbits(32)
            mask = sum(0xFF << 8 * byte for byte in range(4) if strobe >> byte & 1)
            assert await bus.write(address("PROG_OFFSET"), value, strobe) == OKAY
            expected = (expected & ~mask) | (value & mask)
            assert await bus.get("PROG_OFFSET") == expected
        ctx.set(dut.irq_set.done, 1)
        await ctx.tick()
        ctx.set(dut.irq_set.done, 0)
        assert await bus.write(address("IRQ_STATUS"), 3, 0b1110) == OKAY
        assert await bus.get("IRQ_STATUS") == 1

    simulate(dut, bench)


def test_commands_pulse_once() -> None:
    dut = CSRBlock(CONFIG)
    seen: list[tuple[int, int]] = []

    async def watch(ctx: Any) -> None:
        async for _, _, start, soft in ctx.tick().sample(dut.start, dut.soft_reset):
            if start or soft:
                seen.append((start, soft))

    async def bench(ctx: Any) -> None:
        bus = LiteManager(ctx, dut.axil, random.Random(8))
        for value in (1, 2, 3, 0):
            await bus.set("CTRL", value)
            assert await bus.get("CTRL") == 0
        assert await bus.write(address("CTRL"), 3, 0b1000) == OKAY
        assert seen == [(1, 0), (0, 1), (1, 1)]

    simulate(dut, bench, background=(watch,))


def test_state_and_interrupts() -> None:
    dut = CSRBlock(CONFIG)

    async def bench(ctx: Any) -> None:
        bus = LiteManager(ctx, dut.axil, random.Random(9))
        rng = random.Random(10)
        for name in STATE_REGISTERS:
            value = rng.getrandbits(32) & used_mask(name)
            ctx.set(dut.state[name], value)
            assert await bus.get(name) == value

        async def raise_irq(field: str) -> None:
            ctx.set(dut.irq_set[field], 1)
            await ctx.tick()
            ctx.set(dut.irq_set[field], 0)
            await ctx.tick().repeat(2)

        await raise_irq("done")
        assert await bus.get("IRQ_STATUS") == 1 and not ctx.get(dut.irq)
        await bus.set("IRQ_ENABLE", 2)
        assert not ctx.get(dut.irq)
        await raise_irq("error")
        assert await bus.get("IRQ_STATUS") == 3 and ctx.get(dut.irq)
        await bus.set("IRQ_STATUS", 2)
        assert await bus.get("IRQ_STATUS") == 1 and not ctx.get(dut.irq)
        await bus.set("IRQ_ENABLE", 1)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.irq)
        await bus.set("IRQ_STATUS", 3)
        assert await bus.get("IRQ_STATUS") == 0 and not ctx.get(dut.irq)

    simulate(dut, bench)


def test_counter_halves_belong_together() -> None:
    """HI shows the upper bits of the moment LO was read, even if the counter has carried since."""
    dut = CSRBlock(CONFIG)

    async def bench(ctx: Any) -> None:
        bus = LiteManager(ctx, dut.axil, random.Random(11))
        rng = random.Random(12)
        for counter in Counter:
            value = rng.getrandbits(48)
            ctx.set(dut.counters[counter], value)
            assert await bus.get(f"{counter.name}_LO") == value & 0xFFFF_FFFF
            ctx.set(dut.counters[counter], rng.getrandbits(48))
            assert await bus.get(f"{counter.name}_HI") == value >> 32

    simulate(dut, bench)


def test_back_to_back_transfers() -> None:
    """Without stalls, a write takes 3 cycles and a read 3, both directions at once."""
    dut = CSRBlock(CONFIG)
    answers = {"b": 0, "r": 0}

    async def bench(ctx: Any) -> None:
        port = dut.axil
        for name in ("awvalid", "wvalid", "bready", "arvalid", "rready"):
            ctx.set(getattr(port, name), 1)
        ctx.set(port.awaddr, address("PROG_COUNT"))
        ctx.set(port.wstrb, 0xF)
        for _ in range(60):
            _, _, bvalid, rvalid = await ctx.tick().sample(port.bvalid, port.rvalid)
            answers["b"] += bvalid
            answers["r"] += rvalid

    simulate(dut, bench)
    assert answers["b"] >= 19 and answers["r"] >= 19
