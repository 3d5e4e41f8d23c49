"""Read arbiter: two random managers on one memory that interleaves the beats of different IDs."""

from __future__ import annotations

import random
from collections import deque
from itertools import pairwise

import pytest
from amaranth.lib.wiring import PureInterface
from amaranth.sim import Simulator, SimulatorContext

from hw.axi import Burst, Cache, Resp
from hw.burst import burst_beats
from hw.read_arbiter import ReadArbiter
from tests.hw.axi_model import AxiReadMemory, Dram, check_registered
from tests.hw.dma_bench import BASE, CONFIGS, dram_bytes


class Manager:
    """Asks for bursts and checks each answer: data, RRESP, RLAST, order."""

    def __init__(
        self, port: PureInterface, dram: Dram, bursts: list[tuple[int, int]], *, seed: int, gap: float, stall: float
    ) -> None:
        self.port, self.dram, self.bursts, self.gap, self.stall = port, dram, bursts, gap, stall
        self.random = random.Random(seed)
        self.asked: deque[tuple[int, int]] = deque()
        self.received = 0
        self.resps: list[int] = []
        self.last_cycle = 0

    async def ask(self, ctx: SimulatorContext) -> None:
        port = self.port
        beat_bytes = len(port.rdata) // 8
        for addr, beats in self.bursts:
            while self.random.random() < self.gap:
                await ctx.tick()
            ctx.set(port.arvalid, 1)
            ctx.set(port.araddr, addr)
            ctx.set(port.arlen, beats - 1)
            ctx.set(port.arsize, (beat_bytes - 1).bit_length())
            ctx.set(port.arburst, Burst.INCR)
            ctx.set(port.arcache, Cache.NORMAL_BUFFERABLE)
            ready = 0
            while not ready:
                _, _, ready = await ctx.tick().sample(port.arready)
            self.asked.append((addr, beats))
            ctx.set(port.arvalid, 0)

    async def take(self, ctx: SimulatorContext) -> None:
        port = self.port
        beat_bytes = len(port.rdata) // 8
        beat = cycle = 0
        while True:
            rready = self.random.random() >= self.stall
            ctx.set(port.rready, rready)
            _, _, valid, value, resp, last = await ctx.tick().sample(port.rvalid, port.rdata, port.rresp, port.rlast)
            cycle += 1
            if valid and rready:
                addr, beats = self.asked[0]
                assert value == self.dram.read(addr + beat * beat_bytes, beat_bytes)
                assert last == (beat == beats - 1)
                self.resps.append(resp)
                beat += 1
                if last:
                    beat = 0
                    self.asked.popleft()
                    self.received += 1
                    self.last_cycle = cycle


def random_bursts(rng: random.Random, width: int, count: int, most: int) -> list[tuple[int, int]]:
    """Random (address, beats) that stay within the generator's blocks."""
    size, block = width // 8, burst_beats(CONFIGS[width])
    bursts = []
    for _ in range(count):
        beats = rng.randint(1, most)
        first = rng.randrange(block - beats + 1)
        start = BASE + rng.randrange(dram_bytes() // (block * size)) * block * size
        bursts.append((start + first * size, beats))
    return bursts


class ArbiterBench:
    """Arbiter, two managers, one memory."""

    def __init__(
        self,
        width: int,
        bursts: tuple[list[tuple[int, int]], list[tuple[int, int]]],
        *,
        gaps: tuple[float, float] = (0.0, 0.0),
        manager_stall: float = 0.0,
        **axi: object,
    ) -> None:
        self.dut = ReadArbiter(CONFIGS[width])
        self.dram = Dram(BASE, random.Random(width).randbytes(dram_bytes()))
        self.axi = AxiReadMemory(self.dut.axi, self.dram, **axi)
        self.managers = [
            Manager(port, self.dram, asked, seed=index, gap=gaps[index], stall=manager_stall)
            for index, (port, asked) in enumerate(zip(self.dut.managers, bursts, strict=True))
        ]

    async def finished(self, ctx: SimulatorContext) -> None:
        for _ in range(20_000):
            if all(manager.received == len(manager.bursts) for manager in self.managers):
                return
            await ctx.tick()
        raise AssertionError(f"only {[manager.received for manager in self.managers]} bursts answered")

    def run(self) -> None:
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        for manager in self.managers:
            sim.add_testbench(manager.take, background=True)
            sim.add_testbench(manager.ask, background=True)
        sim.add_testbench(self.axi.run, background=True)
        sim.add_testbench(self.finished)
        sim.run()
        self.axi.finish()
        for index, manager in enumerate(self.managers):
            assert not manager.asked
            assert [(b.addr, b.beats) for b in self.axi.bursts if b.id == index] == manager.bursts
        assert self.axi.beats == sum(beats for manager in self.managers for _, beats in manager.bursts)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("stall", "manager_stall", "gaps"), [(0.0, 0.0, (0, 0)), (0.4, 0.3, (0.8, 0.2))])
