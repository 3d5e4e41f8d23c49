# amaranth: UnusedElaboratable=no
"""Store unit against a copy loop, on an AXI memory with latency, stalls and error responses."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
from amaranth.sim import Simulator, SimulatorContext

from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import Instruction, Opcode
from hw.store_unit import StoreUnit
from tests.hw.axi_model import AxiWriteMemory, Dram, ReadPortModel, check_registered
from tests.hw.dma_bench import (
    BASE,
    CONFIGS,
    REGION_BYTES,
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


class StoreBench:
    """A store unit between a scratchpad and an AXI memory, and what the latter should hold."""

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
        self.dut = StoreUnit(config)
        self.before = rng.randbytes(dram_bytes())
        self.dram = Dram(BASE, self.before)
        self.axi = AxiWriteMemory(self.dut.axi, self.dram, seed=seed, **axi)
        self.act = rng.randbytes(config.act_bytes)
        self.port = ReadPortModel(self.dut.act, self.act, seed=seed, stall=port_stall)
        self.driver = UnitDriver(self.dut, instructions, gap=gap, seed=seed)

    def expected(self, count: int) -> bytes:
        """DRAM after the first `count` instructions."""
        content = bytearray(self.before)
        for instruction in self.instructions[:count]:
            for addr, mem, size in rows_of(instruction):
                content[addr - BASE : addr - BASE + size] = self.act[mem : mem + size]
        return bytes(content)

    async def _check_done(self, ctx: SimulatorContext) -> None:
        """Background bench: when an instruction is done, its last row (nothing overwrites it) is in DRAM."""
        pending = iter(self.instructions)
        while True:
            _, _, done = await ctx.tick().sample(self.dut.unit.done)
            if done:
                addr, mem, size = rows_of(next(pending))[-1]
                assert self.dram.data[addr - BASE : addr - BASE + size] == self.act[mem : mem + size]

    def run(self, test: Callable[[SimulatorContext], Awaitable[None]]) -> None:
        async def bench(ctx: SimulatorContext) -> None:
            ctx.set(self.dut.regions, regions())
            await test(ctx)

        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        for process in (self._check_done, self.driver.watch, self.driver.feed, self.axi.run, self.port.run):
            sim.add_testbench(process, background=True)
        sim.add_testbench(bench)
        sim.run()

    def complete(self) -> None:
        """Run all instructions to their end and compare everything."""
        self.run(self.driver.wait_done)
        self.axi.finish()
        assert self.dram.data == self.expected(len(self.instructions))
        payload = sum(instruction["rows"] * instruction["row_bytes"] for instruction in self.instructions)
        assert self.axi.beats == sum(beats_of(i, self.config.axi_bytes) for i in self.instructions)
        assert self.axi.strobed == self.driver.totals["bytes"] == payload


def mixed(config: AcceleratorConfig, rng: random.Random) -> list[Instruction]:
    """Stores from anywhere; their DRAM ranges tile the regions without overlap."""
    instructions = []
    slot = REGION_BYTES // 4
    for number in rng.sample(range(16), 16):
        store = random_dma(rng, Opcode.STORE, range(config.act_bytes))
        count, rows = store["row_bytes"], store["rows"]
        stride = rng.randint(count, (slot - count) // rows) if rows > 1 else 0
        slack = slot - (rows - 1) * stride - count
        offset = slot * (number % 4) + rng.choice((0, slack, rng.randint(0, slack)))
        values = {**store.values, "region": number // 4, "dram_stride": stride, "dram_offset": offset}
        instructions.append(Instruction(Opcode.STORE, values))
    return instructions


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("latency", "stall", "port_stall", "gap"), [(1, 0.0, 0.0, 0.0), (20, 0.3, 0.5, 0.3), (3, 0.7, 0.1, 0.9)]
)
@pytest.mark.parametrize("width", CONFIGS)
def test_random(width: int, latency: int, stall: float, port_stall: float, gap: float, seed: int) -> None:
    config = CONFIGS[width]
    instructions = mixed(config, random.Random(f"{width} {stall} {seed}"))
    StoreBench(config, instructions, seed=seed, latency=latency, stall=stall, port_stall=port_stall, gap=gap).complete()


@pytest.mark.parametrize("width", WIDE_CONFIGS)
def test_wide_bus(width: int) -> None:
    config = WIDE_CONFIGS[width]
    StoreBench(config, mixed(config, random.Random(width)), latency=9, stall=0.3, port_stall=0.3).complete()


@pytest.mark.parametrize("width", CONFIGS)
def test_every_alignment(width: int) -> None:
    """Every DRAM alignment with every on-chip alignment and lengths around one and two beats."""
    config = CONFIGS[width]
    size = config.axi_bytes
    lengths = (1, 2, size - 1, size, size + 1, 2 * size + 1)
    rng = random.Random(width)
    pairs = [(skip, at) for skip in range(size) for at in range(size)]
    instructions = [
        dma(Opcode.STORE, region=2, dram_offset=64 * slot + skip, mem_addr=640 + at, row_bytes=rng.choice(lengths))
        for slot, (skip, at) in enumerate(pairs)
    ]
    StoreBench(config, instructions, latency=2).complete()


@pytest.mark.parametrize("width", CONFIGS)
@pytest.mark.parametrize("shape", ["rows of 49", "short instructions", "one long row"])
def test_throughput(width: int, shape: str) -> None:
    """One beat per cycle with 64 cycles from data to response, over rows and instructions."""
    config, latency = CONFIGS[width], 64
    match shape:
        case "rows of 49":
            store = {"rows": 60, "row_bytes": 49, "dram_stride": 51, "mem_stride": 49}
            instructions = [dma(Opcode.STORE, mem_addr=3000 * i, dram_offset=5 + 3100 * i, **store) for i in range(5)]
        case "short instructions":
            # The limit is 16 instructions in flight: each must carry latency / 16 beats.
            instructions = [dma(Opcode.STORE, mem_addr=98 * i, dram_offset=98 * i, row_bytes=98) for i in range(60)]
        case _:
            instructions = [dma(Opcode.STORE, mem_addr=1, dram_offset=3, row_bytes=10_000)]
    bench = StoreBench(config, instructions, latency=latency)
    bench.complete()
    beats = sum(beats_of(instruction, config.axi_bytes) for instruction in instructions)
    cycles = bench.driver.done[-1] - bench.driver.accepted[0]
    assert beats > 300
    assert cycles <= beats + latency + 16, f"{beats} beats took {cycles} cycles"
    assert bench.driver.totals["dram"] == bench.driver.totals["port"] == 0
    assert abs(bench.driver.totals["busy"] - cycles) <= 2


def test_latency() -> None:
    """The latencies that the docstring gives."""
    bench = StoreBench(CONFIGS[64], [dma(Opcode.STORE, row_bytes=8)], latency=1)
    marks: dict[str, int] = {}

    async def test(ctx: SimulatorContext) -> None:
        dut = bench.dut
        signals = {
            "accept": dut.unit.instr.valid & dut.unit.instr.ready,
            "aw": dut.axi.awvalid,
            "request": dut.act.req.valid,
            "w": dut.axi.wvalid,
            "b": dut.axi.bvalid & dut.axi.bready,
            "done": dut.unit.done,
        }
        for cycle in range(40):
            _, _, *values = await ctx.tick().sample(*signals.values())
            for name, value in zip(signals, values, strict=True):
                if value:
                    marks.setdefault(name, cycle)

    bench.run(test)
    assert marks["aw"] - marks["accept"] == 5
    assert marks["request"] == marks["aw"]
    assert marks["w"] - marks["aw"] == 4
    assert marks["done"] - marks["b"] == 1


def test_many_outstanding() -> None:
    """A slow memory sees `outstanding` bursts, one per cycle, and no more."""
    store = dma(Opcode.STORE, rows=150, row_bytes=8, dram_stride=16, mem_stride=8)
    bench = StoreBench(CONFIGS[64], [store], latency=300)
    bench.complete()
    assert bench.axi.most_open == bench.dut.outstanding == 64
    first = bench.axi.bursts[0].cycle
    assert [burst.cycle for burst in bench.axi.bursts[:64]] == list(range(first, first + 64))


def test_stalls_are_counted() -> None:
    store = dma(Opcode.STORE, row_bytes=2000)
    port = StoreBench(CONFIGS[64], [store], port_stall=0.5)
    port.complete()
    assert 180 <= port.driver.totals["port"] <= 320
    assert port.driver.totals["dram"] == 0
    bus = StoreBench(CONFIGS[64], [store], stall=0.5)
    bus.complete()
    assert 180 <= bus.driver.totals["dram"] <= 320
    assert bus.driver.totals["port"] == 0


@pytest.mark.parametrize("width", CONFIGS)
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_bus_error(width: int, stall: float) -> None:
    """SLVERR in instruction 1: the cause names it, what was begun is completed, nothing else begins."""
    config = CONFIGS[width]
    stores = [dma(Opcode.STORE, dram_offset=0x800 * i, mem_addr=7 + 900 * i, row_bytes=700) for i in range(6)]
    addr = region_base(0) + 0x800
    bench = StoreBench(config, stores, latency=10, stall=stall, port_stall=stall, faults=frozenset({addr}))

    async def test(ctx: SimulatorContext) -> None:
        assert await bench.driver.wait_error(ctx) == (ErrorCause.AXI_WRITE, 1, addr & 0xFFFFFFFF)
        ctx.set(bench.dut.unit.abort, 1)
        await bench.driver.wait_idle(ctx)
        bench.axi.finish()
        bursts = len(bench.axi.bursts)
        for _ in range(30):
            assert ctx.get(bench.dut.unit.idle)
            assert not ctx.get(bench.dut.axi.awvalid | bench.dut.axi.wvalid | bench.dut.unit.instr.ready)
            await ctx.tick()
        assert len(bench.axi.bursts) == bursts < 12

    bench.run(test)
    bench.axi.finish()
    assert len(bench.driver.done) == 1


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"row_bytes": 8, "rows": 0}, ErrorCause.BAD_FIELD),
        ({"row_bytes": 0}, ErrorCause.BAD_FIELD),
        ({"row_bytes": 12, "rows": 9, "mem_stride": 0x1000, "dram_stride": 12}, ErrorCause.MEM_RANGE),
        ({"row_bytes": 12, "rows": 9, "dram_stride": 0x1000}, ErrorCause.DRAM_RANGE),
    ],
)
def test_bad_instruction(values: dict[str, int], cause: ErrorCause) -> None:
    """Begun bursts are completed, bytes outside the legal rows stay as they were."""
    good = dma(Opcode.STORE, dram_offset=8, mem_addr=0x3001, row_bytes=0x800)
    bad = dma(Opcode.STORE, dram_offset=64, mem_addr=0, region=1, **values)
    bench = StoreBench(CONFIGS[64], [good, bad, good], latency=30)

    async def test(ctx: SimulatorContext) -> None:
        got, index, _ = await bench.driver.wait_error(ctx)
        assert (got, index) == (cause, 1)
        await bench.driver.wait_idle(ctx)
        assert not bench.driver.done
        await ctx.tick().repeat(20)
        assert ctx.get(bench.dut.unit.idle)

    bench.run(test)
    bench.axi.finish()
    legal = rows_of(good) + rows_of(bad)[:4]
    allowed = {addr - BASE + i: bench.act[mem + i] for addr, mem, count in legal for i in range(count)}
    for index, byte in enumerate(bench.dram.data):
        assert byte == bench.before[index] or byte == allowed[index]


@pytest.mark.parametrize("when", [3, 6, 7, 12, 40, 70, 110])
@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_abort(when: int, stall: float) -> None:
    """Abort at any time: every address gets its data and WLAST, then the unit is idle for good."""
    values = {"rows": 8, "row_bytes": 60, "dram_stride": 60, "mem_stride": 60}
    stores = [dma(Opcode.STORE, mem_addr=500 * i, dram_offset=500 * i, **values) for i in range(9)]
    bench = StoreBench(CONFIGS[64], stores, latency=25, stall=stall, port_stall=stall)

    async def test(ctx: SimulatorContext) -> None:
        await ctx.tick().repeat(when)
        ctx.set(bench.dut.unit.abort, 1)
        await ctx.tick()
        await bench.driver.wait_idle(ctx)
        bench.axi.finish()
        bursts, reads = len(bench.axi.bursts), bench.port.reads
        await ctx.tick().repeat(40)
        assert ctx.get(bench.dut.unit.idle)
        assert (len(bench.axi.bursts), bench.port.reads) == (bursts, reads)
        assert bench.axi.beats == sum(burst.beats for burst in bench.axi.bursts)

    bench.run(test)
    bench.axi.finish()
    assert len(bench.driver.done) < len(stores)


@pytest.mark.parametrize("channel", ["refuse", "blocked"])
def test_abort_with_blocked_bus(channel: str) -> None:
    """AWREADY or WREADY low for long: VALIDs stay up, the burst is completed once the bus moves."""
    bench = StoreBench(CONFIGS[64], [dma(Opcode.STORE, row_bytes=4000)])
    setattr(bench.axi, channel, True)

    async def test(ctx: SimulatorContext) -> None:
        await ctx.tick().until(bench.dut.axi.awvalid)
        ctx.set(bench.dut.unit.abort, 1)
        for _ in range(100):
            await ctx.tick()
            assert not ctx.get(bench.dut.unit.idle)
        setattr(bench.axi, channel, False)
        await bench.driver.wait_idle(ctx)

    bench.run(test)
    bench.axi.finish()
    assert [burst.beats for burst in bench.axi.bursts] == [64]
    assert bench.dram.data[:-REGION_BYTES] == bench.before[:-REGION_BYTES]
    assert bench.dram.data[-REGION_BYTES:][:512] == bench.act[:512]


def test_no_combinational_handshake() -> None:
    config = CONFIGS[64]
    bench = StoreBench(config, mixed(config, random.Random(3)), latency=5, stall=0.4, port_stall=0.5)
    axi, unit = bench.dut.axi, bench.dut.unit

    async def test(ctx: SimulatorContext) -> None:
        for _ in range(150):
            await ctx.tick()
            inputs = [axi.awready, axi.wready, axi.bvalid]
            await check_registered(ctx, inputs, [axi.awvalid, axi.wvalid, axi.bready, unit.instr.ready])

    bench.run(test)


def test_parameters() -> None:
    with pytest.raises(ValueError, match="outstanding=1 must be at least 2"):
        StoreUnit(CONFIGS[64], outstanding=1)
    with pytest.raises(ValueError, match="instructions=0 must be at least 2"):
        StoreUnit(CONFIGS[64], instructions=0)
