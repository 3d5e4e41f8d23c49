"""Load and store unit: instructions in, cocotbext-axi's RAM on one side, the on-chip memories on the other."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np
from cocotbext.axi import AxiRamRead, AxiRamWrite, AxiReadBus, AxiWriteBus

from sim.cocotb.bench import Bench, pack, unpack

INSTRUCTION_BITS = 512
QUIET_CYCLES = 40
"""Cycles to watch after the last instruction: nothing more may happen."""


class DmaBench(Bench):
    """Instruction source and done monitor; subclasses add the bus and the memories.

    Parameters: ``unit`` ("load" or "store"), ``bases`` and ``sizes`` of the regions, ``lanes`` (bytes per beat),
    ``addr_width`` (of the scratchpad), ``read_latency``, ``stall`` (probability), ``seed``.  Arrays: ``program``
    (instructions, 64 bytes), ``dram`` (bytes from region 0's base on), ``act`` and others (on-chip memories before).
    """

    bus: AxiRamRead | AxiRamWrite
    channels: list[Any]

    def __init__(self, dut: Any, ports: list[str]) -> None:
        unit = ["instr_valid", "instr_ready", "instr_payload", "done", "idle", "abort", "error_valid"]
        act = ["act_req_valid", "act_req_ready", "act_req_payload"]
        super().__init__(dut, [*(f"unit_{name}" for name in unit), *act, "regions", *ports])
        self.rng = random.Random(self.parameters["seed"])
        self.lanes, self.addr_width = self.parameters["lanes"], self.parameters["addr_width"]
        self.act = self.arrays["act"].copy()
        self.pending = deque(word.tobytes() for word in self.arrays["program"])
        self.count, self.sent, self.done = len(self.pending), 0, 0

    def stall_bus(self) -> None:
        """Give every channel of the bus its own random pauses."""
        for index, channel in enumerate(self.channels):
            channel.set_pause_generator(self._pauses(random.Random(self.parameters["seed"] * 8 + index)))

    def _pauses(self, rng: random.Random) -> Iterator[bool]:
        while True:
            yield rng.random() < self.parameters["stall"]

    def chance(self) -> bool:
        """Draw whether something goes on in this cycle."""
        return self.rng.random() >= self.parameters["stall"]

    def request(self, payload: int) -> tuple[int, int, int, int]:
        """Split a scratchpad request: addr, lo, hi, rest."""
        bound = self.lanes.bit_length()
        fields = []
        for width in (self.addr_width, bound, bound):
            fields.append(payload & ((1 << width) - 1))
            payload >>= width
        return fields[0], fields[1], fields[2], payload

    async def run(self) -> None:
        """Feed the program, serve the memories, and end when all is done and has stayed quiet."""
        base = self.parameters["bases"][0]
        self.bus.write(base, self.arrays["dram"].tobytes())
        regions = 0
        for index, (start, size) in enumerate(zip(self.parameters["bases"], self.parameters["sizes"], strict=True)):
            regions |= (start | size << 64) << (96 * index)
        await self.start(unit_instr_valid=0, unit_abort=0, act_req_ready=0, regions=regions, **self.idle_inputs())
        quiet, offered = 0, False
        while quiet < QUIET_CYCLES:
            offered = offered or (bool(self.pending) and self.chance())
            inputs = {"unit_instr_valid": int(offered)}
            if offered:
                word = int.from_bytes(self.pending[0], "little")
                inputs["unit_instr_payload"] = word | (self.sent + 1) << INSTRUCTION_BITS
            ready = self.chance()
            taken, done, error, idle = await self.serve(ready, inputs)
            assert not error, f"instruction {self.done + 1} was refused"
            if offered and taken:
                self.pending.popleft()
                self.sent, offered = self.sent + 1, False
            self.done += done
            assert self.done <= self.sent, "done without an instruction"
            quiet = quiet + 1 if self.done == self.count and idle else 0
        for channel in self.channels:
            assert channel.empty(), f"{type(channel).__name__} is not empty at the end"
        self.hand_back(act=self.act, dram=list(self.bus.read(base, len(self.arrays["dram"]))), **self.memories())

    def idle_inputs(self) -> dict[str, int]:
        """Return further inputs and their values during reset."""
        return {}

    def memories(self) -> dict[str, np.ndarray]:
        """Return further memories to hand back."""
        return {}

    async def serve(self, ready: bool, inputs: dict[str, int]) -> tuple[int, int, int, int]:
        """Run one cycle with the on-chip side; return instruction ready, done, error and idle."""
        raise NotImplementedError


class LoadBench(DmaBench):
    """Writes into mirrors of the three on-chip memories (arrays ``act``, ``weight``, ``param``)."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, [f"{memory}_{what}" for memory in ("weight", "param") for what in ("en", "addr", "data")])
        self.bus = AxiRamRead(AxiReadBus.from_prefix(dut, "axi"), self.clk, self._reset, size=2**40)
        self.channels = [self.bus.ar_channel, self.bus.r_channel]
        self.stall_bus()
        self.lines = {name: self.arrays[name].copy() for name in ("weight", "param")}

    def memories(self) -> dict[str, np.ndarray]:
        """Return weight and parameter memory."""
        return self.lines

    async def serve(self, ready: bool, inputs: dict[str, int]) -> tuple[int, int, int, int]:
        """Accept a scratchpad write if `ready`; line memories always accept."""
        names = ["unit_instr_ready", "unit_done", "unit_error_valid", "unit_idle", "act_req_valid", "act_req_payload"]
        lines = [f"{memory}_{what}" for memory in self.lines for what in ("en", "addr", "data")]
        values = await self.step(*names, *lines, act_req_ready=int(ready), **inputs)
        if values[4] and ready:
            addr, lo, hi, data = self.request(values[5])
            for lane in range(lo, hi):
                self.act[(addr + lane) % len(self.act)] = data >> (8 * lane) & 0xFF
        for index, memory in enumerate(self.lines.values()):
            enable, addr, data = values[6 + 3 * index : 9 + 3 * index]
            if enable:
                at = addr * self.lanes
                memory[at : at + self.lanes] = unpack(data, 8, self.lanes, signed=False)
        return values[0], values[1], values[2], values[3]


class StoreBench(DmaBench):
    """Answers scratchpad reads, a fixed latency after they were accepted."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, ["act_data"])
        self.bus = AxiRamWrite(AxiWriteBus.from_prefix(dut, "axi"), self.clk, self._reset, size=2**40)
        self.channels = [self.bus.aw_channel, self.bus.w_channel, self.bus.b_channel]
        self.stall_bus()
        self.answers: deque[int] = deque([0] * self.parameters["read_latency"])

    def idle_inputs(self) -> dict[str, int]:
        """Return the data port's value."""
        return {"act_data": 0}

    async def serve(self, ready: bool, inputs: dict[str, int]) -> tuple[int, int, int, int]:
        """Put the answer that is due on the port; accept a request if `ready`."""
        names = ["unit_instr_ready", "unit_done", "unit_error_valid", "unit_idle", "act_req_valid", "act_req_payload"]
        values = await self.step(*names, act_req_ready=int(ready), act_data=self.answers.popleft(), **inputs)
        answer = self.rng.getrandbits(8 * self.lanes)  # what is not asked for is noise
        if values[4] and ready:
            addr, lo, hi, fill = self.request(values[5])
            at = (addr + np.arange(self.lanes)) % len(self.act)
            inside = (np.arange(self.lanes) >= lo) & (np.arange(self.lanes) < hi)
            answer = pack(np.where(inside, self.act[at], fill), 8)
        self.answers.append(answer)
        return values[0], values[1], values[2], values[3]


@cocotb.test()
async def transfers(dut: Any) -> None:
    """Run every transfer; the caller compares."""
    bench = LoadBench(dut) if hasattr(dut, "weight_en") else StoreBench(dut)
    await bench.limited(bench.run())
