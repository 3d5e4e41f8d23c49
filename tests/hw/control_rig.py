"""Control with a bus manager, a memory and three fake units."""

from __future__ import annotations

import random
from typing import Any

from hw.control import UNITS, Control
from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.csr import REGISTERS, ErrorCause
from hw.spec.isa import INSTRUCTION_BYTES, Instruction, Opcode, Queue, assemble
from tests.hw.control_bench import FakeUnit, LiteManager, ReadMemory, check_order, frame, simulate, token_program

CONFIG = PRESETS["tiny"]
BASE = 0x8_0000_0000
BUSY, DONE, ERROR, RESETTING = 1, 2, 4, 8

assert [field.name for field in REGISTERS["STATUS"].fields.fields] == ["busy", "done", "error", "resetting"]


class Rig:
    """Control with a bus manager, a memory and three fake units."""

    def __init__(
        self,
        program: list[Instruction] | bytes,
        *,
        seed: int = 0,
        stall: float = 0.2,
        config: AcceleratorConfig = CONFIG,
    ) -> None:
        self.config, self.dut = config, Control(config)
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
        program = frame(self.config, list(token_program(self.rng, 12)))
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
