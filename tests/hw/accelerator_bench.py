"""The whole accelerator in Amaranth's simulator: memory behind its bus, registers driven, regions laid out."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

from hw.accelerator import Accelerator
from hw.axi import AXI4LiteSignature, AXI4ReadSignature, AXI4WriteSignature
from hw.csr_block import DATA_WIDTH
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import CSR_ADDR_WIDTH, REGION_COUNT, ErrorCause
from tests.hw.axi_model import AxiReadMemory, AxiWriteMemory, Dram
from tests.hw.control_bench import LiteManager, simulate

BASE = 0x23_0000_0000
PAGE = 4096
BUSY, DONE, ERROR, RESETTING = 1, 2, 4, 8


def port(dut: Accelerator, prefix: str, signature: Any) -> SimpleNamespace:
    """Gather the flat ports of a bus under their plain names."""
    return SimpleNamespace(**{name: getattr(dut, f"{prefix}_{name}") for name in signature.members})


class AcceleratorRig:
    """An accelerator, a DRAM with its regions in reverse order, and a driver."""

    def __init__(
        self, config: AcceleratorConfig, regions: list[bytes], *, seed: int = 0, stall: float = 0.2, latency: int = 8
    ) -> None:
        assert len(regions) == REGION_COUNT
        self.dut = Accelerator(config)
        widths = config.axi_addr_width, config.axi_data_width
        self.axil = port(self.dut, "s_axil", AXI4LiteSignature(CSR_ADDR_WIDTH, DATA_WIDTH))
        self.sizes = [len(region) for region in regions]
        self.bases: list[int] = [0] * REGION_COUNT
        content = b""
        for index in reversed(range(REGION_COUNT)):
            self.bases[index] = BASE + len(content)
            content += regions[index] + bytes(-len(regions[index]) % PAGE)
        self.dram = Dram(BASE, content)
        self.reads = AxiReadMemory(
            port(self.dut, "m_axi", AXI4ReadSignature(*widths)), self.dram, seed=seed, stall=stall, latency=latency
        )
        self.writes = AxiWriteMemory(
            port(self.dut, "m_axi", AXI4WriteSignature(*widths)), self.dram, seed=seed + 1, stall=stall, latency=latency
        )
        self.rng = random.Random(seed + 2)
        self.stall = stall
        self.bus: LiteManager

    def region(self, index: int) -> bytes:
        """Return a region's present content."""
        start = self.bases[index] - BASE
        return bytes(self.dram.data[start : start + self.sizes[index]])

    async def begin(self, ctx: Any) -> None:
        """Wait for the end of the reset and set the regions."""
        self.bus = LiteManager(ctx, self.axil, self.rng, stall=self.stall)
        await self.settle()
        for index in range(REGION_COUNT):
            await self.bus.set(f"REGION{index}_BASE_LO", self.bases[index] & 0xFFFF_FFFF)
            await self.bus.set(f"REGION{index}_BASE_HI", self.bases[index] >> 32)
            await self.bus.set(f"REGION{index}_SIZE", self.sizes[index])

    async def settle(self) -> None:
        while await self.bus.get("STATUS") & RESETTING:
            pass

    async def execute(self, count: int, *, watchdog: int = 5000) -> int:
        """Run a program of `count` instructions to its end; return STATUS."""
        await self.bus.set("PROG_COUNT", count)
        await self.bus.set("WATCHDOG", watchdog)
        await self.bus.set("CTRL", 1)
        for _ in range(5000):
            if not (status := await self.bus.get("STATUS")) & BUSY:
                return status
        raise AssertionError("hung")

    async def error(self) -> tuple[ErrorCause, int, int]:
        bus = self.bus
        return ErrorCause(await bus.get("ERR_CAUSE")), await bus.get("ERR_PC"), await bus.get("ERR_INFO")

    async def soft_reset(self) -> None:
        await self.bus.set("CTRL", 2)
        await self.settle()
        self.reads.finish()
        self.writes.finish()

    def run(self, bench: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        simulate(self.dut, bench, background=(self.reads.run, self.writes.run))
