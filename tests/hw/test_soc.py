"""The whole system over its serial line: memory and registers, every block between."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from hw.soc.soc import Soc, bit_clocks_for
from hw.spec import link
from hw.spec.config import PRESETS
from hw.spec.csr import MAGIC, address
from hw.spec.link import Command, Request, Response, Status
from tests.hw.control_bench import simulate

TINY = PRESETS["tiny"]
BIT = 4
MEMORY = 20 * 1024


class Host:
    """The far end of the line."""

    def __init__(self, dut: Soc, ctx: Any) -> None:
        self.dut, self.ctx, self.sequence = dut, ctx, 0

    async def send(self, data: bytes) -> None:
        for byte in data:
            for level in (0, *(byte >> bit & 1 for bit in range(8)), 1):
                self.ctx.set(self.dut.rx, level)
                await self.ctx.tick().repeat(BIT)

    async def receive(self, count: int) -> bytes:
        ctx, found = self.ctx, bytearray()
        for _ in range(count):
            for _ in range(3000):
                if not ctx.get(self.dut.tx):
                    break
                await ctx.tick()
            else:
                raise AssertionError(f"only {len(found)} of {count} bytes came")
            await ctx.tick().repeat(BIT // 2)
            levels = []
            for _ in range(9):
                await ctx.tick().repeat(BIT)
                levels.append(ctx.get(self.dut.tx))
            assert levels[8] == 1, "stop bit"
            found.append(sum(level << bit for bit, level in enumerate(levels[:8])))
        return bytes(found)

    async def ask(self, command: Command, addr: int = 0, length: int = 0, payload: bytes = b"") -> Response:
        self.sequence += 1
        await self.send(Request(command, self.sequence, addr, length, payload).encode())
        head = await self.receive(1 + link.RESPONSE_HEADER.size)
        rest = await self.receive(link.RESPONSE_HEADER.unpack(head[1:])[2] + link.CRC_BYTES)
        response = Response.decode(head + rest)
        assert response.sequence == self.sequence
        return response

    async def read(self, addr: int, length: int) -> bytes:
        response = await self.ask(Command.READ, addr, length)
        assert response.status is Status.OK
        return response.payload

    async def write(self, addr: int, payload: bytes) -> None:
        assert (await self.ask(Command.WRITE, addr, len(payload), payload)).status is Status.OK

    async def get(self, name: str) -> int:
        return int.from_bytes(await self.read(link.CSR_BASE + address(name), 4), "little")

    async def set(self, name: str, value: int) -> None:
        await self.write(link.CSR_BASE + address(name), value.to_bytes(4, "little"))


def run(bench: Callable[[Host], Coroutine[Any, Any, None]]) -> None:
    dut = Soc(TINY, MEMORY, clock_hz=12_000_000, bit_clocks=BIT, light_clocks=1000)

    async def main(ctx: Any) -> None:
        await ctx.tick().repeat(50)
        await bench(Host(dut, ctx))

    simulate(dut, main)


def test_memory_and_registers() -> None:
    async def bench(host: Host) -> None:
        await host.write(MEMORY - 4, b"\x12\x34\x56\x78")
        assert await host.read(MEMORY - 8, 8) == bytes(4) + b"\x12\x34\x56\x78"
        assert await host.get("MAGIC") == MAGIC
        assert host.ctx.get(host.dut.link_error) == 0
        assert (await host.ask(Command.READ, MEMORY, 4)).status is Status.BAD_ADDRESS
        assert host.ctx.get(host.dut.link_error) == 1

    run(bench)


def test_bit_clocks() -> None:
    assert bit_clocks_for(100_000_000, 1_000_000) == 100
    assert bit_clocks_for(62_500_000, 1_000_000) == 62
    with pytest.raises(ValueError, match=r"7 cycles a bit are 2\.9 % off.*take a lower rate"):
        bit_clocks_for(20_000_000, 2_940_000)
