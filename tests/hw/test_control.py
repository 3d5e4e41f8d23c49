"""Control with fake units: random token programs, every error cause, deadlock, watchdog, interrupts, soft reset."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from hw.control import UNITS, Control, flush_cycles
from hw.spec.config import PRESETS
from hw.spec.csr import REGISTERS, Counter, ErrorCause, address
from hw.spec.isa import INSTRUCTION_BYTES, TOKEN_MAX, Instruction, Opcode, Queue, assemble
from tests.hw.control_bench import (
    SLVERR,
    FakeUnit,
    LiteManager,
    ReadMemory,
    check_order,
    frame,
    simulate,
    token_program,
)

CONFIG = PRESETS["tiny"]
BASE = 0x8_0000_0000
BUSY, DONE, ERROR, RESETTING = 1, 2, 4, 8

assert [field.name for field in REGISTERS["STATUS"].fields.fields] == ["busy", "done", "error", "resetting"]


class Rig:
    """Control with a bus manager, a memory and three fake units."""

    def __init__(self, program: list[Instruction] | bytes, *, seed: int = 0, stall: float = 0.2) -> None:
        self.dut = Control(CONFIG)
        rng = random.Random(seed)
        self.memory = ReadMemory(self.dut.axi, b"", BASE, rng, stall=stall)
        self.units = {
            queue: FakeUnit(queue, getattr(self.dut, name), self.dut.unit_reset, random.Random(seed + 1 + queue))
            for queue, name in UNITS.items()
        }
        self.rng = rng
        self.stall = stall
        self.trace: list[tuple[str, str, int]] = []
        self.use(program)

    def use(self, program: list[Instruction] | bytes) -> None:
        """Put another program into the memory."""
        self.memory.data = program if isinstance(program, bytes) else assemble(program)
        for unit in self.units.values():
            unit.log.clear()

    @property
    def logs(self) -> dict[Queue, list[tuple[int, str, int]]]:
        return {queue: unit.log for queue, unit in self.units.items()}

    async def watch(self, ctx: Any) -> None:
        names = list(UNITS.values())
        ports = [getattr(self.dut, f"trace_{name}_{what}") for name in names for what in ("start", "pc", "done")]
        while True:
            values = (await ctx.tick().sample(*ports))[2:]
            for index, name in enumerate(names):
                start, pc, done = values[3 * index : 3 * index + 3]
                if start:
                    self.trace.append((name, "start", pc))
                if done:
                    self.trace.append((name, "done", -1))

    def bus(self, ctx: Any) -> LiteManager:
        return LiteManager(ctx, self.dut.axil, self.rng, stall=self.stall)

    async def ready(self, bus: LiteManager) -> None:
        """Wait until a reset is over."""
        while await bus.get("STATUS") & RESETTING:
            pass

    async def start(self, bus: LiteManager, *, watchdog: int = 3000) -> None:
        await bus.set("WATCHDOG", watchdog)
        await bus.set("PROG_COUNT", len(self.memory.data) // INSTRUCTION_BYTES)
        await bus.set("REGION0_BASE_LO", BASE & 0xFFFF_FFFF)
        await bus.set("REGION0_BASE_HI", BASE >> 32)
        await bus.set("REGION0_SIZE", len(self.memory.data))
        await bus.set("CTRL", 1)

    async def finish(self, bus: LiteManager, limit: int = 3000) -> int:
        """Poll until no longer busy; return STATUS."""
        for _ in range(limit):
            status = await bus.get("STATUS")
            if not status & BUSY:
                return status
        raise AssertionError("hung")

    async def error(self, bus: LiteManager) -> tuple[ErrorCause, int, int]:
        return ErrorCause(await bus.get("ERR_CAUSE")), await bus.get("ERR_PC"), await bus.get("ERR_INFO")

    async def recover(self, bus: LiteManager) -> None:
        """Soft reset, then a good program must run."""
        await bus.set("CTRL", 2)
        await self.ready(bus)
        assert await bus.get("STATUS") == 0
        assert await self.error(bus) == (ErrorCause.NONE, 0, 0)
        assert not self.memory.open
        for unit in self.units.values():
            unit.errors, unit.hang_at = {}, None
        program = frame(CONFIG, list(token_program(self.rng, 12)))
        self.use(program)
        await self.start(bus)
        assert await self.finish(bus) == DONE
        check_order(program, self.logs)

    def run(self, bench: Any) -> None:
        simulate(self.dut, bench, background=(self.memory.run, self.watch, *(u.run for u in self.units.values())))


def load(wait: int = 0, signal: int = 0) -> Instruction:
    return Instruction(Opcode.LOAD, {"wait": wait, "signal": signal})


def execute(wait: int = 0, signal: int = 0) -> Instruction:
    return Instruction(Opcode.EXEC, {"wait": wait, "signal": signal})


def store(wait: int = 0, signal: int = 0) -> Instruction:
    return Instruction(Opcode.STORE, {"wait": wait, "signal": signal})


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


@pytest.mark.parametrize("queue", list(Queue))
@pytest.mark.parametrize("cause", [ErrorCause.MEM_RANGE, ErrorCause.AXI_READ])
def test_unit_errors_stop_and_recover(queue: Queue, cause: ErrorCause) -> None:
    """The unit's report is kept, no further instruction starts, and a soft reset recovers."""
    body = [load(), execute(), store()] * 10
    program = frame(CONFIG, body)
    failing = 1 + 3 * 2 + queue
    rig = Rig(program, seed=queue + 10)
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


