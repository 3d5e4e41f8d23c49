"""Scratchpad: a source per port with random gaps, a monitor per read port, a mirror of the memory beside it."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from sim.cocotb.bench import Bench, pack, unpack
from sim.cocotb.exchange import bench_folder, read_parameters


@dataclass(frozen=True)
class Access:
    """A request: address of byte 0, bytes lo <= i < hi, what else to read (`fill`) or the bytes to write.

    A strided one reads every second byte into the port's last lanes.
    """

    addr: int
    lo: int
    hi: int
    fill: int = 0
    data: tuple[int, ...] = ()
    strided: bool = False


class Port:
    """One vector port: its request, and how its payload is packed."""

    def __init__(self, name: str, lanes: int, strided_lanes: int, addr_width: int) -> None:
        self.name, self.lanes, self.strided_lanes, self.addr_width = name, lanes, strided_lanes, addr_width
        self.span = max(lanes, 2 * strided_lanes - 1)
        self.bound = self.span.bit_length()
        self.request: Access | None = None

    def payload(self, access: Access, *, write: bool) -> int:
        """Pack a request in the order of the signature's struct: addr, lo, hi, then data, or fill and strided."""
        word = access.addr | access.lo << self.addr_width | access.hi << (self.addr_width + self.bound)
        rest = pack(access.data, 8) if write else access.fill & 0xFF | access.strided << 8
        return word | rest << (self.addr_width + 2 * self.bound)


