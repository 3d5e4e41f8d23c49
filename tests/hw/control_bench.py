"""Test components for the control side: AXI4-Lite manager, AXI read memory, fake units, random token programs."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Elaboratable
from amaranth.sim import Simulator

from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause, address
from hw.spec.isa import ISA_VERSION, Instruction, Opcode, Queue

OKAY, SLVERR = 0, 2


def simulate(dut: Elaboratable, *benches: Any, background: tuple[Any, ...] = ()) -> None:
    """Run testbenches to their end, with `background` ones beside them."""
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    for bench in background:
        sim.add_testbench(bench, background=True)
    for bench in benches:
        sim.add_testbench(bench)
    sim.run()


class LiteManager:
    """AXI4-Lite manager with random order and gaps; asserts that answers stay until taken."""

    def __init__(self, ctx: Any, port: Any, rng: random.Random, *, stall: float = 0.3) -> None:
        self.ctx, self.port, self.rng, self.stall = ctx, port, rng, stall

    async def write(self, addr: int, value: int, strobe: int = 0xF) -> int:
        """Write a word and return BRESP."""
        ctx, port = self.ctx, self.port
        ctx.set(port.awaddr, addr)
        ctx.set(port.wdata, value)
        ctx.set(port.wstrb, strobe)
        open_channels = {"aw", "w"}
        offered: set[str] = set()
        answer = None
        ready = False
        for _ in range(500):
            for channel in sorted(open_channels - offered):
                if self.rng.random() >= self.stall:
                    offered.add(channel)
            for channel in ("aw", "w"):
                ctx.set(getattr(port, f"{channel}valid"), channel in offered)
            ready = self.rng.random() >= self.stall
            ctx.set(port.bready, ready)
            _, _, awready, wready, bvalid, bresp = await ctx.tick().sample(
                port.awready, port.wready, port.bvalid, port.bresp
            )
            for channel, taken in (("aw", awready), ("w", wready)):
                if channel in offered and taken:
                    offered.remove(channel)
                    open_channels.remove(channel)
            assert answer is None or (bvalid and bresp == answer), "BVALID fell or BRESP changed before BREADY"
            if bvalid:
                assert not open_channels, "response before address and data"
                answer = bresp
                if ready:
                    ctx.set(port.bready, 0)
                    return bresp
        raise AssertionError("write never answered")

    async def read(self, addr: int) -> tuple[int, int]:
        """Read a word and return (RDATA, RRESP)."""
        ctx, port = self.ctx, self.port
        ctx.set(port.araddr, addr)
        waiting, offered = True, False
        answer = None
        for _ in range(500):
            offered = waiting and (offered or self.rng.random() >= self.stall)
            ctx.set(port.arvalid, offered)
            ready = self.rng.random() >= self.stall
            ctx.set(port.rready, ready)
            _, _, arready, rvalid, rdata, rresp = await ctx.tick().sample(
                port.arready, port.rvalid, port.rdata, port.rresp
            )
            if offered and arready:
                waiting = offered = False
            assert answer is None or (rvalid and (rdata, rresp) == answer), "read answer changed before RREADY"
            if rvalid:
                answer = (rdata, rresp)
                if ready:
                    ctx.set(port.rready, 0)
                    return answer
        raise AssertionError("read never answered")

    async def set(self, name: str, value: int) -> None:
        """Write a register by name; the answer must be OKAY."""
        assert await self.write(address(name), value) == OKAY, name

    async def get(self, name: str) -> int:
        """Read a register by name; the answer must be OKAY."""
        value, resp = await self.read(address(name))
        assert resp == OKAY, name
        return value


@dataclass
class ReadMemory:
    """AXI4 read subordinate over `data` at `base` that also takes narrow bursts: in order, random stalls.

    Checks that ARVALID and its address hold until ARREADY, that bursts stay inside 4 KiB and the memory.
    """

    axi: Any
    data: bytes = field(repr=False)
    base: int
    rng: random.Random
    stall: float = 0.3
    latency: int = 4
    faults: set[int] = field(default_factory=set)
    """Byte addresses of beats to answer with SLVERR."""
    frozen: bool = False
    """Answer nothing."""
    bursts: list[int] = field(default_factory=list)
    """Addresses asked for."""

    @property
    def open(self) -> bool:
        return bool(self._beats)

    def __post_init__(self) -> None:
        self._beats: deque[tuple[int, int, int, bool]] = deque()

    async def run(self, ctx: Any) -> None:
        axi, width = self.axi, len(self.axi.rdata) // 8
        ready, valid, now, held = False, False, 0, None
        while True:
            _, _, arvalid, addr, length, size, rready = await ctx.tick().sample(
                axi.arvalid, axi.araddr, axi.arlen, axi.arsize, axi.rready
            )
            now += 1
            assert held is None or (arvalid and held == (addr, length, size)), "AR changed before ARREADY"
            held = (addr, length, size) if arvalid and not ready else None
            if arvalid and ready:
                self.bursts.append(addr)
                count, step = length + 1, 1 << size
                assert addr % step == 0 and addr // 4096 == (addr + count * step - 1) // 4096
                for beat in range(count):
                    self._beats.append((now + self.latency, addr + beat * step, step, beat == count - 1))
            if valid and rready:
                self._beats.popleft()
                valid = False
            ready = not self.frozen and self.rng.random() >= self.stall
            ctx.set(axi.arready, ready)
            if not valid and self._beats and not self.frozen and self._beats[0][0] <= now:
                valid = self.rng.random() >= self.stall
            ctx.set(axi.rvalid, valid)
            if valid:
                _, addr, step, last = self._beats[0]
                start = addr - self.base
                assert start >= 0 and start + step <= len(self.data), f"read outside the memory at {addr:#x}"
                lane = addr % width
                word = int.from_bytes(self.data[start : start + step], "little") << (8 * lane)
                noise = self.rng.getrandbits(8 * width) & ~(((1 << (8 * step)) - 1) << (8 * lane))
                ctx.set(axi.rdata, word | noise)
                ctx.set(axi.rresp, SLVERR if addr in self.faults else OKAY)
                ctx.set(axi.rlast, last)


@dataclass
class FakeUnit:
    """Stands for a unit on the control side of a UnitSignature: random durations, in-order completion."""

    queue: Queue
    port: Any
    reset: Any
    rng: random.Random
    capacity: int = 3
    longest: int = 20
    errors: dict[int, ErrorCause] = field(default_factory=dict)
    """Instructions (by pc) that end in an error."""
    hang_at: int | None = None
    """Instruction that never ends and shows no progress."""
    abort_cycles: int = 15
    """Cycles from abort to idle, while it completes its transfers."""
    log: list[tuple[int, str, int]] = field(default_factory=list)
    """(cycle, "start" or "done", pc)."""

    async def run(self, ctx: Any) -> None:
        port, now = self.port, 0
        work: deque[tuple[int, int]] = deque()
        ready = done = False
        aborted = failed = None
        ctx.set(port.idle, 1)
        while True:
            _, _, valid, payload, abort, reset = await ctx.tick().sample(
                port.instr.valid, port.instr.payload, port.abort, self.reset
            )
            now += 1
            if done:
                self.log.append((now, "done", work.popleft()[1]))
            if ready and valid:
                pc = payload.pc
                self.log.append((now, "start", pc))
                free = max([now, *(end for end, _ in work)])
                work.append((free + self.rng.randint(1, self.longest), pc))
            if reset:
                work.clear()
                aborted = failed = None
                ctx.set(port.error.valid, 0)
            elif abort and aborted is None:
                aborted = now
            done = False
            if work and aborted is None and failed is None and now >= work[0][0]:
                pc = work[0][1]
                if pc in self.errors:
                    failed = pc
                    ctx.set(port.error.valid, 1)
                    ctx.set(port.error.cause, self.errors[pc])
                    ctx.set(port.error.pc, pc)
                    ctx.set(port.error.info, 0xBAD0_0000 | pc)
                else:
                    done = pc != self.hang_at
            if aborted is not None and now >= aborted + self.abort_cycles:
                work.clear()
            hanging = bool(work) and work[0][1] == self.hang_at
            ready = len(work) < self.capacity and aborted is None and self.rng.random() < 0.7
            ctx.set(port.done, done)
            ctx.set(port.instr.ready, ready)
            ctx.set(port.idle, not work or (len(work) == 1 and done))
            ctx.set(port.progress, bool(work) and not hanging)


def frame(config: AcceleratorConfig, body: list[Instruction]) -> list[Instruction]:
    """Put HEADER and HALT around instructions."""
    head = {"isa_version": ISA_VERSION, "config_hash": config.hash, "count": len(body) + 2}
    return [Instruction(Opcode.HEADER, head), *body, Instruction(Opcode.HALT)]


def token_program(rng: random.Random, length: int) -> Iterator[Instruction]:
    """Random instructions whose program order is a valid sequential order."""
    opcodes = {Queue.LOAD: Opcode.LOAD, Queue.EXEC: Opcode.EXEC, Queue.STORE: Opcode.STORE}
    tokens = dict.fromkeys(((a, b) for a in Queue for b in Queue if a != b), 0)
    for _ in range(length):
        queue = rng.choice(list(Queue))
        masks = {"wait": 0, "signal": 0}
        for other in Queue:
            if other == queue:
                continue
            if tokens[other, queue] and rng.random() < 0.8:
                tokens[other, queue] -= 1
                masks["wait"] |= 1 << other
            if rng.random() < 0.4:
                tokens[queue, other] += 1
                masks["signal"] |= 1 << other
        yield Instruction(opcodes[queue], {**masks, "row_bytes" if queue != Queue.EXEC else "cout": rng.randint(1, 99)})


def check_order(program: list[Instruction], logs: dict[Queue, list[tuple[int, str, int]]]) -> None:
    """Assert that every queue ran its instructions in order and that every token was given before it was taken."""
    opcodes = {Queue.LOAD: Opcode.LOAD, Queue.EXEC: Opcode.EXEC, Queue.STORE: Opcode.STORE}
    for queue, log in logs.items():
        expected = [pc for pc, instruction in enumerate(program) if instruction.opcode == opcodes[queue]]
        for what in ("start", "done"):
            assert [pc for _, event, pc in log if event == what] == expected, (queue, what)
    tokens = dict.fromkeys(((a, b) for a in Queue for b in Queue if a != b), 0)
    # Starts stand before dones of the same cycle: a token cannot be taken in the cycle in which it is given.
    events = sorted((cycle, what == "done", pc, queue) for queue, log in logs.items() for cycle, what, pc in log)
    for cycle, finished, pc, queue in events:
        mask = program[pc]["signal" if finished else "wait"]
        for other in Queue:
            if not mask >> other & 1:
                continue
            if finished:
                tokens[queue, other] += 1
            else:
                tokens[other, queue] -= 1
                assert tokens[other, queue] >= 0, f"cycle {cycle}: instruction {pc} started without its token"
