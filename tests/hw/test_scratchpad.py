# amaranth: UnusedElaboratable=no
"""Scratchpad against a byte array: arbitration, priorities, straddled banks, wrapping, visibility of writes."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from hw.layouts import act_addr_width
from hw.ports import ReadSignature, WriteSignature
from hw.scratchpad import READ_PORTS, WRITE_PORTS, Scratchpad
from hw.shared import Emitter, convert
from hw.spec.config import SUB_BANKS, AcceleratorConfig, preset
from tests.hw.operand_places import operand_bytes

CONFIGS = {
    "tiny": preset("tiny"),
    "cols6_k5": AcceleratorConfig(rows=5, cols=6, max_kernel=5, act_kib=1, act_banks=4, axi_data_width=64),
    "one_bank": AcceleratorConfig(rows=3, cols=3, max_kernel=6, act_kib=1, act_banks=1, axi_data_width=64),
    "no_stos": AcceleratorConfig(rows=8, cols=12, stos=False, act_kib=4, act_banks=16, axi_data_width=64),
    "edge16": preset("edge16"),
}
CYCLES = {"edge16": 500, "no_stos": 300}
ANY = frozenset(range(-128, 128))


@dataclass
class Request:
    """A request on a port, waiting since it was made."""

    addr: int
    lo: int
    hi: int
    fill: int = 0
    data: list[int] = field(default_factory=list)
    strided: bool = False

    def bytes(self, config: AcceleratorConfig) -> dict[int, int]:
        """Byte of the access to its address."""
        return {byte: (self.addr + byte) % config.act_bytes for byte in range(self.lo, self.hi)}

    def places(self, config: AcceleratorConfig) -> dict[int, int]:
        """Lane to byte address."""
        found = self.bytes(config)
        if self.strided:
            lanes = operand_bytes(config, strided=True)
            return {lane: found[byte] for lane, byte in lanes.items() if byte in found}
        return {lane: place for lane, place in found.items() if lane < len(self.data)}

    def banks(self, config: AcceleratorConfig) -> set[int]:
        return {place // config.act_bank_bytes for place in self.bytes(config).values()}


def make(rng: random.Random, config: AcceleratorConfig, signature: ReadSignature | WriteSignature) -> Request:
    """Return a random request, mostly at places where something happens."""
    strided = getattr(signature, "strided_lanes", 0) > 0 and rng.random() < 0.5
    kind, lanes = rng.randrange(4), 2 * config.cols - 1 if strided else signature.lanes
    if kind == 0:
        addr = rng.randrange(config.act_bytes)
    elif kind == 1:  # around the end of a bank, the memory's end included
        addr = rng.randint(1, config.act_banks) * config.act_bank_bytes + rng.randint(-lanes - 2, 2)
    else:  # a few lines in which reads meet earlier writes
        addr = rng.randrange(config.act_banks) * config.act_bank_bytes + rng.randrange(3 * config.line_bytes)
    if rng.random() < 0.5:
        lo, hi = 0, lanes
    else:
        lo, hi = rng.randint(0, lanes), rng.randint(0, lanes)
        if rng.random() < 0.9:
            lo, hi = min(lo, hi), max(lo, hi)
    data = [rng.randint(-128, 127) for _ in range(signature.lanes)]
    return Request(addr % config.act_bytes, lo, hi, rng.randrange(256), data, strided)


def drive(ctx, port, request: Request | None) -> None:
    ctx.set(port.req.valid, request is not None)
    if request is not None:
        payload = port.req.payload
        ctx.set(payload.addr, request.addr)
        ctx.set(payload.lo, request.lo)
        ctx.set(payload.hi, request.hi)
        if isinstance(port.signature, WriteSignature):
            ctx.set(payload.data, request.data)
        else:
            ctx.set(payload.fill, request.fill)
            if port.signature.strided_lanes:
                ctx.set(payload.strided, request.strided)


def signed(byte: int) -> int:
    return byte - 256 if byte >= 128 else byte


@pytest.mark.parametrize("name", CONFIGS)
def test_random_traffic(name: str) -> None:
    config = CONFIGS[name]
    rng = random.Random(len(name))
    dut = Scratchpad(config)
    assert dut.read_residual.signature.lanes == dut.write_result.signature.lanes == config.cols
    assert dut.read_operand.signature.lanes == config.read_lanes
    assert dut.read_operand.signature.span == config.read_span
    assert dut.read_store.signature.lanes == dut.write_load.signature.lanes == config.axi_bytes
    memory = bytearray(config.act_bytes)
    late: list[dict[int, int]] = [{}, {}]  # bytes of writes accepted 1 and 2 cycles ago, old value per place
    waiting: dict[str, Request | None] = dict.fromkeys(READ_PORTS + WRITE_PORTS)
    answers: list[list[tuple[str, list[set[int]]]]] = []
    seen: Counter[str] = Counter()

    async def bench(ctx) -> None:
        for _ in range(CYCLES.get(name, 800)):
            for port in waiting:
                if waiting[port] is None and rng.random() < 0.7:
                    waiting[port] = make(rng, config, getattr(dut, port).signature)
                drive(ctx, getattr(dut, port), waiting[port])

            accepted: dict[str, Request] = {}
            for group in (READ_PORTS, WRITE_PORTS):
                taken: set[int] = set()
                for port in group:
                    ready = ctx.get(getattr(dut, port).req.ready)
                    if (request := waiting[port]) is None:
                        continue
                    banks = request.banks(config)
                    assert ready == (not banks & taken), (port, request)
                    if ready:
                        taken |= banks
                        accepted[port] = request
                        waiting[port] = None
                        places = list(request.places(config).values())
                        seen[f"{port}_straddle"] += len(banks) == 2
                        seen["wrap"] += bool(places) and places[-1] < places[0]
                        seen["empty"] += not places
                        seen["strided"] += request.strided
                    else:
                        seen[f"{port}_refused"] += 1

            answer = []
            for port in READ_PORTS:
                if port in accepted:
                    request = accepted[port]
                    lanes = [{signed(request.fill)} for _ in range(len(request.data))]
                    if request.strided:  # the lanes left of the columns answer anything
                        lanes[: config.halo] = [ANY] * config.halo
                    for lane, place in request.places(config).items():
                        # Until the write is visible the old byte is read; in the cycle it becomes so, either.
                        old = late[0].get(place)
                        lanes[lane] = {signed(memory[place])} | ({signed(old)} if old is not None else set())
                        seen["collision"] += old is not None
                    answer.append((port, lanes))
            answers.append(answer)

            # The model's memory is one write behind: what was accepted in this cycle is seen two cycles later.
            late[0] = {}
            for place, byte in late[1].items():
                late[0][place] = memory[place]
                memory[place] = byte
            late[1] = {}
            for port in WRITE_PORTS:
                if port in accepted:
                    request = accepted[port]
                    late[1].update({p: request.data[lane] & 255 for lane, p in request.places(config).items()})

            await ctx.tick()
            if len(answers) == ReadSignature.READ_LATENCY:
                for port, lanes in answers.pop(0):
                    got = list(ctx.get(getattr(dut, port).data))
                    assert all(byte in want for byte, want in zip(got, lanes, strict=True)), (port, got, lanes)
                    seen["data"] += any(0 not in want for want in lanes)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    wanted = {"wrap", "empty", "collision", "strided", "data"}
    wanted |= {"read_operand_refused", "read_store_refused", "write_load_refused"}
    if config.act_banks > 1:
        wanted |= {f"{port}_straddle" for port in READ_PORTS + WRITE_PORTS}
    assert all(seen[what] >= 3 for what in wanted), seen
    assert not seen["read_residual_refused"] and not seen["write_result_refused"]


def test_priorities() -> None:
    config = CONFIGS["cols6_k5"]
    dut = Scratchpad(config)
    size = config.act_bank_bytes
    lanes = {port: getattr(dut, port).signature.lanes for port in READ_PORTS + WRITE_PORTS}

    async def bench(ctx) -> None:
        def ready(**addresses: int) -> list[int]:
            for port in READ_PORTS + WRITE_PORTS:
                request = Request(addresses[port], 0, lanes[port], 0, [0] * lanes[port]) if port in addresses else None
                drive(ctx, getattr(dut, port), request)
            return [ctx.get(getattr(dut, port).req.ready) for port in READ_PORTS + WRITE_PORTS]

        # Three readers of one bank: one at a time, in order of priority; writers do not meet readers.
        assert ready(read_residual=0, read_operand=40, read_store=80, write_result=0, write_load=8) == [1, 0, 0, 1, 0]
        assert ready(read_operand=40, read_store=80, write_load=0)[:3] == [1, 1, 0]
        assert ready(read_store=80)[2] == 1
        # Each its own bank.
        reads = {"read_residual": 0, "read_operand": size, "read_store": 2 * size}
        assert ready(**reads, write_result=0, write_load=size) == [1] * 5
        # An access that reaches into the next bank needs both, and a refused one blocks nobody.
        assert ready(read_operand=size - 1, read_store=size)[1:3] == [1, 0]
        assert ready(read_residual=0, read_operand=size - 1, read_store=size)[:3] == [1, 0, 1]
        # The last line of a bank alone does not reach the next one; the last bank is followed by the first.
        assert ready(read_operand=size - lanes["read_operand"], read_store=size)[1:3] == [1, 1]
        assert ready(read_operand=4 * size - 1, read_store=0)[1:3] == [1, 0]
        assert ready(write_result=4 * size - 1, write_load=0)[3:] == [1, 0]
        # Lanes that are not read need no bank.
        ready(read_residual=0, read_operand=size - 1)
        ctx.set(dut.read_operand.req.payload.lo, 1)
        assert ctx.get(dut.read_operand.req.ready) == 1
        ctx.set(dut.read_operand.req.payload.lo, 0)
        assert ctx.get(dut.read_operand.req.ready) == 0
        ctx.set(dut.read_operand.req.payload.hi, 0)
        assert ctx.get(dut.read_operand.req.ready) == 1

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()


def test_reset() -> None:
    dut = Scratchpad(CONFIGS["tiny"])
    m = Module()
    m.domains.sync = domain = ClockDomain()
    m.submodules.dut = dut

    async def bench(ctx) -> None:
        async def write(addr: int, data: list[int]) -> None:
            drive(ctx, dut.write_result, Request(addr, 0, 4, 0, data))
            await ctx.tick()
            drive(ctx, dut.write_result, None)

        await write(13, [1, -2, 3, -4])  # performed in the cycle of the reset, the first one
        ctx.set(domain.rst, 1)
        await write(13, [5, 5, 5, 5])  # dropped
        ctx.set(domain.rst, 0)
        await ctx.tick()
        drive(ctx, dut.read_residual, Request(12, 0, 4))
        await ctx.tick()
        drive(ctx, dut.read_residual, None)
        await ctx.tick()
        assert list(ctx.get(dut.read_residual.data)) == [0, 1, -2, 3]

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("name", CONFIGS)
def test_emission_instantiates_one_ram(name: str) -> None:
    config = CONFIGS[name]
    platform = Emitter()
    text = convert(Scratchpad(config), "scratchpad", platform)
    [(name, ram)] = platform.rams.items()
    assert (ram.width, ram.depth, ram.writes) == (8 * config.sub_bytes, config.act_bank_lines, (8,))
    assert text.count(f"cell \\{name} ") == SUB_BANKS * config.act_banks
    assert len(Scratchpad(config).read_operand.req.payload.addr) == act_addr_width(config)


def test_memories_without_an_emitter() -> None:
    config = CONFIGS["cols6_k5"]
    text = rtlil.convert(Scratchpad(config), emit_src=False)
    memories = [line for line in text.splitlines() if line.startswith("  memory ")]
    assert len(memories) == SUB_BANKS * config.act_banks
    geometry = f"  memory width {8 * config.sub_bytes} size {config.act_bank_lines} "
    assert all(line.startswith(geometry) for line in memories)
