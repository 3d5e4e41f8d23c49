"""Whole accelerator: a host program over AXI4-Lite, an AXI RAM with random back-pressure behind it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.task import bridge, resume
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from sim.cocotb.bench import Bench
from sw.runtime.control_port import ControlPort


class AcceleratorBench(Bench):
    """RAM, control port manager and host.

    Parameters: ``bases`` and ``sizes`` of the regions, ``instruction_count``, ``stall`` (probability), ``seed``.
    Arrays: ``region0`` to ``region3``, bytes before the run.  Hands back the same after the run, ``status`` (done,
    error, cause, pc, info) and ``counters`` (in the order of :class:`hw.spec.csr.Counter`).
    """

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, ["irq"])
        wiring = {"reset": self._reset, "reset_active_level": not self.parameters["reset_low"]}
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), self.clk, size=2**40, **wiring)
        self.axil = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), self.clk, **wiring)
        write, read = self.ram.write_if, self.ram.read_if
        self.channels = [write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel]
        lite = [self.axil.write_if.b_channel, self.axil.read_if.r_channel]
        for index, channel in enumerate([*self.channels, *lite] if self.parameters["stall"] else []):
            channel.set_pause_generator(self._pauses(index))

    def _pauses(self, index: int) -> Iterator[bool]:
        rng = random.Random(self.parameters["seed"] * 16 + index)
        while True:
            yield rng.random() < self.parameters["stall"]

    async def _read(self, addr: int) -> int:
        return await self.axil.read_dword(addr)

    async def _write(self, addr: int, value: int) -> None:
        await self.axil.write_dword(addr, value)

    async def _interrupt(self) -> None:
        if not self.ports["irq"].value:
            await RisingEdge(self.ports["irq"])

    def _host(self) -> None:
        """Run the program as any host does; the blocking driver runs in a thread of its own."""
        port = ControlPort(resume(self._read), resume(self._write))
        assert port.wait_ready(), "the reset does not end"
        port.set_regions(self.parameters["bases"], self.parameters["sizes"])
        port.start(self.parameters["instruction_count"])
        resume(self._interrupt)()
        port.acknowledge()
        status = port.fields("STATUS")
        self.status = [status["done"], status["error"], *port.error()]
        self.counters = list(port.counters().values())

    async def run(self) -> None:
        """Fill the RAM, run, check that nothing is left in flight, and hand everything back."""
        await self.start()
        bases, sizes = self.parameters["bases"], self.parameters["sizes"]
        for index, base in enumerate(bases):
            self.ram.write(base, self.arrays[f"region{index}"].tobytes())
        await bridge(self._host)()
        for channel in self.channels:
            assert channel.empty(), f"{type(channel).__name__} still holds a transfer after the interrupt"
        assert self.axil.idle()
        assert not self.ports["irq"].value, "the interrupt stays after it was acknowledged"
        regions = {
            f"region{index}": list(self.ram.read(base, size))
            for index, (base, size) in enumerate(zip(bases, sizes, strict=True))
        }
        self.hand_back(**regions, status=self.status, counters=self.counters)


@cocotb.test()
async def program(dut: Any) -> None:
    """Run one program; the caller compares."""
    bench = AcceleratorBench(dut)
    await bench.limited(bench.run())
