"""Control with fake units: every error cause, deadlock, watchdog; each leaves a state that a soft reset recovers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import TOKEN_MAX, Instruction, Queue, assemble
from tests.hw.control_bench import frame
from tests.hw.control_rig import BASE, BUSY, CONFIG, ERROR, RESETTING, Rig, execute, load, store


@pytest.fixture(params=[False, True], ids=["plain", "pipelined"])
def config(request: pytest.FixtureRequest) -> AcceleratorConfig:
    return replace(CONFIG, pipeline_mac=request.param)


@pytest.mark.parametrize("queue", list(Queue))
@pytest.mark.parametrize("cause", [ErrorCause.MEM_RANGE, ErrorCause.AXI_READ])
def test_unit_errors_stop_and_recover(queue: Queue, cause: ErrorCause, config: AcceleratorConfig) -> None:
    """The unit's report is kept, no further instruction starts, and a soft reset recovers."""
    body = [load(), execute(), store()] * 10
    program = frame(config, body)
    failing = 1 + 3 * 2 + queue
    rig = Rig(program, seed=queue + 10, config=config)
    rig.units[queue].errors = {failing: cause}

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await bus.set("IRQ_ENABLE", 2)
        await rig.start(bus)
        assert await rig.finish(bus) == ERROR
        assert await rig.error(bus) == (cause, failing, 0xBAD0_0000 | failing)
        assert await bus.get("IRQ_STATUS") == 2 and ctx.get(rig.dut.irq)
        before = {q: list(log) for q, log in rig.logs.items()}
        await bus.set("CTRL", 1)
        await ctx.tick().repeat(200)
        assert await bus.get("STATUS") == ERROR, "a start in the error state is ignored"
        assert {q: list(log) for q, log in rig.logs.items()} == before
        await rig.recover(bus)

    rig.run(bench)


def test_only_the_first_error_is_kept(config: AcceleratorConfig) -> None:
    rig = Rig(frame(config, [load(), execute()]), config=config)
    rig.units[Queue.LOAD].errors = {1: ErrorCause.DRAM_RANGE}
    rig.units[Queue.LOAD].longest = 1

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        assert await rig.finish(bus) == ERROR
        error = rig.dut.store.error
        ctx.set(error.valid, 1)
        ctx.set(error.cause, ErrorCause.AXI_WRITE)
        await ctx.tick().repeat(3)
        assert (await rig.error(bus))[:2] == (ErrorCause.DRAM_RANGE, 1)

    rig.run(bench)


@pytest.mark.parametrize(
    ("image", "cause", "pc"),
    [
        (lambda p: bytes(64) + p[64:], ErrorCause.NO_HEADER, 0),
        (lambda p: p[:8] + bytes(8) + p[16:], ErrorCause.HASH_MISMATCH, 0),
        (lambda p: p[:64] + b"\x0e" + p[65:], ErrorCause.BAD_OPCODE, 1),
        (lambda p: p[:127] + b"\x80" + p[128:], ErrorCause.BAD_FIELD, 1),
        (lambda p: p[:-64], ErrorCause.TRUNCATED, 3),
    ],
)
def test_fetch_errors_stop_and_recover(image: Any, cause: ErrorCause, pc: int, config: AcceleratorConfig) -> None:
    rig = Rig(image(assemble(frame(config, [load(), execute()]))), seed=pc, config=config)

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        assert await rig.finish(bus) == ERROR
        assert (await rig.error(bus))[:2] == (cause, pc)
        await rig.recover(bus)

    rig.run(bench)


def test_bus_error_on_fetch_recovers(config: AcceleratorConfig) -> None:
    rig = Rig(frame(config, [load()] * 5), config=config)
    rig.memory.faults = {BASE + 3 * 64 + 16}

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        assert await rig.finish(bus) == ERROR
        assert await rig.error(bus) == (ErrorCause.AXI_READ, 3, (BASE + 3 * 64) & 0xFFFF_FFFF)
        rig.memory.faults = set()
        await rig.recover(bus)

    rig.run(bench)


@pytest.mark.parametrize(
    ("body", "pc", "info"),
    [
        ([execute(wait=0b001)], 1, 0b000_001_000),
        # The fetcher is stuck behind a full load queue, in front of the store that would give the token.
        ([*[load(wait=0b100)] * 9, store(signal=0b001)], 1, 0b000_000_100),
        ([load(wait=0b010, signal=0b010), execute(wait=0b001, signal=0b001)], 1, 0b000_001_010),
        ([load(signal=0b010), execute(wait=0b001), execute(wait=0b001), store(wait=0b010)], 3, 0b010_001_000),
    ],
)
def test_deadlock_is_found(body: list[Instruction], pc: int, info: int, config: AcceleratorConfig) -> None:
    rig = Rig(frame(config, body), seed=pc, config=config)

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        assert await rig.finish(bus) == ERROR
        assert await rig.error(bus) == (ErrorCause.DEADLOCK, pc, info)
        await rig.recover(bus)

    rig.run(bench)


def test_token_overflow(config: AcceleratorConfig) -> None:
    rig = Rig(frame(config, [load(signal=0b100)] * (TOKEN_MAX + 1)), stall=0.0, config=config)
    rig.units[Queue.LOAD].longest = 1

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        assert await rig.finish(bus) == ERROR
        assert await rig.error(bus) == (ErrorCause.TOKEN_OVERFLOW, TOKEN_MAX + 1, Queue.STORE)
        await rig.recover(bus)

    rig.run(bench)


@pytest.mark.parametrize("queue", list(Queue))
def test_watchdog(queue: Queue, config: AcceleratorConfig) -> None:
    """A unit that makes no progress is reported with the instruction it hangs on."""
    rig = Rig(frame(config, [load(), execute(), store()] * 2), seed=queue, config=config)
    rig.units[queue].hang_at = 4 + queue

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus, watchdog=150)
        assert await rig.finish(bus) == ERROR
        assert await rig.error(bus) == (ErrorCause.WATCHDOG, 4 + queue, 1 << queue)
        await rig.recover(bus)

    rig.run(bench)


def test_watchdog_on_a_dead_bus_and_switched_off(config: AcceleratorConfig) -> None:
    """No answer to a fetch: WATCHDOG after the set time, never with 0; reset waits for the open transfers."""
    rig = Rig(frame(config, [load()] * 3), config=config)
    rig.memory.frozen = True

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus, watchdog=0)
        await ctx.tick().repeat(500)
        assert await bus.get("STATUS") == BUSY
        await bus.set("CTRL", 2)
        await ctx.tick().repeat(200)
        assert await bus.get("STATUS") == RESETTING, "a transfer is still offered"
        rig.memory.frozen = False
        await rig.ready(bus)
        rig.memory.frozen = True
        await rig.start(bus, watchdog=200)
        assert await rig.finish(bus) == ERROR
        assert await rig.error(bus) == (ErrorCause.WATCHDOG, 0, 0)
        rig.memory.frozen = False
        await rig.recover(bus)

    rig.run(bench)


def test_header_of_another_configuration_names_it() -> None:
    other = replace(CONFIG, rows=5)
    rig = Rig(frame(other, []))

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        assert await rig.finish(bus) == ERROR
        assert await rig.error(bus) == (ErrorCause.HASH_MISMATCH, 0, other.hash & 0xFFFF_FFFF)

    rig.run(bench)
