"""Host link against the protocol of hw.spec.link: damaged and cut frames, repetitions, errors, random traffic."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from hw.axi import Resp
from hw.soc.axi_memory import HostPortSignature
from hw.soc.host_link import HEADER_LAYOUT, HostLink
from hw.spec import link
from hw.spec.link import Command, IdWord, Request, Response, Status
from tests.hw.control_bench import simulate

MEMORY = 3072
GAP = 60
READ, WRITE, PING = Command.READ, Command.WRITE, Command.PING


class Bench:
    """A link between byte streams, a memory and registers of which those from 0x800 on answer SLVERR."""

    def __init__(self, *, seed: int = 0) -> None:
        self.dut = HostLink(MEMORY, clock_hz=50_000_000, bit_clocks=434, gap_clocks=GAP)
        self.rng = random.Random(seed)
        self.memory = bytearray(self.rng.randbytes(MEMORY))
        self.registers = [self.rng.getrandbits(32) for _ in range(link.CSR_BYTES // 4)]
        self.writes: list[tuple[str, int]] = []
        self.errors = 0
        self.ctx: Any = None

    async def serve_memory(self, ctx: Any) -> None:
        port = self.dut.memory
        late: list[int | None] = [None] * (HostPortSignature.READ_LATENCY - 1)
        while True:
            _, _, en, we, addr, data, error = await ctx.tick().sample(
                port.en, port.we, port.addr, port.wdata, self.dut.error
            )
            self.errors += error
            late.append(addr if en and not we else None)
            if en and we:
                assert addr < MEMORY // 4
                self.memory[4 * addr : 4 * addr + 4] = data.to_bytes(4, "little")
                self.writes.append(("memory", addr))
            if (due := late.pop(0)) is not None:
                ctx.set(port.rdata, int.from_bytes(self.memory[4 * due : 4 * due + 4], "little"))

    async def serve_writes(self, ctx: Any) -> None:
        port = self.dut.csr
        while True:
            found: dict[str, int] = {}
            for _ in range(400):
                ready = {channel: self.rng.random() < 0.4 and channel not in found for channel in ("aw", "w")}
                for channel, level in ready.items():
                    ctx.set(getattr(port, f"{channel}ready"), level)
                _, _, awvalid, wvalid, addr, data, strb = await ctx.tick().sample(
                    port.awvalid, port.wvalid, port.awaddr, port.wdata, port.wstrb
                )
                assert not (awvalid and "aw" in found) and not (wvalid and "w" in found), "VALID after the handshake"
                if awvalid and ready["aw"]:
                    found["aw"] = addr
                if wvalid and ready["w"]:
                    assert strb == 15
                    found["w"] = data
                if len(found) == 2:
                    break
            else:
                continue
            ctx.set(port.awready, 0)
            ctx.set(port.wready, 0)
            bad = found["aw"] >= 0x800
            if not bad:
                self.registers[found["aw"] // 4] = found["w"]
                self.writes.append(("csr", found["aw"]))
            ctx.set(port.bresp, Resp.SLVERR if bad else Resp.OKAY)
            ctx.set(port.bvalid, 1)
            await ctx.tick().until(port.bready)
            ctx.set(port.bvalid, 0)

    async def serve_reads(self, ctx: Any) -> None:
        port = self.dut.csr
        while True:
            ready = self.rng.random() < 0.4
            ctx.set(port.arready, ready)
            _, _, valid, addr = await ctx.tick().sample(port.arvalid, port.araddr)
            if not (valid and ready):
                continue
            ctx.set(port.arready, 0)
            ctx.set(port.rdata, self.registers[addr // 4])
            ctx.set(port.rresp, Resp.SLVERR if addr >= 0x800 else Resp.OKAY)
            ctx.set(port.rvalid, 1)
            await ctx.tick().until(port.rready)
            ctx.set(port.rvalid, 0)

    async def send(self, frame: bytes) -> None:
        """Send bytes with random gaps."""
        ctx, i = self.ctx, self.dut.i
        for byte in frame:
            ctx.set(i.payload, byte)
            ctx.set(i.valid, 1)
            await ctx.tick()
            ctx.set(i.valid, 0)
            ctx.set(i.payload, self.rng.getrandbits(8))
            await ctx.tick().repeat(self.rng.choice((3, 3, 3, 5, 20)))

    async def byte(self) -> int | None:
        """Take a byte of the answer, None if none comes."""
        ctx, o = self.ctx, self.dut.o
        for _ in range(40):
            if ctx.get(o.valid):
                break
            await ctx.tick()
        else:
            return None
        held = ctx.get(o.payload)
        for _ in range(self.rng.choice((0, 1, 4))):
            await ctx.tick()
            assert ctx.get(o.valid) and ctx.get(o.payload) == held, "a byte changed while it waited"
        ctx.set(o.ready, 1)
        await ctx.tick()
        ctx.set(o.ready, 0)
        return held

    async def answer(self) -> Response | None:
        for _ in range(60):  # a transfer of registers may take long
            if (first := await self.byte()) is not None:
                break
        else:
            return None
        head = bytes([first, *[await self.byte() for _ in range(link.RESPONSE_HEADER.size)]])
        length = link.RESPONSE_HEADER.unpack(head[1:])[2]
        rest = bytes([await self.byte() for _ in range(length + link.CRC_BYTES)])
        # The link listens again when the last byte has left.
        self.ctx.set(self.dut.o.ready, 1)
        await self.ctx.tick().repeat(2)
        self.ctx.set(self.dut.o.ready, 0)
        return Response.decode(head + rest)

    async def ask(self, *args: Any) -> Response:
        request = Request(*args)
        await self.send(request.encode())
        response = await self.answer()
        assert response is not None and response.sequence == request.sequence
        return response

    async def silent(self, cycles: int = GAP + 5) -> None:
        for _ in range(cycles):
            await self.ctx.tick()
            assert not self.ctx.get(self.dut.o.valid), "an answer nobody asked for"

    def run(self, bench: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
        async def main(ctx: Any) -> None:
            self.ctx = ctx
            await ctx.tick()
            await bench(self)

        simulate(self.dut, main, background=(self.serve_memory, self.serve_writes, self.serve_reads))


def test_header_layout() -> None:
    packed = link.REQUEST_HEADER.pack(1, 2, 0x3456_789A, 0xBCDE)
    view = HEADER_LAYOUT.from_bits(int.from_bytes(packed, "little"))
    assert [view[name] for name in ("command", "sequence", "address", "length")] == [1, 2, 0x3456_789A, 0xBCDE]


def test_every_area() -> None:
    async def bench(b: Bench) -> None:
        assert await b.ask(PING, 9) == Response(Status.OK, 9)
        for addr, length in ((0, 4), (MEMORY - 4, 4), (MEMORY - 1024, 1024)):
            assert await b.ask(READ, 1, addr, length) == Response(Status.OK, 1, bytes(b.memory[addr : addr + length]))
        payload = b.rng.randbytes(1024)
        assert await b.ask(WRITE, 2, 1028, 1024, payload) == Response(Status.OK, 2)
        assert b.memory[1028:2052] == payload
        assert await b.ask(WRITE, 3, link.CSR_BASE + 0x40, 8, bytes(range(8))) == Response(Status.OK, 3)
        assert b.registers[16:18] == [0x03020100, 0x07060504]
        assert (await b.ask(READ, 4, link.CSR_BASE + 0x40, 8)).payload == bytes(range(8))
        words = (await b.ask(READ, 5, link.ID_BASE, link.ID_BYTES)).payload
        expected = link.identity(clock_hz=50_000_000, bit_clocks=434, memory_bytes=MEMORY)
        found = [int.from_bytes(words[4 * i : 4 * i + 4], "little") for i in range(len(IdWord))]
        assert found == [expected[word] for word in IdWord]
        assert (await b.ask(READ, 6, link.ID_BASE + 8, 4)).payload == words[8:12]
        assert b.errors == 0

    Bench().run(bench)


def test_refused_requests() -> None:
    """Every status, in the order of the checks; nothing is written, and the next request is served."""

    async def bench(b: Bench) -> None:
        before = bytes(b.memory)
        for command, addr, length in (
            (7, 0, 4), (7, 0, 3), (WRITE, 0, 0), (READ, 0, 6), (READ, 0, 1028), (READ, 0xFFFF_0000, 0), (WRITE, 0, 2),
            (READ, MEMORY, 4), (READ, MEMORY - 4, 8), (READ, 2, 4), (WRITE, link.ID_BASE, 4),
            (READ, link.CSR_BASE - 4, 4), (READ, link.ID_BASE + link.ID_BYTES - 4, 8),
            (READ, link.CSR_BASE + link.CSR_BYTES - 4, 8),
            (READ, 0x4000_0000, 4), (READ, 0xFFFF_FFFC, 4), (READ, 0xFFFF_FFFC, 8),
        ):  # fmt: skip
            sends = command == WRITE and link.legal_length(length)
            sequence = b.rng.randrange(256)
            response = await b.ask(command, sequence, addr, length, bytes(length) if sends else b"")
            expected = link.check_access(command, addr, length, MEMORY)
            assert expected is not Status.OK
            assert response == Response(expected, sequence), (command, hex(addr), length)
        errors = b.errors
        assert errors == 17
        assert (await b.ask(READ, 1, link.CSR_BASE + 0x7F8, 16)).status is Status.BUS_ERROR
        assert (await b.ask(WRITE, 2, link.CSR_BASE + 0x7F8, 16, bytes(16))).status is Status.BUS_ERROR
        assert b.writes == [("csr", 0x7F8), ("csr", 0x7FC)], "words before the error were written, none after it"
        assert (await b.ask(READ, 3, 0, 4)) == Response(Status.OK, 3, before[:4])
        assert b.memory == before
        assert b.errors == errors + 2

    Bench().run(bench)


def test_damaged_frames() -> None:
    """A changed bit anywhere is answered BAD_CRC, or not at all if the frame's length was hit; the link recovers."""

    async def bench(b: Bench) -> None:
        before = bytes(b.memory)
        frame = Request(WRITE, 5, 8, 8, bytes(range(8))).encode()
        statuses = set()
        for bit in [*range(8, 8 * 9, 5), *range(8 * 9, 8 * len(frame), 13)]:
            damaged = bytearray(frame)
            damaged[bit // 8] ^= 1 << bit % 8
            await b.send(bytes(damaged))
            response = await b.answer()
            statuses.add(response and response.status)
            await b.silent()
        assert statuses == {Status.BAD_CRC, None}
        assert b.memory == before and b.writes == []
        assert (await b.ask(READ, 6, 8, 8)).payload == before[8:16]

    Bench().run(bench)


def test_frames_that_stop() -> None:
    async def bench(b: Bench) -> None:
        frame = Request(WRITE, 5, 8, 8, bytes(range(8))).encode()
        for length in range(1, len(frame)):
            await b.send(frame[:length])
            await b.silent()
            assert b.errors == length
        assert b.writes == []
        await b.send(b"\x00\xff\x51\x72")  # noise between frames
        assert (await b.ask(WRITE, 5, 8, 8, bytes(range(8)))).status is Status.OK
        assert b.memory[8:16] == bytes(range(8))
        # what comes while an answer is under way is not looked at
        await b.send(Request(READ, 7, 0, 4).encode())
        await b.send(Request(READ, 8, 0, 4).encode())
        assert (await b.answer()) == Response(Status.OK, 7, bytes(b.memory[:4]))
        await b.silent()

    Bench().run(bench)


def test_repetitions() -> None:
    start = (WRITE, 20, link.CSR_BASE + 0x20, 4, b"\x01\0\0\0")

    async def bench(b: Bench) -> None:
        assert (await b.ask(*start)).status is Status.OK
        for _ in range(3):
            assert (await b.ask(*start)).status is Status.OK
        assert b.writes == [("csr", 0x20)], "a repetition is not carried out"
        damaged = bytearray(Request(*start).encode())
        damaged[-1] ^= 1
        await b.send(bytes(damaged))
        assert (await b.answer()) == Response(Status.BAD_CRC, 20)
        assert (await b.ask(*start)).status is Status.OK
        assert b.writes == [("csr", 0x20)], "a damaged frame does not count as the last one"
        for other in ((PING, 20), (READ, 21, 0, 4), (READ, 20, 0, 5)):  # after each of these it is a new request
            b.writes.clear()
            await b.ask(*other)
            assert (await b.ask(*start)).status is Status.OK
            assert b.writes == [("csr", 0x20)]
        bad = (WRITE, 30, link.CSR_BASE + 0x800, 4, bytes(4))
        assert (await b.ask(*bad)).status is Status.BUS_ERROR
        assert (await b.ask(*bad)).status is Status.BUS_ERROR, "what failed is tried again"
        first = (READ, 31, 0, 8)
        assert await b.ask(*first) == await b.ask(*first), "a READ is always carried out"

    Bench().run(bench)


@pytest.mark.parametrize("seed", range(2))
def test_random_traffic(seed: int) -> None:
    async def bench(b: Bench) -> None:
        for sequence in range(25):
            length = 4 * b.rng.randint(1, 8)
            base, size = b.rng.choice(((0, MEMORY), (link.CSR_BASE, 0x800)))
            offset = b.rng.randrange(0, size - length, 4)
            if b.rng.random() < 0.5:
                payload = b.rng.randbytes(length)
                assert await b.ask(WRITE, sequence, base + offset, length, payload) == Response(Status.OK, sequence)
            else:
                payload = (await b.ask(READ, sequence, base + offset, length)).payload
            content = b"".join(word.to_bytes(4, "little") for word in b.registers) if base else bytes(b.memory)
            assert content[offset : offset + length] == payload

    Bench(seed=seed).run(bench)