class ScratchpadBench(Bench):
    """Random unaligned accesses on all ports at once.

    Parameters: ``reads`` and ``writes`` (port name to lanes, and to how many of them can be strided), ``addr_width``,
    ``bytes``, ``read_latency``, ``write_latency``, ``count`` (accepted requests per port), ``seed``.
    """

    def __init__(self, dut: Any) -> None:
        names = [
            f"{port}_{what}"
            for kind in ("reads", "writes")
            for port in bench_ports(kind)
            for what in ("req_valid", "req_ready", "req_payload")
        ]
        super().__init__(dut, [*names, *(f"{port}_data" for port in bench_ports("reads"))])
        facts = self.parameters
        self.rng = random.Random(facts["seed"])
        self.size = facts["bytes"]
        self.reads = [Port(name, *lanes, facts["addr_width"]) for name, lanes in facts["reads"].items()]
        self.writes = [Port(name, *lanes, facts["addr_width"]) for name, lanes in facts["writes"].items()]
        self.memory = np.zeros(self.size, np.int64)
        self.visible: deque[tuple[int, Access]] = deque()  # writes under way, and the first cycle whose reads see them
        self.expected: dict[str, deque[tuple[int, np.ndarray]]] = {port.name: deque() for port in self.reads}
        self.accepted = {port.name: 0 for port in (*self.reads, *self.writes)}
        self.waited = dict.fromkeys(self.accepted, 0)

    def draw(self, port: Port, *, write: bool) -> Access:
        """Return a random request; many near the ends of the memory and of banks, some empty."""
        strided = port.strided_lanes > 0 and self.rng.random() < 0.5
        count = 2 * port.strided_lanes - 1 if strided else port.lanes
        lo, hi = sorted(self.rng.choices(range(count + 1), k=2))
        if self.rng.random() < 0.5:
            lo, hi = 0, count
        base = self.rng.choice([0, self.size // 2, self.rng.randrange(self.size)])
        addr = (base + self.rng.randrange(-port.lanes, 64)) % self.size
        if write:
            return Access(addr, lo, hi, data=tuple(self.rng.randrange(-128, 128) for _ in range(port.lanes)))
        return Access(addr, lo, hi, fill=self.rng.randrange(-128, 128), strided=strided)

    def clash(self, access: Access, others: list[Access]) -> bool:
        """Tell whether an access touches a byte of another: then their order within a cycle would decide."""
        mine = {(access.addr + lane) % self.size for lane in range(access.lo, access.hi)}
        return any((other.addr + lane) % self.size in mine for other in others for lane in range(other.lo, other.hi))

    async def fill(self) -> None:
        """Write every byte once through the widest write port."""
        port = max(self.writes, key=lambda item: item.lanes)
        for addr in range(0, self.size, port.lanes):
            hi = min(port.lanes, self.size - addr)
            data = tuple(self.rng.randrange(-128, 128) for _ in range(port.lanes))
            (ready,) = await self.step(
                f"{port.name}_req_ready",
                **{
                    f"{port.name}_req_valid": 1,
                    f"{port.name}_req_payload": port.payload(Access(addr, 0, hi, data=data), write=True),
                },
            )
            assert ready, "a lone port must be ready"
            self.memory[addr : addr + hi] = data[:hi]
        await self.step(**{f"{port.name}_req_valid": 0})
        await self.step()

    async def run(self) -> None:
        """Drive all ports until each has had its share of accepted requests; compare every answer."""
        while min(self.accepted.values()) < self.parameters["count"] or any(self.expected.values()):
            await self.one_cycle()
        assert not any(port.request for port in (*self.reads, *self.writes)), "a request was never accepted"
        first = {self.reads[0].name, self.writes[0].name}
        for name, cycles in self.waited.items():
            assert (cycles == 0) == (name in first), f"{name} waited {cycles} cycles"

    async def one_cycle(self) -> None:
        """Offer requests, see which are taken, check the answers that are due."""
        inputs: dict[str, int] = {}
        for kind, ports in (("w", self.writes), ("r", self.reads)):
            for port in ports:
                enough = self.accepted[port.name] >= self.parameters["count"]
                if port.request is None and not enough and self.rng.random() < 0.7:
                    port.request = self.pick(port, write=kind == "w")
                inputs[f"{port.name}_req_valid"] = int(port.request is not None)
                if port.request is not None:
                    inputs[f"{port.name}_req_payload"] = port.payload(port.request, write=kind == "w")
        ports = [*self.reads, *self.writes]
        watched = [f"{port.name}_req_ready" for port in ports] + [f"{port.name}_data" for port in self.reads]
        values = await self.step(*watched, **inputs)
        readies, answers = values[: len(ports)], values[len(ports) :]
        while self.visible and self.visible[0][0] <= self.cycle:
            self.apply(self.visible.popleft()[1])
        for port, ready in zip(ports, readies, strict=True):
            if port.request is None:
                continue
            if not ready:
                self.waited[port.name] += 1
                continue
            self.accepted[port.name] += 1
            if port in self.reads:
                due = self.cycle + self.parameters["read_latency"]
                self.expected[port.name].append((due, self.answer(port, port.request)))
            else:
                self.visible.append((self.cycle + 1 + self.parameters["write_latency"], port.request))
            port.request = None
        for port, answer in zip(self.reads, answers, strict=True):
            queue = self.expected[port.name]
            if queue and queue[0][0] == self.cycle:
                expected = queue.popleft()[1]
                got = unpack(answer, 8, port.lanes)[-len(expected) :]
                assert np.array_equal(got, expected), f"{port.name}, cycle {self.cycle}: {got} != {expected}"

    def pick(self, port: Port, *, write: bool) -> Access:
        """Draw a request that neither meets a write under way nor, if it writes, another pending request."""
        pending = [other.request for other in self.writes if other.request is not None]
        if write:
            pending += [other.request for other in self.reads if other.request is not None]
        pending += [access for _, access in self.visible]
        while self.clash(access := self.draw(port, write=write), pending):
            pass
        return access

    def apply(self, access: Access) -> None:
        """Write into the mirror."""
        for lane in range(access.lo, access.hi):
            self.memory[(access.addr + lane) % self.size] = access.data[lane]

    def answer(self, port: Port, access: Access) -> np.ndarray:
        """Return what a read must give in its last lanes: all of them, or all that can be strided."""
        value = np.full(port.span, access.fill, np.int64)
        for byte in range(access.lo, access.hi):
            value[byte] = self.memory[(access.addr + byte) % self.size]
        return value[: 2 * port.strided_lanes : 2] if access.strided else value[: port.lanes]


def bench_ports(kind: str) -> list[str]:
    """Return the names of the task's read or write ports."""
    return list(read_parameters(bench_folder())[kind])


@cocotb.test()
async def accesses(dut: Any) -> None:
    """Every answer equals the mirror's."""
    bench = ScratchpadBench(dut)
    idle = {f"{port.name}_req_valid": 0 for port in (*bench.reads, *bench.writes)}
    await bench.start(**idle)
    await bench.fill()
    await bench.limited(bench.run())
