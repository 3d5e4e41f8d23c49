# amaranth: UnusedElaboratable=no
"""Load unit against a copy loop, on an AXI memory with latency, stalls and error responses."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
from amaranth.sim import Simulator, SimulatorContext

from hw.load_unit import LoadUnit
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import Instruction, Opcode, Target
from tests.hw.axi_model import AxiReadMemory, Dram, WritePortModel, check_registered
from tests.hw.dma_bench import (
    BASE,
    CONFIGS,
    WIDE_CONFIGS,
    UnitDriver,
    beats_of,
    dma,
    dram_bytes,
    random_dma,
    region_base,
    regions,
    rows_of,
)


class LoadBench:
    """A load unit between an AXI memory and three on-chip memories, and what the memories should hold."""

    def __init__(
        self,
        config: AcceleratorConfig,
        instructions: list[Instruction],
        *,
        seed: int = 1,
        gap: float = 0.0,
        port_stall: float = 0.0,
        **axi: object,
    ) -> None:
        rng = random.Random(seed)
        self.config, self.instructions = config, instructions
        self.dut = LoadUnit(config)
        self.dram = Dram(BASE, rng.randbytes(dram_bytes()))
        self.axi = AxiReadMemory(self.dut.axi, self.dram, seed=seed, **axi)
        sizes = {Target.ACT: config.act_bytes, Target.WEIGHT: config.weight_bytes, Target.PARAM: config.param_bytes}
        self.memories = {target: bytearray(rng.randbytes(size)) for target, size in sizes.items()}
        self.expected = {target: bytearray(content) for target, content in self.memories.items()}
        for instruction in instructions:
            self.copy(instruction)
        self.port = WritePortModel(self.dut.act, self.memories[Target.ACT], seed=seed, stall=port_stall)
        self.driver = UnitDriver(self.dut, instructions, gap=gap, seed=seed)

    def copy(self, instruction: Instruction) -> None:
        memory = self.expected.get(Target(instruction["target"]) if instruction["target"] < 3 else None)
        for addr, mem, count in rows_of(instruction):
            if memory is not None and 0 <= addr - BASE <= len(self.dram.data) - count and mem + count <= len(memory):
                memory[mem : mem + count] = self.dram.data[addr - BASE :][:count]

    async def _whole_beats(self, ctx: SimulatorContext) -> None:
        """Background bench: the weight and parameter memories."""
        dut, size = self.dut, self.config.axi_bytes
        while True:
            _, _, *ports = await ctx.tick().sample(
                dut.weight_en, dut.weight_addr, dut.weight_data, dut.param_en, dut.param_addr, dut.param_data
            )
            for target, (en, addr, value) in ((Target.WEIGHT, ports[:3]), (Target.PARAM, ports[3:])):
                if en:
                    self.memories[target][addr * size : (addr + 1) * size] = value.to_bytes(size, "little")

    async def _check_done(self, ctx: SimulatorContext) -> None:
        """Background bench: when an instruction is done, its rows (none overlaps another instruction's) are there."""
        pending = iter(self.instructions)
        while True:
            _, _, done = await ctx.tick().sample(self.dut.unit.done)
            if done:
                instruction = next(pending)
                target = Target(instruction["target"])
                for _, mem, size in rows_of(instruction):
                    assert self.memories[target][mem : mem + size] == self.expected[target][mem : mem + size]

    def run(self, test: Callable[[SimulatorContext], Awaitable[None]]) -> None:
        async def bench(ctx: SimulatorContext) -> None:
            ctx.set(self.dut.regions, regions())
            await test(ctx)

        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        for process in (
            self._check_done, self.driver.watch, self.driver.feed, self._whole_beats, self.axi.run, self.port.run
        ):  # fmt: skip
            sim.add_testbench(process, background=True)
        sim.add_testbench(bench)
        sim.run()

    def complete(self) -> None:
        """Run all instructions to their end and compare everything."""
        self.run(self.driver.wait_done)
        self.axi.finish()
        assert self.memories == self.expected
        beats = sum(beats_of(i, self.config.axi_bytes) for i in self.instructions)
        assert self.axi.beats == beats
        assert self.driver.totals["bytes"] == beats * self.config.axi_bytes


def mixed(config: AcceleratorConfig, rng: random.Random) -> list[Instruction]:
    """Loads to all targets; those to one memory tile it, so that both its ends are used and none overlap."""
    slots = [range(i * config.act_bytes // 12, (i + 1) * config.act_bytes // 12) for i in range(12)]
    instructions = [random_dma(rng, Opcode.LOAD, slot) for slot in slots]
    for target, size in ((Target.WEIGHT, config.weight_bytes), (Target.PARAM, config.param_bytes)):
        slots = [range(i * size // 4, (i + 1) * size // 4) for i in range(4)]
        instructions += [
            random_dma(rng, Opcode.LOAD, slot, grain=config.axi_bytes, target=target.value) for slot in slots
        ]
    rng.shuffle(instructions)
    return instructions


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("latency", "stall", "port_stall", "gap"), [(1, 0.0, 0.0, 0.0), (20, 0.3, 0.5, 0.3), (3, 0.7, 0.1, 0.9)]
)
@pytest.mark.parametrize("width", CONFIGS)
def test_random(width: int, latency: int, stall: float, port_stall: float, gap: float, seed: int) -> None:
    config = CONFIGS[width]
    instructions = mixed(config, random.Random(f"{width} {stall} {seed}"))
    LoadBench(config, instructions, seed=seed, latency=latency, stall=stall, port_stall=port_stall, gap=gap).complete()


@pytest.mark.parametrize("width", WIDE_CONFIGS)
def test_wide_bus(width: int) -> None:
    config = WIDE_CONFIGS[width]
    LoadBench(config, mixed(config, random.Random(width)), latency=9, stall=0.3, port_stall=0.3).complete()


@pytest.mark.parametrize("width", CONFIGS)
def test_every_alignment(width: int) -> None:
    """Every DRAM alignment with every on-chip alignment and lengths around one and two beats."""
    config = CONFIGS[width]
    size = config.axi_bytes
    lengths = (1, 2, size - 1, size, size + 1, 2 * size + 1)
    rng = random.Random(width)
    pairs = [(skip, at) for skip in range(size) for at in range(size)]
    instructions = [
        dma(Opcode.LOAD, region=2, dram_offset=32 * size + skip, mem_addr=64 * slot + at, row_bytes=rng.choice(lengths))
        for slot, (skip, at) in enumerate(pairs)
    ]
    LoadBench(config, instructions, latency=2).complete()


@pytest.mark.parametrize("width", CONFIGS)
@pytest.mark.parametrize("shape", ["rows of 49", "short instructions", "one long row"])
def test_throughput(width: int, shape: str) -> None:
    """One beat per cycle with 64 cycles of latency; instruction n + 1 is requested while n's data arrives."""
    config, latency = CONFIGS[width], 64
    match shape:
        case "rows of 49":
            load = {"rows": 60, "row_bytes": 49, "dram_stride": 51, "mem_stride": 49}
            instructions = [dma(Opcode.LOAD, mem_addr=3000 * i, dram_offset=5 + 3100 * i, **load) for i in range(5)]
        case "short instructions":
            instructions = [dma(Opcode.LOAD, mem_addr=98 * i, dram_offset=98 * i, row_bytes=98) for i in range(60)]
        case _:
            instructions = [dma(Opcode.LOAD, mem_addr=1, dram_offset=3, row_bytes=10_000)]
    bench = LoadBench(config, instructions, latency=latency)
    bench.complete()
    beats = sum(beats_of(instruction, config.axi_bytes) for instruction in instructions)
    cycles = bench.driver.done[-1] - bench.driver.accepted[0]
    assert beats > 300
    assert cycles <= beats + latency + 12, f"{beats} beats took {cycles} cycles"
    assert bench.driver.totals["dram"] <= latency + 10
    assert bench.driver.totals["port"] == 0
    assert abs(bench.driver.totals["busy"] - cycles) <= 2


def test_latency() -> None:
    """The latencies that the docstring gives."""
    config = CONFIGS[64]
    bench = LoadBench(config, [dma(Opcode.LOAD, row_bytes=8)], latency=1)
    marks: dict[str, int] = {}

    async def test(ctx: SimulatorContext) -> None:
        dut = bench.dut
        signals = {
            "accept": dut.unit.instr.valid & dut.unit.instr.ready,
            "ar": dut.axi.arvalid,
            "r": dut.axi.rvalid & dut.axi.rready,
            "write": dut.act.req.valid & dut.act.req.ready,
            "done": dut.unit.done,
        }
        for cycle in range(40):
            _, _, *values = await ctx.tick().sample(*signals.values())
            for name, value in zip(signals, values, strict=True):
                if value:
                    marks.setdefault(name, cycle)

    bench.run(test)
    assert marks["ar"] - marks["accept"] == 5
    assert marks["write"] - marks["r"] == 2
    assert marks["done"] - marks["write"] == 2


def test_many_outstanding() -> None:
    """A slow memory sees `outstanding` bursts, one per cycle, and no more."""
    config = CONFIGS[64]
    load = dma(Opcode.LOAD, rows=150, row_bytes=8, dram_stride=16, mem_stride=8)
    bench = LoadBench(config, [load], latency=300)
    bench.complete()
    assert bench.axi.most_open == bench.dut.outstanding == 64
    first = bench.axi.bursts[0].cycle
    assert [burst.cycle for burst in bench.axi.bursts[:64]] == list(range(first, first + 64))


def test_port_conflicts_are_counted() -> None:
    config = CONFIGS[64]
    bench = LoadBench(config, [dma(Opcode.LOAD, row_bytes=2000)], latency=4, port_stall=0.5)
    bench.complete()
    totals = bench.driver.totals
    assert 180 <= totals["port"] <= 320
    assert totals["dram"] <= 25


@pytest.mark.parametrize("width", CONFIGS)
@pytest.mark.parametrize("bad_beat", [0, 3, 11])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_bus_error(width: int, bad_beat: int, stall: float) -> None:
    """SLVERR in instruction 1: the cause names it, nothing of it is written from there on, the bus is drained."""
    config = CONFIGS[width]
    size = config.axi_bytes
    loads = [dma(Opcode.LOAD, dram_offset=0x400 * i, mem_addr=0x800 * i, row_bytes=12 * size) for i in range(5)]
    addr = region_base(0) + 0x400
    bench = LoadBench(
        config, loads, latency=10, stall=stall, port_stall=stall, faults=frozenset({addr + bad_beat * size})
    )
    before = bytes(bench.memories[Target.ACT])

    async def test(ctx: SimulatorContext) -> None:
        assert await bench.driver.wait_error(ctx) == (ErrorCause.AXI_READ, 1, addr & 0xFFFFFFFF)
        ctx.set(bench.dut.unit.abort, 1)
        await bench.driver.wait_idle(ctx)
        bursts = len(bench.axi.bursts)
        for _ in range(30):
            assert ctx.get(bench.dut.unit.idle)
            assert not ctx.get(bench.dut.axi.arvalid)
            assert not ctx.get(bench.dut.unit.instr.ready)
            await ctx.tick()
        assert len(bench.axi.bursts) == bursts

    bench.run(test)
    bench.axi.finish()
    assert len(bench.driver.done) == 1
    got, want = bench.memories[Target.ACT], bench.expected[Target.ACT]
    good = 0x800 + bad_beat * size
    assert got[:good] == want[:good]
    assert got[good:] == before[good:]


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"row_bytes": 8, "target": 3}, ErrorCause.BAD_FIELD),
        ({"row_bytes": 12, "target": 1}, ErrorCause.MISALIGNED),
        ({"row_bytes": 12, "rows": 9, "mem_stride": 0x1000}, ErrorCause.MEM_RANGE),
        ({"row_bytes": 12, "rows": 9, "dram_stride": 0x1000}, ErrorCause.DRAM_RANGE),
    ],
)
def test_bad_instruction(values: dict[str, int], cause: ErrorCause) -> None:
    """The bad one and its successor have no effect but rows before the fault; the unit drains and rests."""
    config = CONFIGS[64]
    good = dma(Opcode.LOAD, dram_offset=8, mem_addr=0x3000, row_bytes=0x800)
    bad = dma(Opcode.LOAD, dram_offset=64, mem_addr=0, **values)
    bench = LoadBench(config, [good, bad, good], latency=30)
    before = {target: bytes(memory) for target, memory in bench.memories.items()}

    async def test(ctx: SimulatorContext) -> None:
        got, index, _ = await bench.driver.wait_error(ctx)
        assert (got, index) == (cause, 1)
        await bench.driver.wait_idle(ctx)
        assert not bench.driver.done

    bench.run(test)
    bench.axi.finish()
    for target in (Target.WEIGHT, Target.PARAM):
        assert bench.memories[target] == before[target]
    changed = [i for i, byte in enumerate(bench.memories[Target.ACT]) if byte != before[Target.ACT][i]]
    assert all(bench.memories[Target.ACT][i] == bench.expected[Target.ACT][i] for i in changed)


