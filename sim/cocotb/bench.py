"""What all benches share: the data they were given, clock and reset, cycle-accurate stepping."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly, SimTimeoutError, with_timeout

from sim.cocotb.exchange import bench_folder, read_arrays, read_parameters, write_arrays

__all__ = ["Bench", "pack", "unpack"]

PERIOD = 2
"""Clock period in simulation steps: the fewest a simulator can do."""


def pack(values: npt.ArrayLike, width: int) -> int:
    """Pack integers (two's complement, `width` bits each, first in the low bits) into one."""
    word = 0
    for index, value in enumerate(np.asarray(values).ravel().tolist()):
        word |= (int(value) & ((1 << width) - 1)) << (index * width)
    return word


def unpack(word: int, width: int, count: int, *, signed: bool = True) -> npt.NDArray[np.int64]:
    """Split an integer into `count` numbers of `width` bits, the first from the low bits."""
    values = [word >> (index * width) & ((1 << width) - 1) for index in range(count)]
    if signed:
        values = [value - (1 << width) if value >> (width - 1) else value for value in values]
    return np.array(values, np.int64)


class Bench:
    """Test bench base class.

    Handles are looked up once, by port name, as ``bench.ports``.  Benches drive inputs and look at outputs in the
    second half of the clock cycle (:meth:`step`): every simulator has settled there, so none of their differences in
    event order can show.

    Parameters
    ----------
    dut
        The top-level handle.
    ports
        Names of the ports the bench uses.
    """

    def __init__(self, dut: Any, ports: list[str]) -> None:
        self._folder = bench_folder()
        self.parameters = read_parameters(self._folder)
        self.arrays = read_arrays(self._folder)
        self.dut, self.clk = dut, dut.clk
        self.ports = {name: getattr(dut, name) for name in ports}
        self._edge, self._settled = FallingEdge(self.clk), ReadOnly()
        self._reset = dut.aresetn if self.parameters["reset_low"] else getattr(dut, "rst", None)
        self.cycle = 0

    async def start(self, **inputs: int) -> None:
        """Start the clock, set inputs and reset for three cycles."""
        for name, value in inputs.items():
            self.ports[name].value = value
        active = 0 if self.parameters["reset_low"] else 1
        if self._reset is not None:
            self._reset.value = active
        cocotb.start_soon(Clock(self.clk, PERIOD, unit="step").start())
        for _ in range(3):
            await self._edge
        if self._reset is not None:
            self._reset.value = 1 - active

    async def step(self, *outputs: str, **inputs: int) -> list[int | None]:
        """Set inputs in the next cycle; return outputs of that same cycle, unsigned, None where a bit is undefined."""
        await self._edge
        for name, value in inputs.items():
            self.ports[name].value = value
        self.cycle += 1
        if not outputs:
            return []
        await self._settled
        values = [self.ports[name].value for name in outputs]
        return [int(value) if value.is_resolvable else None for value in values]

    def hand_back(self, **results: npt.ArrayLike) -> None:
        """Give arrays to the caller of :func:`sim.cocotb.runner.run_bench`."""
        write_arrays(self._folder, results)

    async def limited(self, work: Any) -> Any:
        """Await `work`, but no longer than the bench's ``timeout_cycles``."""
        cycles = self.parameters["timeout_cycles"]
        try:
            return await with_timeout(work, cycles * PERIOD, "step")
        except SimTimeoutError:
            raise AssertionError(f"not finished after {cycles} cycles") from None
