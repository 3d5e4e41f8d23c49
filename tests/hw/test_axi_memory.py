"""Memory behind AXI: random bursts with back-pressure, beside a host's transfers; refused bursts; throughput."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hw.axi import Burst, Resp
from hw.soc.axi_memory import AxiMemory, HostPortSignature
from tests.hw.axi_model import check_registered
from tests.hw.control_bench import simulate


class Manager:
    """AXI4 manager with random gaps on all channels; checks that answers stay until taken."""

    def __init__(self, dut: AxiMemory, *, seed: int = 0, stall: float = 0.0) -> None:
        self.dut, self.rng, self.stall = dut, random.Random(seed), stall

    def chance(self) -> bool:
        return self.rng.random() >= self.stall

    async def offer(self, ctx: Any, bus: Any, channel: str, **payload: int) -> None:
        while not self.chance():
            await ctx.tick()
        for name, value in payload.items():
            ctx.set(getattr(bus, channel + name), value)
        ctx.set(getattr(bus, f"{channel}valid"), 1)
        await ctx.tick().until(getattr(bus, f"{channel}ready"))
        ctx.set(getattr(bus, f"{channel}valid"), 0)

    async def take(self, ctx: Any, bus: Any, channel: str, *names: str) -> tuple[int, ...]:
        signals = [getattr(bus, channel + name) for name in names]
        held = None
        for _ in range(2000):
            ready = self.chance()
            ctx.set(getattr(bus, f"{channel}ready"), ready)
            _, _, valid, *values = await ctx.tick().sample(getattr(bus, f"{channel}valid"), *signals)
            assert held is None or (valid and values == held), f"{channel} changed before it was taken"
            held = values if valid else None
            if valid and ready:
                ctx.set(getattr(bus, f"{channel}ready"), 0)
                return tuple(values)
        raise AssertionError(f"nothing came on channel {channel}")


def address(dut: AxiMemory, addr: int, beats: int, bus_id: int, **other: int) -> dict[str, int]:
    size = (dut.beat_bytes - 1).bit_length()
    return {"addr": addr, "len": beats - 1, "id": bus_id, "size": size, "burst": Burst.INCR.value} | other


async def write(ctx: Any, man: Manager, addr: dict[str, int], data: list[tuple[int, int]]) -> tuple[int, ...]:
    """Write a burst of (data, strobes); return (BID, BRESP)."""
    bus = man.dut.write
    await man.offer(ctx, bus, "aw", **addr)
    for index, (value, strobes) in enumerate(data):
        await man.offer(ctx, bus, "w", data=value, strb=strobes, last=index == len(data) - 1)
    return await man.take(ctx, bus, "b", "id", "resp")


async def read(ctx: Any, man: Manager, addr: dict[str, int]) -> list[tuple[int, ...]]:
    """Return the beats as (RID, RRESP, RLAST, RDATA)."""
    bus = man.dut.read
    await man.offer(ctx, bus, "ar", **addr)
    return [await man.take(ctx, bus, "r", "id", "resp", "last", "data") for _ in range(addr["len"] + 1)]


@pytest.mark.parametrize(("width", "stall", "seed"), [(64, 0.0, 1), (64, 0.4, 2), (128, 0.6, 3)])
def test_random_bursts_beside_the_host(width: int, stall: float, seed: int) -> None:
    """Writer and reader at once in halves of their own, the host in a third; then everything is read back."""
    size = 3072
    dut = AxiMemory(size, addr_width=40, data_width=width, id_width=4)
    bytes_ = dut.beat_bytes
    expected = bytearray(size)
    rng = random.Random(seed)
    third = 1024
    written: list[int] = []

    def burst(low: int) -> tuple[int, int]:
        beats = rng.randint(1, 16)
        return low + bytes_ * rng.randrange(third // bytes_ - beats + 1), beats

    async def writer(ctx: Any) -> None:
        man = Manager(dut, seed=seed, stall=stall)
        for _ in range(30):
            addr, beats = burst(0)
            data = [(rng.getrandbits(width), rng.getrandbits(bytes_)) for _ in range(beats)]
            bus_id = rng.randrange(16)
            assert await write(ctx, man, address(dut, addr, beats, bus_id), data) == (bus_id, Resp.OKAY.value)
            for beat, (value, strobes) in enumerate(data):
                for lane in range(bytes_):
                    if strobes >> lane & 1:
                        expected[addr + beat * bytes_ + lane] = value >> 8 * lane & 0xFF
            check, length = addr, len(data)
            beats_read = await read(ctx, man, address(dut, check, length, 5))
            got = b"".join(value.to_bytes(bytes_, "little") for *_, value in beats_read)
            assert got == expected[check : check + length * bytes_], "a read after the answer sees the write"
            assert [item[:3] for item in beats_read] == [(5, 0, i == length - 1) for i in range(length)]
            written.append(addr)

    async def host(ctx: Any) -> None:
        port = dut.host
        for _ in range(120):
            addr, value, we = rng.randrange(2 * third // 4, size // 4), rng.getrandbits(32), rng.random() < 0.5
            for signal, level in ((port.addr, addr), (port.wdata, value), (port.we, we), (port.en, 1)):
                ctx.set(signal, level)
            await ctx.tick()
            ctx.set(port.en, 0)
            if we:
                expected[4 * addr : 4 * addr + 4] = value.to_bytes(4, "little")
            else:
                await ctx.tick().repeat(HostPortSignature.READ_LATENCY - 1)
                assert ctx.get(port.rdata).to_bytes(4, "little") == expected[4 * addr : 4 * addr + 4]
            for _ in range(rng.randrange(3)):
                await ctx.tick()

    simulate(dut, writer, host)
    assert len(written) == 30

    # a whole pass through the memory in bursts of the greatest length, in a new simulation of a filled memory
    async def fill_and_pass(ctx: Any) -> None:
        man = Manager(dut2, seed=seed, stall=stall / 2)
        words = [rng.getrandbits(width) for _ in range(dut2.depth)]
        for first in range(0, dut2.depth, 128):
            data = [(value, (1 << bytes_) - 1) for value in words[first : first + 128]]
            assert await write(ctx, man, address(dut2, first * bytes_, len(data), 1), data) == (1, 0)
        for first in range(0, dut2.depth, 256):
            beats = await read(ctx, man, address(dut2, first * bytes_, min(256, dut2.depth - first), 9))
            assert [beat[3] for beat in beats] == words[first : first + 256]

    dut2 = AxiMemory(size, addr_width=40, data_width=width, id_width=4)
    simulate(dut2, fill_and_pass)


def test_refused_bursts() -> None:
    dut = AxiMemory(3072, addr_width=40, data_width=64)
    okay, slverr, decerr = Resp.OKAY.value, Resp.SLVERR.value, Resp.DECERR.value
    full = [(0x1111_2222_3333_4444, 0xFF)]

    async def bench(ctx: Any) -> None:
        man = Manager(dut, stall=0.2)

        async def status(addr: int, beats: int, **other: int) -> tuple[list[int], int]:
            request = address(dut, addr, beats, 1, **other)
            answers = [resp for _, resp, _, _ in await read(ctx, man, request)]
            return answers, (await write(ctx, man, request, full * beats))[1]

        assert await status(3072 - 8, 1) == ([okay], okay)
        assert await status(3072, 1) == ([decerr], decerr)
        assert await status(1 << 39, 2) == ([decerr] * 2, decerr)
        assert await status(3072 - 16, 4) == ([okay, okay, decerr, decerr], decerr)
        assert await status(0, 2, burst=Burst.WRAP.value) == ([slverr] * 2, slverr)
        assert await status(0, 2, burst=Burst.FIXED.value) == ([slverr] * 2, slverr)
        assert await status(0, 2, size=2) == ([slverr] * 2, slverr)
        assert await status(8, 1, size=2, burst=Burst.FIXED.value) == ([okay], okay)
        # nothing was written where an answer was bad, and what is beyond the end did not come round to the start
        assert [value for *_, value in await read(ctx, man, address(dut, 0, 3, 0))] == [0, full[0][0], 0]
        assert [value for *_, value in await read(ctx, man, address(dut, 3072 - 8, 2, 0))] == [full[0][0], 0]

    simulate(dut, bench)


def test_one_beat_per_cycle_and_latency() -> None:
    dut = AxiMemory(4096, data_width=64)
    cycles: list[int] = []
    now = 0

    async def watch(ctx: Any) -> None:
        nonlocal now
        while True:
            _, _, valid, ready = await ctx.tick().sample(dut.read.rvalid, dut.read.rready)
            now += 1
            if valid and ready:
                cycles.append(now)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.read.rready, 1)
        man = Manager(dut)
        start = None
        for index in range(4):
            await man.offer(ctx, dut.read, "ar", **address(dut, 64 * index, 16, 0))
            start = now if start is None else start
        await ctx.tick().repeat(80)
        assert cycles[0] - start == 6
        assert cycles == list(range(cycles[0], cycles[0] + 64)), "four bursts without a gap"

        begin = now
        await man.offer(ctx, dut.write, "aw", **address(dut, 0, 32, 0))
        for index in range(32):
            await man.offer(ctx, dut.write, "w", data=index, strb=0xFF, last=index == 31)
        await man.take(ctx, dut.write, "b", "id", "resp")
        assert now - begin == 1 + 32 + 2

    simulate(dut, bench, background=(watch,))


def test_no_combinational_paths() -> None:
    dut = AxiMemory(1024)
    inputs, outputs = [], []
    for bus in (dut.write, dut.read):
        for name, member in bus.signature.members.items():
            if name.endswith(("valid", "ready")):
                (inputs if member.flow.name == "In" else outputs).append(getattr(bus, name))
    assert len(inputs) == len(outputs) == 5

    async def bench(ctx: Any) -> None:
        for pattern in range(8):
            for index, signal in enumerate(inputs):
                ctx.set(signal, pattern >> index % 3 & 1)
            await ctx.tick().repeat(3)
            await check_registered(ctx, inputs, outputs)

    simulate(dut, bench)


@pytest.mark.parametrize("size", [0, 1000, 1 << 32])
def test_sizes_that_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size_bytes"):
        AxiMemory(size)
