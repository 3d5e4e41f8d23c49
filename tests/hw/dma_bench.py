"""What the tests of the DMA units share: configurations, regions, random instructions, control driver."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from amaranth.hdl import Const
from amaranth.lib.wiring import Component
from amaranth.sim import SimulatorContext

from hw.layouts import REGIONS_LAYOUT
from hw.spec.config import preset
from hw.spec.csr import REGION_COUNT, ErrorCause
from hw.spec.isa import Instruction, Opcode, encode

CONFIGS = {64: preset("tiny"), 128: preset("tiny").twin(rows=8, cols=8, axi_data_width=128)}
"""AXI data width to a small configuration."""

WIDE_CONFIGS = {
    256: preset("tiny").twin(cols=24, axi_data_width=256),
    1024: preset("tiny").twin(cols=128, axi_data_width=1024),
}
"""Wider buses, where 4 KiB pages (1024 bits) or the burst length (256 bits) bound a burst."""

BASE = 0x12_8000_0000
REGION_BYTES = 0x4000


def dram_bytes() -> int:
    """Bytes of all regions together."""
    return REGION_BYTES * REGION_COUNT


def region_base(region: int) -> int:
    """Byte address of a region; they lie in reverse order, so that a wrong index shows."""
    return BASE + REGION_BYTES * (REGION_COUNT - 1 - region)


def regions() -> Const:
    """Value of the regions port."""
    return REGIONS_LAYOUT.const([{"base": region_base(i), "size": REGION_BYTES} for i in range(REGION_COUNT)])


def word(instruction: Instruction) -> int:
    """Instruction as the hardware sees it."""
    return int.from_bytes(encode(instruction), "little")


def dma(opcode: Opcode, **values: int) -> Instruction:
    """Make a LOAD or STORE of one row unless said otherwise."""
    return Instruction(opcode, {"rows": 1, **values})


def random_dma(
    rng: random.Random, opcode: Opcode, slot: range, *, grain: int = 1, target: int = 0, most_rows: int = 6
) -> Instruction:
    """Random instruction whose on-chip bytes lie in `slot`, all addresses multiples of `grain`."""
    rows = rng.randint(1, most_rows)
    room = len(slot) // grain
    units = min(rng.choice((1, 2, 7, 49, 100, 200)), room)
    units = rng.randint(1, units)
    mem_stride = rng.randint(units, max(units, (room - units) // rows))
    while (rows - 1) * mem_stride + units > room:
        rows -= 1
    span = (rows - 1) * mem_stride + units
    slack = room - span
    mem = rng.choice((0, slack, rng.randint(0, slack)))
    dram_room = REGION_BYTES // grain
    stride = rng.choice((0, units, rng.randint(0, (dram_room - units) // rows)))
    dram_slack = dram_room - ((rows - 1) * stride + units)
    start = rng.choice((0, dram_slack, rng.randint(0, dram_slack)))
    values = {
        "region": rng.randrange(REGION_COUNT),
        "dram_offset": start * grain,
        "mem_addr": slot.start + mem * grain,
        "rows": rows,
        "row_bytes": units * grain,
        "dram_stride": stride * grain,
        "mem_stride": mem_stride * grain,
    }
    if opcode is Opcode.LOAD:
        values["target"] = target
    return Instruction(opcode, values)


def rows_of(instruction: Instruction) -> list[tuple[int, int, int]]:
    """Return (DRAM address, on-chip address, bytes) of each row."""
    return [
        (
            region_base(instruction["region"]) + instruction["dram_offset"] + row * instruction["dram_stride"],
            instruction["mem_addr"] + row * instruction["mem_stride"],
            instruction["row_bytes"],
        )
        for row in range(instruction["rows"])
    ]


def beats_of(instruction: Instruction, beat_bytes: int) -> int:
    """Beats an instruction moves."""
    return sum((addr + count - 1) // beat_bytes - addr // beat_bytes + 1 for addr, _, count in rows_of(instruction))


@dataclass
class UnitDriver:
    """Feeds a unit's instruction stream and watches its control outputs.

    Attributes
    ----------
    accepted, done
        Cycles in which instructions were accepted and reported done.
    totals
        Sums of the ``events`` members over all cycles.
    """

    dut: Component
    instructions: list[Instruction]
    first_pc: int = 100
    gap: float = 0.0
    seed: int = 0
    cycle: int = 0
    accepted: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("busy", "dram", "port", "bytes"), 0))

    async def feed(self, ctx: SimulatorContext) -> None:
        """Background bench: offer the instructions in order."""
        rng = random.Random(self.seed)
        instr = self.dut.unit.instr
        for index, instruction in enumerate(self.instructions):
            while rng.random() < self.gap:
                await ctx.tick()
            ctx.set(instr.valid, 1)
            ctx.set(instr.payload, {"word": word(instruction), "pc": self.first_pc + index})
            ready = 0
            while not ready:  # `until` cannot be abandoned when a test ends first
                _, _, ready = await ctx.tick().sample(instr.ready)
            ctx.set(instr.valid, 0)
            self.accepted.append(self.cycle)

    async def watch(self, ctx: SimulatorContext) -> None:
        """Background bench: count cycles, dones and events.  To be added before `feed` (it advances `cycle`)."""
        unit, events = self.dut.unit, self.dut.events
        while True:
            _, _, done, *counts = await ctx.tick().sample(unit.done, *(events[name] for name in self.totals))
            self.cycle += 1
            if done:
                assert len(self.done) < len(self.accepted), "more done than accepted"
                self.done.append(self.cycle)
            for name, count in zip(self.totals, counts, strict=True):
                self.totals[name] += count

    async def wait_done(self, ctx: SimulatorContext, limit: int = 20_000) -> None:
        """Return when all instructions are done; fail on an error or after `limit` cycles."""
        unit = self.dut.unit
        while len(self.done) < len(self.instructions):
            assert not ctx.get(unit.error.valid), f"error {ErrorCause(ctx.get(unit.error.cause)).name}"
            assert self.cycle < limit, f"only {len(self.done)} of {len(self.instructions)} done after {limit} cycles"
            await ctx.tick()
        await ctx.tick()
        assert ctx.get(unit.idle)

    async def wait_error(self, ctx: SimulatorContext, limit: int = 2_000) -> tuple[ErrorCause, int, int]:
        """Return cause, index of the instruction and info of the error."""
        error = self.dut.unit.error
        while not ctx.get(error.valid):
            assert self.cycle < limit, f"no error after {limit} cycles"
            await ctx.tick()
        return ErrorCause(ctx.get(error.cause)), ctx.get(error.pc) - self.first_pc, ctx.get(error.info)

    async def wait_idle(self, ctx: SimulatorContext, limit: int = 2_000) -> int:
        """Return the number of cycles until ``idle``."""
        for cycles in range(limit):
            if ctx.get(self.dut.unit.idle):
                return cycles
            await ctx.tick()
        raise AssertionError(f"not idle after {limit} cycles")
