"""AXI4 memory and scratchpad ports for Amaranth's simulator: random stalls, latency, error responses, protocol checks.

Every model's ``run`` is an endless background test bench.  The memory models check on each clock edge what AXI4 asks
of a manager (stable payload while VALID waits, bursts within 4 KiB, WLAST in its place) and fail the test otherwise.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from amaranth.hdl import Signal, Value
from amaranth.lib.wiring import PureInterface
from amaranth.sim import SimulatorContext

from hw.axi import Burst, Resp

PAGE = 4096


@dataclass
class Transfer:
    """One burst: address, beats, ID and the cycle of its address handshake."""

    addr: int
    beats: int
    id: int
    cycle: int
    sent: int = 0


class Dram:
    """Bytes from `base` on; any access outside fails the test."""

    def __init__(self, base: int, content: bytes) -> None:
        self.base, self.data = base, bytearray(content)

    def read(self, addr: int, count: int) -> int:
        start = self._offset(addr, count)
        return int.from_bytes(self.data[start : start + count], "little")

    def write(self, addr: int, count: int, value: int, strobes: int) -> None:
        start = self._offset(addr, count)
        for lane in range(count):
            if strobes >> lane & 1:
                self.data[start + lane] = value >> 8 * lane & 0xFF

    def _offset(self, addr: int, count: int) -> int:
        assert 0 <= addr - self.base <= len(self.data) - count, f"bus access to {addr:#x} outside the memory"
        return addr - self.base


class _Stable:
    """Checks that a channel keeps VALID and payload until READY."""

    def __init__(self, name: str) -> None:
        self.name, self.held = name, None

    def check(self, valid: int, ready: int, payload: tuple[int, ...]) -> bool:
        if self.held is not None:
            assert valid, f"{self.name}VALID fell before {self.name}READY"
            assert payload == self.held, f"{self.name} payload changed while VALID waited"
        self.held = payload if valid and not ready else None
        return bool(valid and ready)


def _check_address(transfer: Transfer, size: int, burst: int, beat_bytes: int) -> None:
    assert size == (beat_bytes - 1).bit_length(), f"AxSIZE {size} is not the full width"
    assert burst == Burst.INCR.value, f"AxBURST {burst} is not INCR"
    assert transfer.addr % beat_bytes == 0, f"address {transfer.addr:#x} is not beat-aligned"
    end = transfer.addr + transfer.beats * beat_bytes - 1
    assert transfer.addr // PAGE == end // PAGE, f"burst {transfer.addr:#x}..{end:#x} crosses 4 KiB"


class AxiReadMemory:
    """Subordinate for an AXI4 read manager.

    Parameters
    ----------
    port
        The manager's interface (or the interface seen from it).
    dram
        What it reads.
    latency
        Cycles from the address handshake to the first beat, at least.
    stall
        Probability that ARREADY is low, and that no beat is offered, in a cycle.
    faults
        Addresses of beats answered with SLVERR.
    """

    def __init__(
        self,
        port: PureInterface,
        dram: Dram,
        *,
        seed: int = 0,
        latency: int = 1,
        stall: float = 0.0,
        faults: frozenset[int] = frozenset(),
    ) -> None:
        self.port, self.dram, self.latency, self.stall, self.faults = port, dram, latency, stall, faults
        self.random = random.Random(seed)
        self.queues: dict[int, deque[Transfer]] = {}
        self.bursts: list[Transfer] = []
        self.beats = 0
        self.cycle = 0
        self.most_open = 0
        self.refuse = False
        """Set by a test to hold ARREADY low."""
        self.blocked = False
        """Set by a test to answer nothing."""

    @property
    def open(self) -> int:
        """Bursts accepted and not fully answered."""
        return sum(len(queue) for queue in self.queues.values())

    def _offer(self) -> Transfer | None:
        ready = [q[0] for q in self.queues.values() if q and q[0].cycle + self.latency <= self.cycle]
        if not ready or self.blocked or self.random.random() < self.stall:
            return None
        return self.random.choice(ready)

    async def run(self, ctx: SimulatorContext) -> None:
        port, width = self.port, len(self.port.rdata)
        beat_bytes = width // 8
        stable = _Stable("AR")
        offer: Transfer | None = None
        while True:
            arready = not self.refuse and self.random.random() >= self.stall
            ctx.set(port.arready, arready)
            offer = offer or self._offer()
            ctx.set(port.rvalid, offer is not None)
            if offer is None:
                ctx.set(port.rdata, self.random.getrandbits(width))
                ctx.set(port.rlast, self.random.getrandbits(1))
                ctx.set(port.rresp, self.random.getrandbits(2))
            else:
                addr = offer.addr + offer.sent * beat_bytes
                ctx.set(port.rid, offer.id)
                ctx.set(port.rdata, self.dram.read(addr, beat_bytes))
                ctx.set(port.rlast, offer.sent == offer.beats - 1)
                ctx.set(port.rresp, Resp.SLVERR if addr in self.faults else Resp.OKAY)
            _, _, valid, rready, *payload = await ctx.tick().sample(
                port.arvalid, port.rready, port.araddr, port.arlen, port.arid, port.arsize, port.arburst
            )
            if stable.check(valid, arready, tuple(payload)):
                addr, length, bus_id, size, burst = payload
                transfer = Transfer(addr, length + 1, bus_id, self.cycle)
                _check_address(transfer, size, burst, beat_bytes)
                self.queues.setdefault(bus_id, deque()).append(transfer)
                self.bursts.append(transfer)
                self.most_open = max(self.most_open, self.open)
            if offer is not None and rready:
                self.beats += 1
                offer.sent += 1
                if offer.sent == offer.beats:
                    self.queues[offer.id].popleft()
                offer = None
            self.cycle += 1

    def finish(self) -> None:
        """Check that nothing is open."""
        assert self.open == 0, f"{self.open} read bursts were never fully answered"


class AxiWriteMemory:
    """Subordinate for an AXI4 write manager; parameters as for :class:`AxiReadMemory`.

    ``latency`` counts from the last data beat to the response; ``faults`` are addresses of bursts.
    """

    def __init__(
        self,
        port: PureInterface,
        dram: Dram,
        *,
        seed: int = 0,
        latency: int = 1,
        stall: float = 0.0,
        faults: frozenset[int] = frozenset(),
    ) -> None:
        self.port, self.dram, self.latency, self.stall, self.faults = port, dram, latency, stall, faults
        self.random = random.Random(seed)
        self.addressed: deque[Transfer] = deque()
        self.data: deque[tuple[int, int, int]] = deque()
        self.answers: deque[tuple[int, Transfer]] = deque()
        self.bursts: list[Transfer] = []
        self.beats = 0
        self.strobed = 0
        self.cycle = 0
        self.most_open = 0
        self.refuse = False
        """Set by a test to hold AWREADY low."""
        self.blocked = False
        """Set by a test to hold WREADY low."""

    async def run(self, ctx: SimulatorContext) -> None:
        port = self.port
        beat_bytes = len(port.wdata) // 8
        stable_aw, stable_w = _Stable("AW"), _Stable("W")
        answering = False
        while True:
            awready = not self.refuse and self.random.random() >= self.stall
            wready = not self.blocked and self.random.random() >= self.stall
            ctx.set(port.awready, awready)
            ctx.set(port.wready, wready)
            due = self.answers and self.answers[0][0] <= self.cycle
            answering = answering or bool(due and self.random.random() >= self.stall)
            ctx.set(port.bvalid, answering)
            if answering:
                transfer = self.answers[0][1]
                ctx.set(port.bid, transfer.id)
                ctx.set(port.bresp, Resp.SLVERR if transfer.addr in self.faults else Resp.OKAY)
            else:
                ctx.set(port.bresp, self.random.getrandbits(2))
            _, _, awvalid, wvalid, bready, wdata, wstrb, wlast, *payload = await ctx.tick().sample(
                port.awvalid, port.wvalid, port.bready, port.wdata, port.wstrb, port.wlast,
                port.awaddr, port.awlen, port.awid, port.awsize, port.awburst,
            )  # fmt: skip
            if answering and bready:
                self.answers.popleft()
                answering = False
            if stable_aw.check(awvalid, awready, tuple(payload)):
                addr, length, bus_id, size, burst = payload
                transfer = Transfer(addr, length + 1, bus_id, self.cycle)
                _check_address(transfer, size, burst, beat_bytes)
                self.addressed.append(transfer)
                self.bursts.append(transfer)
            if stable_w.check(wvalid, wready, (wdata, wstrb, wlast)):
                self.data.append((wdata, wstrb, wlast))
            self._match(beat_bytes)
            self.most_open = max(self.most_open, len(self.addressed) + len(self.answers))
            self.cycle += 1

    def _match(self, beat_bytes: int) -> None:
        """Write the data beats whose address is known."""
        while self.addressed and self.data:
            transfer = self.addressed[0]
            value, strobes, last = self.data.popleft()
            self.dram.write(transfer.addr + transfer.sent * beat_bytes, beat_bytes, value, strobes)
            transfer.sent += 1
            self.beats += 1
            self.strobed += strobes.bit_count()
            assert last == (transfer.sent == transfer.beats), f"WLAST={last} in beat {transfer.sent} of {transfer}"
            if last:
                self.answers.append((self.cycle + self.latency, self.addressed.popleft()))

    def finish(self) -> None:
        """Check that nothing is open."""
        assert not self.addressed, f"{len(self.addressed)} write bursts lack data"
        assert not self.data, f"{len(self.data)} data beats have no address"
        assert not self.answers, f"{len(self.answers)} responses were not taken"


class WritePortModel:
    """Scratchpad behind a :class:`hw.ports.WriteSignature`; ``memory`` shows a write when reads would see it."""

    def __init__(self, port: PureInterface, memory: bytearray, *, seed: int = 0, stall: float = 0.0) -> None:
        self.port, self.memory, self.stall = port, memory, stall
        self.random = random.Random(seed)
        self.writes = 0

    async def run(self, ctx: SimulatorContext) -> None:
        req = self.port.req
        stable = _Stable("act.req.")
        late: deque[tuple[int, ...]] = deque([()] * self.port.signature.WRITE_LATENCY)
        while True:
            ready = self.random.random() >= self.stall
            ctx.set(req.ready, ready)
            _, _, valid, *payload = await ctx.tick().sample(
                req.valid, req.p.addr, req.p.lo, req.p.hi, Value.cast(req.p.data)
            )
            fired = stable.check(valid, ready, tuple(payload))
            late.append(tuple(payload) if fired else ())
            if done := late.popleft():
                addr, lo, hi, value = done
                assert lo < hi, "a write of no bytes"
                for lane in range(lo, hi):
                    self.memory[(addr + lane) % len(self.memory)] = value >> 8 * lane & 0xFF
                self.writes += 1


class ReadPortModel:
    """Scratchpad behind a :class:`hw.ports.ReadSignature`; garbage on ``data`` when no answer is due."""

    def __init__(self, port: PureInterface, memory: bytes, *, seed: int = 0, stall: float = 0.0) -> None:
        self.port, self.memory, self.stall = port, memory, stall
        self.random = random.Random(seed)
        self.reads = 0

    async def run(self, ctx: SimulatorContext) -> None:
        req, lanes = self.port.req, len(Value.cast(self.port.data)) // 8
        stable = _Stable("act.req.")
        late: deque[int | None] = deque([None] * (self.port.signature.READ_LATENCY - 1))
        while True:
            ready = self.random.random() >= self.stall
            ctx.set(req.ready, ready)
            _, _, valid, addr, lo, hi, fill = await ctx.tick().sample(
                req.valid, req.p.addr, req.p.lo, req.p.hi, req.p.fill
            )
            answer = None
            if stable.check(valid, ready, (addr, lo, hi, fill)):
                size = len(self.memory)
                word = [self.memory[(addr + i) % size] if lo <= i < hi else fill for i in range(lanes)]
                answer = int.from_bytes(bytes(word), "little")
                self.reads += 1
            late.append(answer)
            value = late.popleft()
            ctx.set(Value.cast(self.port.data), self.random.getrandbits(8 * lanes) if value is None else value)


async def check_registered(ctx: SimulatorContext, inputs: list[Signal], outputs: list[Signal]) -> None:
    """Flip each handshake input in mid-cycle and check that no handshake output follows (no combinational path)."""
    for signal in inputs:
        before = [ctx.get(output) for output in outputs]
        old = ctx.get(signal)
        ctx.set(signal, 1 - old)
        await ctx.delay(1e-9)
        after = [ctx.get(output) for output in outputs]
        ctx.set(signal, old)
        await ctx.delay(1e-9)
        assert after == before, f"{signal.name} reaches an output combinationally"