@pytest.mark.parametrize("width", CONFIGS)
def test_random(width: int, stall: float, manager_stall: float, gaps: tuple[float, float], seed: int) -> None:
    """Every burst reaches the bus once, in order per manager; data comes back to whom asked."""
    rng = random.Random(f"{width} {stall} {seed}")
    bursts = (random_bursts(rng, width, 60, 4), random_bursts(rng, width, 60, 20))
    ArbiterBench(
        width, bursts, gaps=gaps, manager_stall=manager_stall, stall=stall, seed=seed, latency=rng.randint(1, 20)
    ).run()


def test_fair() -> None:
    """Both asking all the time: they take turns."""
    bursts = tuple(random_bursts(random.Random(index), 64, 40, 2) for index in range(2))
    bench = ArbiterBench(64, bursts, stall=0.5)
    bench.run()
    ids = [burst.id for burst in bench.axi.bursts]
    busy = ids[: 2 * min(ids.count(0), ids.count(1)) - 4]
    assert all(first != second for first, second in pairwise(busy))


def test_throughput() -> None:
    """One manager alone, bursts of one beat: one address and one beat per cycle; 3 cycles more than the memory's."""
    count, latency = 200, 5
    bursts = ([], [(BASE + 8 * index, 1) for index in range(count)])
    bench = ArbiterBench(64, bursts, latency=latency)
    bench.run()
    assert bench.managers[1].last_cycle == count + latency + 3


def test_error_is_routed() -> None:
    """SLVERR reaches the manager that asked, with its beat."""
    bursts = ([(BASE, 2)] * 4, [(BASE + 0x100, 4)] * 4)
    bench = ArbiterBench(64, bursts, faults=frozenset({BASE + 0x110}), latency=3)
    bench.run()
    okay, bad = Resp.OKAY.value, Resp.SLVERR.value
    assert bench.managers[0].resps == [okay] * 8
    assert bench.managers[1].resps == [okay, okay, bad, okay] * 4


def test_attributes() -> None:
    """Size, burst type and cache attributes pass through."""
    bench = ArbiterBench(128, ([(BASE, 1)], []))
    seen = []

    async def look(ctx: SimulatorContext) -> None:
        axi = bench.dut.axi
        while True:
            _, _, valid, *values = await ctx.tick().sample(axi.arvalid, axi.arsize, axi.arburst, axi.arcache, axi.arid)
            if valid:
                seen.append(values)

    sim = Simulator(bench.dut)
    sim.add_clock(1e-6)
    for process in (bench.managers[0].take, bench.managers[0].ask, bench.axi.run, look):
        sim.add_testbench(process, background=True)
    sim.add_testbench(bench.finished)
    sim.run()
    assert seen == [[4, Burst.INCR.value, Cache.NORMAL_BUFFERABLE.value, 0]]


def test_no_combinational_handshake() -> None:
    bursts = tuple(random_bursts(random.Random(index), 64, 1000, 3) for index in range(2))
    bench = ArbiterBench(64, bursts, stall=0.3, manager_stall=0.5, latency=2)
    axi, (fetch, load) = bench.dut.axi, bench.dut.managers

    async def test(ctx: SimulatorContext) -> None:
        inputs = [axi.arready, axi.rvalid, *(s for p in (fetch, load) for s in (p.arvalid, p.rready))]
        outputs = [axi.arvalid, axi.rready, *(s for p in (fetch, load) for s in (p.arready, p.rvalid))]
        for _ in range(150):
            await ctx.tick()
            await check_registered(ctx, inputs, outputs)

    sim = Simulator(bench.dut)
    sim.add_clock(1e-6)
    for manager in bench.managers:
        sim.add_testbench(manager.take, background=True)
        sim.add_testbench(manager.ask, background=True)
    sim.add_testbench(bench.axi.run, background=True)
    sim.add_testbench(test)
    sim.run()
