"""Fetcher: instruction stream over every bus width, checks, limits, abort, restart."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from hw.fetch import PREFETCH, Fetcher
from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import INSTRUCTION_BYTES, QUEUE_OF, Instruction, Opcode, Queue, assemble
from tests.hw.control_bench import ReadMemory, frame, simulate, token_program

BASE = 0x12_3456_7000
WIDTHS = {
    64: PRESETS["tiny"],
    128: PRESETS["edge16"],
    256: PRESETS["edge32"],
    512: PRESETS["edge64"],
    1024: AcceleratorConfig(cols=256, act_kib=1024, axi_data_width=1024),
}
TINY = PRESETS["tiny"]


class Rig:
    """A fetcher on a memory, its queues drained at random."""

    def __init__(self, config: AcceleratorConfig, image: bytes, *, seed: int = 0, stall: float = 0.3) -> None:
        self.config, self.image = config, image
        self.dut = Fetcher(config)
        self.rng = random.Random(seed)
        self.memory = ReadMemory(self.dut.axi, image, BASE, self.rng, stall=stall)
        self.received: list[tuple[int, Queue, int]] = []
        self.headers = 0
        self.open_queues = set(Queue)
        self.stall = stall

    async def drain(self, ctx: Any) -> None:
        ports = {queue: getattr(self.dut, queue.name.lower()) for queue in Queue}
        ready = dict.fromkeys(Queue, False)
        while True:
            sampled = await ctx.tick().sample(
                self.dut.header, *(signal for port in ports.values() for signal in (port.valid, port.payload))
            )
            self.headers += sampled[2]
            for index, queue in enumerate(Queue):
                valid, payload = sampled[3 + 2 * index : 5 + 2 * index]
                if valid and ready[queue]:
                    self.received.append((payload.pc, queue, payload.word))
                ready[queue] = queue in self.open_queues and self.rng.random() >= self.stall
                ctx.set(ports[queue].ready, ready[queue])

    async def start(self, ctx: Any, *, offset: int = 0, count: int | None = None, size: int | None = None) -> None:
        dut = self.dut
        ctx.set(dut.regions[0].base, BASE)
        ctx.set(dut.regions[0].size, len(self.image) if size is None else size)
        ctx.set(dut.offset, offset)
        ctx.set(dut.count, (len(self.image) - offset) // INSTRUCTION_BYTES if count is None else count)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)

    async def finish(self, ctx: Any, limit: int = 20000) -> None:
        dut = self.dut
        for _ in range(limit):
            if ctx.get(dut.error.valid) or (ctx.get(dut.halted) and ctx.get(dut.idle)):
                return
            await ctx.tick()
        raise AssertionError("the fetcher never came to an end")

    def error(self, ctx: Any) -> tuple[ErrorCause, int, int]:
        error = self.dut.error
        assert ctx.get(error.valid)
        return ErrorCause(ctx.get(error.cause)), ctx.get(error.pc), ctx.get(error.info)

    def run(self, bench: Any) -> None:
        simulate(self.dut, bench, background=(self.memory.run, self.drain))


def expected(program: list[Instruction]) -> list[tuple[int, Queue, int]]:
    return [
        (pc, QUEUE_OF[instruction.opcode], int.from_bytes(assemble([instruction]), "little"))
        for pc, instruction in enumerate(program)
        if instruction.opcode in QUEUE_OF
    ]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_program_arrives_whole(width: int, stall: float) -> None:
    """Every instruction, in order, at an odd offset, with garbage behind HALT; then once more without reset."""
    config = WIDTHS[width]
    assert config.axi_data_width == width
    rng = random.Random(width)
    program = frame(config, list(token_program(rng, 40)))
    offset = 5 * INSTRUCTION_BYTES
    image = rng.randbytes(offset) + assemble(program) + rng.randbytes(3 * INSTRUCTION_BYTES)
    rig = Rig(config, image, seed=width, stall=stall)

    async def bench(ctx: Any) -> None:
        for _ in range(2):
            rig.received.clear()
            rig.memory.bursts.clear()
            rig.headers = 0
            await rig.start(ctx, offset=offset)
            await rig.finish(ctx)
            assert not ctx.get(rig.dut.error.valid)
            assert rig.received == expected(program) and rig.headers == 1
            assert rig.memory.bursts[: len(program)] == [BASE + offset + 64 * pc for pc in range(len(program))]
            assert not rig.memory.open

    rig.run(bench)


def test_prefetch_hides_latency() -> None:
    """With 20 cycles of latency a 64-bit bus still delivers an instruction at least every 16 cycles."""
    program = frame(TINY, [Instruction(Opcode.LOAD, {"rows": 1})] * 40)
    rig = Rig(TINY, assemble(program), stall=0.0)
    rig.memory.latency = 20
    cycles = 0

    async def bench(ctx: Any) -> None:
        nonlocal cycles
        await rig.start(ctx)
        while not ctx.get(rig.dut.halted):
            await ctx.tick()
            cycles += 1

    rig.run(bench)
    assert cycles < 16 * len(program)


def damaged(position: int, instruction: Instruction | bytes) -> bytes:
    """Five instructions, one of which is replaced."""
    program = frame(TINY, [Instruction(Opcode.LOAD, {"rows": 7}), Instruction(Opcode.EXEC), Instruction(Opcode.STORE)])
    words = [assemble([item]) for item in program]
    words[position] = instruction if isinstance(instruction, bytes) else assemble([instruction])
    return b"".join(words)


GOOD_HEAD = frame(TINY, [Instruction(Opcode.EXEC)] * 3)[0]


def low(data: bytes, position: int) -> int:
    return int.from_bytes(data[64 * position : 64 * position + 4], "little")


@pytest.mark.parametrize(
    ("position", "word", "cause", "info"),
    [
        (0, Instruction(Opcode.LOAD), ErrorCause.NO_HEADER, None),
        (0, bytes(64), ErrorCause.NO_HEADER, 0),
        (
            0,
            replace(GOOD_HEAD, values=GOOD_HEAD.values | {"config_hash": TINY.hash ^ (1 << 63)}),
            ErrorCause.HASH_MISMATCH,
            TINY.hash & 0xFFFF_FFFF,
        ),
        (
            0,
            replace(GOOD_HEAD, values=GOOD_HEAD.values | {"isa_version": 99}),
            ErrorCause.HASH_MISMATCH,
            TINY.hash & 0xFFFF_FFFF,
        ),
        (2, GOOD_HEAD, ErrorCause.BAD_OPCODE, Opcode.HEADER),
        (2, bytes(64), ErrorCause.BAD_OPCODE, 0),
        (3, bytes([0xF]) + bytes(63), ErrorCause.BAD_OPCODE, 15),
        (0, assemble([GOOD_HEAD])[:63] + b"\x80", ErrorCause.BAD_FIELD, None),
        (1, bytes([Opcode.LOAD]) + bytes(62) + b"\x01", ErrorCause.BAD_FIELD, None),
        (4, bytes([Opcode.HALT, 0x04]) + bytes(62), ErrorCause.BAD_FIELD, None),
        (1, Instruction(Opcode.LOAD, {"wait": 1}), ErrorCause.BAD_FIELD, None),
        (1, Instruction(Opcode.LOAD, {"signal": 1}), ErrorCause.BAD_FIELD, None),
        (2, Instruction(Opcode.EXEC, {"wait": 2}), ErrorCause.BAD_FIELD, None),
        (3, Instruction(Opcode.STORE, {"signal": 4}), ErrorCause.BAD_FIELD, None),
        (4, Instruction(Opcode.HALT, {"wait": 1}), ErrorCause.BAD_FIELD, None),
    ],
    ids=lambda value: value[:2].hex() if isinstance(value, bytes) else str(value),
)
def test_bad_instruction(position: int, word: Instruction | bytes, cause: ErrorCause, info: int | None) -> None:
    """The cause and index are exact; everything before is handed on, nothing after."""
    image = damaged(position, word)
    rig = Rig(TINY, image, seed=position)

    async def bench(ctx: Any) -> None:
        await rig.start(ctx)
        await rig.finish(ctx)
        assert rig.error(ctx) == (cause, position, low(image, position) if info is None else info)
        await ctx.tick().repeat(300)
        assert ctx.get(rig.dut.idle) and not rig.memory.open
        assert [pc for pc, _, _ in rig.received] == list(range(1, position))

    rig.run(bench)


@pytest.mark.parametrize(
    ("arguments", "cause", "pc", "info"),
    [
        ({"count": 4}, ErrorCause.TRUNCATED, 4, 4),
        ({"count": 0}, ErrorCause.TRUNCATED, 0, 0),
        ({"size": 3 * 64}, ErrorCause.DRAM_RANGE, 3, 3 * 64),
        ({"size": 4 * 64 - 1}, ErrorCause.DRAM_RANGE, 3, 3 * 64),
        ({"offset": 0x40_0000}, ErrorCause.DRAM_RANGE, 0, 0x40_0000),
        ({"offset": 0xFFFF_FFC0, "count": 9}, ErrorCause.DRAM_RANGE, 0, 0xFFFF_FFC0),
        ({"offset": 0x20, "count": 5}, ErrorCause.MISALIGNED, 0, 0x20),
    ],
)
def test_limits(arguments: dict[str, int], cause: ErrorCause, pc: int, info: int) -> None:
    program = frame(TINY, [Instruction(Opcode.EXEC)] * 3)
    rig = Rig(TINY, assemble(program))

    async def bench(ctx: Any) -> None:
        await rig.start(ctx, **{"count": 5, **arguments})
        await rig.finish(ctx)
        assert rig.error(ctx) == (cause, pc, info)
        await ctx.tick().repeat(100)
        assert ctx.get(rig.dut.idle)
        assert len(rig.memory.bursts) == pc, "nothing is read beyond the limit"

    rig.run(bench)


def test_header_count_limits_too() -> None:
    program = frame(TINY, [Instruction(Opcode.EXEC)] * 3)
    program[0] = replace(program[0], values=program[0].values | {"count": 3})
    rig = Rig(TINY, assemble(program))

    async def bench(ctx: Any) -> None:
        await rig.start(ctx)
        await rig.finish(ctx)
        assert rig.error(ctx) == (ErrorCause.TRUNCATED, 3, 3)

    rig.run(bench)


@pytest.mark.parametrize(
    ("region", "base", "size", "cause"),
    [
        (0, BASE + 64, 4096, ErrorCause.MISALIGNED),
        (3, 0x800, 64, ErrorCause.MISALIGNED),
        (2, 1 << TINY.axi_addr_width, 64, ErrorCause.DRAM_RANGE),
        (1, (1 << TINY.axi_addr_width) - 4096, 4097, ErrorCause.DRAM_RANGE),
        (1, (1 << 64) - 4096, 4096, ErrorCause.DRAM_RANGE),
    ],
)
def test_regions_are_checked(region: int, base: int, size: int, cause: ErrorCause) -> None:
    rig = Rig(TINY, assemble(frame(TINY, [])))

    async def bench(ctx: Any) -> None:
        dut = rig.dut
        ctx.set(dut.regions[region].base, base)
        ctx.set(dut.regions[region].size, size)
        ctx.set(dut.count, 2)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        await rig.finish(ctx)
        assert rig.error(ctx) == (cause, 0, base & 0xFFFF_FFFF)
        assert not rig.memory.bursts

    rig.run(bench)


def test_last_bytes_of_the_address_space_are_usable() -> None:
    rig = Rig(TINY, assemble(frame(TINY, [])))

    async def bench(ctx: Any) -> None:
        ctx.set(rig.dut.regions[1].base, (1 << TINY.axi_addr_width) - 4096)
        ctx.set(rig.dut.regions[1].size, 4096)
        await rig.start(ctx)
        await rig.finish(ctx)
        assert not ctx.get(rig.dut.error.valid)

    rig.run(bench)


@pytest.mark.parametrize("hit", [0, 2, 4])
def test_bus_error_stops_at_its_instruction(hit: int) -> None:
    """SLVERR on any beat of an instruction; one prefetched behind HALT does no harm."""
    program = frame(TINY, [Instruction(Opcode.EXEC)] * 2)
    image = assemble(program) + bytes(64 * 4)
    rig = Rig(TINY, image)
    rig.memory.faults = {BASE + 64 * hit + 8 * (hit + 1)}

    async def bench(ctx: Any) -> None:
        await rig.start(ctx)
        await rig.finish(ctx)
        if hit < len(program):
            assert rig.error(ctx) == (ErrorCause.AXI_READ, hit, (BASE + 64 * hit) & 0xFFFF_FFFF)
        else:
            assert not ctx.get(rig.dut.error.valid)
        assert BASE + 64 * hit in rig.memory.bursts

    rig.run(bench)


def test_full_queue_stalls_and_abort_ends() -> None:
    program = frame(TINY, [Instruction(Opcode.LOAD)] * 30)
    rig = Rig(TINY, assemble(program))
    rig.open_queues = set()

    async def bench(ctx: Any) -> None:
        dut = rig.dut
        await rig.start(ctx)
        await ctx.tick().repeat(400)
        assert ctx.get(dut.stalled) and ctx.get(dut.pc) == 1 and not ctx.get(dut.starved)
        assert len(rig.memory.bursts) == 2 + PREFETCH, "prefetching stops when the buffer is full"
        ctx.set(dut.abort, 1)
        await ctx.tick().repeat(100)
        assert ctx.get(dut.idle) and not rig.received
        assert len(rig.memory.bursts) == 2 + PREFETCH

    rig.run(bench)


@pytest.mark.parametrize("when", range(3, 60, 7))
def test_abort_at_any_time_closes_the_bus(when: int) -> None:
    program = frame(TINY, [Instruction(Opcode.LOAD)] * 30)
    rig = Rig(TINY, assemble(program), seed=when, stall=0.5)

    async def bench(ctx: Any) -> None:
        await rig.start(ctx)
        await ctx.tick().repeat(when)
        ctx.set(rig.dut.abort, 1)
        await ctx.tick()
        asked = len(rig.memory.bursts)
        await ctx.tick().repeat(300)
        assert ctx.get(rig.dut.idle) and not rig.memory.open
        assert len(rig.memory.bursts) <= asked + 1, "only an address already offered may still go out"
        assert not ctx.get(rig.dut.error.valid)

    rig.run(bench)