@pytest.mark.parametrize("when", [3, 6, 7, 12, 40, 70, 110])
@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_abort(when: int, stall: float) -> None:
    """Abort at any time: ARVALID stays until accepted, what was begun is drained, then idle for good."""
    config = CONFIGS[64]
    loads = [dma(Opcode.LOAD, rows=8, row_bytes=49, dram_stride=49, mem_stride=49, mem_addr=400 * i) for i in range(9)]
    bench = LoadBench(config, loads, latency=25, stall=stall, port_stall=stall)

    async def test(ctx: SimulatorContext) -> None:
        await ctx.tick().repeat(when)
        ctx.set(bench.dut.unit.abort, 1)
        await ctx.tick()
        await bench.driver.wait_idle(ctx)
        assert bench.axi.open == 0
        bursts, writes = len(bench.axi.bursts), bench.port.writes
        await ctx.tick().repeat(40)
        assert ctx.get(bench.dut.unit.idle)
        assert (len(bench.axi.bursts), bench.port.writes) == (bursts, writes)

    bench.run(test)
    bench.axi.finish()
    assert len(bench.driver.done) < len(loads)


def test_abort_keeps_arvalid() -> None:
    config = CONFIGS[64]
    bench = LoadBench(config, [dma(Opcode.LOAD, row_bytes=4000)])
    bench.axi.refuse = True

    async def test(ctx: SimulatorContext) -> None:
        await ctx.tick().until(bench.dut.axi.arvalid)
        ctx.set(bench.dut.unit.abort, 1)
        for _ in range(50):
            await ctx.tick()
            assert ctx.get(bench.dut.axi.arvalid)
            assert not ctx.get(bench.dut.unit.idle)
        bench.axi.refuse = False
        await bench.driver.wait_idle(ctx)
        assert len(bench.axi.bursts) == 1

    bench.run(test)
    bench.axi.finish()


def test_no_combinational_handshake() -> None:
    config = CONFIGS[64]
    bench = LoadBench(config, mixed(config, random.Random(3)), latency=5, stall=0.4, port_stall=0.5)
    axi, unit = bench.dut.axi, bench.dut.unit

    async def test(ctx: SimulatorContext) -> None:
        for _ in range(150):
            await ctx.tick()
            await check_registered(ctx, [axi.arready, axi.rvalid], [axi.arvalid, axi.rready, unit.instr.ready])

    bench.run(test)


def test_parameters() -> None:
    with pytest.raises(ValueError, match="outstanding=1 must be at least 2"):
        LoadUnit(CONFIGS[64], outstanding=1)
    with pytest.raises(ValueError, match="instructions=0 must be at least 2"):
        LoadUnit(CONFIGS[64], instructions=0)