def test_only_the_first_error_is_kept() -> None:
    rig = Rig(frame(CONFIG, [load(), execute()]))
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
        (lambda p: p[:191] + b"\x80" + p[192:], ErrorCause.BAD_FIELD, 2),
        (lambda p: p[:-64], ErrorCause.TRUNCATED, 3),
    ],
)
def test_fetch_errors_stop_and_recover(image: Any, cause: ErrorCause, pc: int) -> None:
    rig = Rig(image(assemble(frame(CONFIG, [load(), execute()]))), seed=pc)

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        assert await rig.finish(bus) == ERROR
        assert (await rig.error(bus))[:2] == (cause, pc)
        await rig.recover(bus)

    rig.run(bench)


def test_bus_error_on_fetch_recovers() -> None:
    rig = Rig(frame(CONFIG, [load()] * 5))
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
def test_deadlock_is_found(body: list[Instruction], pc: int, info: int) -> None:
    rig = Rig(frame(CONFIG, body), seed=pc)

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus)
        assert await rig.finish(bus) == ERROR
        assert await rig.error(bus) == (ErrorCause.DEADLOCK, pc, info)
        await rig.recover(bus)

    rig.run(bench)


def test_token_overflow() -> None:
    rig = Rig(frame(CONFIG, [load(signal=0b100)] * (TOKEN_MAX + 1)), stall=0.0)
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
def test_watchdog(queue: Queue) -> None:
    """A unit that makes no progress is reported with the instruction it hangs on."""
    rig = Rig(frame(CONFIG, [load(), execute(), store()] * 2), seed=queue)
    rig.units[queue].hang_at = 4 + queue

    async def bench(ctx: Any) -> None:
        bus = rig.bus(ctx)
        await rig.ready(bus)
        await rig.start(bus, watchdog=150)
        assert await rig.finish(bus) == ERROR
        assert await rig.error(bus) == (ErrorCause.WATCHDOG, 4 + queue, 1 << queue)
        await rig.recover(bus)

    rig.run(bench)


def test_watchdog_on_a_dead_bus_and_switched_off() -> None:
    """No answer to a fetch: WATCHDOG after the set time, never with 0; reset waits for the open transfers."""
    rig = Rig(frame(CONFIG, [load()] * 3))
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
