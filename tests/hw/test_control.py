"""Control with fake units: random token programs, interrupts, counters, soft reset."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hw.control import UNITS, flush_cycles
from hw.spec.csr import Counter, ErrorCause, address
from hw.spec.isa import Queue
from tests.hw.control_bench import SLVERR, check_order, frame, simulate, token_program
from tests.hw.control_rig import BASE, BUSY, CONFIG, DONE, ERROR, RESETTING, Rig, execute, load, store


@pytest.mark.parametrize("seed", range(4))
def test_random_programs_keep_their_order(seed: int) -> None:
    """Queues in order, no token taken before it was given, two programs one after the other."""
    rig = Rig(b"", seed=seed)
    for unit in rig.units.values():
        unit.longest = (3, 20, 60)[seed % 3]

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        for _ in range(2):
            program = frame(CONFIG, list(token_program(rig.rng, 40)))
            rig.use(program)
            await rig.start(bus)
            assert await rig.finish(bus) == DONE
            check_order(program, rig.logs)
            assert await bus.get("INSTRUCTIONS_LO") == len(program)

    rig.run(bench)


def test_queues_overlap() -> None:
    """Independent instructions of different queues run at the same time."""
    program = frame(CONFIG, [load(), execute(), store()] * 4)
    rig = Rig(program, stall=0.0)
    for unit in rig.units.values():
        unit.longest = 100

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        assert await rig.finish(bus) == DONE

    rig.run(bench)
    spans = [(log[0][0], log[-1][0]) for log in rig.logs.values()]
    assert max(first for first, _ in spans) < min(last for _, last in spans)


def test_leftover_tokens_do_not_reach_the_next_program() -> None:
    rig = Rig(frame(CONFIG, [load(signal=0b010)] * 3))

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        assert await rig.finish(bus) == DONE
        rig.use(frame(CONFIG, [execute(wait=0b001)]))
        await rig.start(bus)
        assert await rig.finish(bus) == ERROR
        assert await rig.error(bus) == (ErrorCause.DEADLOCK, 1, 0b001_000)

    rig.run(bench)


def test_trace_tells_what_the_units_did() -> None:
    program = frame(CONFIG, list(token_program(random.Random(3), 25)))
    rig = Rig(program, seed=3)

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        assert await rig.finish(bus) == DONE

    rig.run(bench)
    for queue, name in UNITS.items():
        seen = [(what, pc) for unit, what, pc in rig.trace if unit == name]
        told = [(what, pc if what == "start" else -1) for _, what, pc in rig.units[queue].log]
        assert [x for x in seen if x[0] == "start"] == [x for x in told if x[0] == "start"]
        assert len([x for x in seen if x[0] == "done"]) == len([x for x in told if x[0] == "done"])


def test_status_interrupt_and_locking() -> None:
    rig = Rig(frame(CONFIG, [load()]))
    rig.units[Queue.LOAD].longest = 400
    rig.units[Queue.LOAD].rng = random.Random(1)

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        assert await bus.get("STATUS") == RESETTING
        await bus.set("CTRL", 1)
        await rig.ready(bus)
        assert await bus.get("STATUS") == 0, "a start during reset is ignored"
        await bus.set("IRQ_ENABLE", 1)
        await rig.start(bus)
        assert await bus.get("STATUS") == BUSY
        assert await bus.write(address("PROG_COUNT"), 77) == SLVERR
        await bus.set("CTRL", 1)
        assert not ctx.get(rig.dut.irq)
        await ctx.tick().until(rig.dut.irq)
        assert await bus.get("STATUS") == DONE and await bus.get("IRQ_STATUS") == 1
        assert [what for _, what, _ in rig.units[Queue.LOAD].log] == ["start", "done"], "started once"
        await bus.set("IRQ_STATUS", 1)
        await ctx.tick().repeat(2)
        assert not ctx.get(rig.dut.irq)
        assert await bus.get("PROG_COUNT") == 3

    rig.run(bench)


def test_counters() -> None:
    """Cycles between the first and last event; token waits; the units' events under their own names."""
    rig = Rig(frame(CONFIG, [load(signal=0b010), execute(wait=0b001)]), stall=0.0)
    for unit in rig.units.values():
        unit.longest = 1
    rig.units[Queue.LOAD].rng = random.Random(2)

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        ctx.set(rig.dut.load_events.bytes, 8)
        ctx.set(rig.dut.load_events.busy, 1)
        ctx.set(rig.dut.exec_events.drain, 1)
        ctx.set(rig.dut.store_events.port, 1)
        await rig.start(bus)
        assert await rig.finish(bus) == DONE
        value = {counter: await bus.get(f"{counter.name}_LO") for counter in Counter}
        cycles = value[Counter.CYCLES]
        assert 40 < cycles < 120
        for counter in (Counter.LOAD_BUSY, Counter.EXEC_DRAIN, Counter.STORE_PORT):
            assert value[counter] == cycles
        assert value[Counter.LOAD_BYTES] == 8 * cycles
        for counter in (Counter.LOAD_DRAM, Counter.EXEC_GEMM, Counter.STORE_BYTES, Counter.LOAD_TOKEN):
            assert value[counter] == 0
        assert value[Counter.INSTRUCTIONS] == 4
        assert 0 < value[Counter.FETCH_DRAM] < cycles
        await rig.start(bus)
        assert await rig.finish(bus) == DONE
        assert abs(await bus.get("CYCLES_LO") - cycles) < 40, "counters start from 0 again"

    rig.run(bench)


def test_token_wait_is_counted() -> None:
    rig = Rig(frame(CONFIG, [load(signal=0b010), execute(wait=0b001)]), stall=0.0)
    rig.units[Queue.LOAD].longest = 300
    rig.units[Queue.LOAD].rng = random.Random(5)

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        assert await rig.finish(bus) == DONE
        starts = {queue: log[0][0] for queue, log in rig.logs.items() if log}
        done = rig.logs[Queue.LOAD][-1][0]
        assert starts[Queue.EXEC] > done
        waited = await bus.get("EXEC_TOKEN_LO")
        assert 0 < waited <= done - starts[Queue.LOAD] + 2
        assert waited > done - starts[Queue.LOAD] - 40

    rig.run(bench)


@pytest.mark.parametrize("when", [1, 5, 23, 60, 111])
def test_soft_reset_in_the_middle(when: int) -> None:
    rig = Rig(frame(CONFIG, list(token_program(random.Random(when), 40))), seed=when)

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        await ctx.tick().repeat(when)
        await rig.recover(bus)

    rig.run(bench)


def test_soft_reset_lasts_long_enough_and_waits_for_the_units() -> None:
    """unit_reset is high for flush_cycles in a row, and never while a unit is not idle."""
    rig = Rig(frame(CONFIG, [load()] * 20))
    rig.units[Queue.LOAD].abort_cycles = 120
    lengths: list[int] = []

    async def watch(ctx: Any) -> None:
        length = 0
        while True:
            _, _, reset, idle = await ctx.tick().sample(rig.dut.unit_reset, rig.dut.load.idle)
            if reset:
                assert idle
                length += 1
            elif length:
                lengths.append(length)
                length = 0

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        while not rig.units[Queue.LOAD].log:
            await ctx.tick()
        await rig.recover(bus)

    background = (rig.memory.run, watch, *(unit.run for unit in rig.units.values()))
    simulate(rig.dut, bench, background=background)
    assert lengths == [flush_cycles(CONFIG)] * 2


def test_registers_survive_a_soft_reset() -> None:
    rig = Rig(frame(CONFIG, []))

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        assert await rig.finish(bus) == DONE
        await bus.set("CTRL", 2)
        await rig.ready(bus)
        assert await bus.get("STATUS") == 0
        assert await bus.get("REGION0_BASE_HI") == BASE >> 32 and await bus.get("PROG_COUNT") == 2

    rig.run(bench)
