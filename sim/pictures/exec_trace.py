"""One EXEC on the execute unit and its memories in Amaranth's simulator: every product and every row, by cycle.

The layer is compiled; what its LOADs leave in the memories comes from the instruction set simulator.  What the unit
then does is read from the simulation's waveform.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out, connect, flipped
from amaranth.sim import Simulator

from hw.control import flush_cycles
from hw.exec_unit import ExecUnit
from hw.layouts import PARAM_LAYOUT, act_addr_width, range_width
from hw.line_memory import LineMemory
from hw.ports import UnitSignature, WriteSignature, operand_signature
from hw.scratchpad import Scratchpad
from hw.spec import isa
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Opcode, Target
from hw.spec.numerics import NUMERICS
from hw.spec.program import Program
from sim.iss import IssBackend
from sim.iss.machine import Machine
from sim.pictures.array_facts import pe_places
from sim.pictures.waves import read_waves

__all__ = ["ExecSystem", "ExecTrace", "Product", "Read", "Row", "Step", "before_exec", "trace_exec"]

Bytes = npt.NDArray[np.uint8]
Memories = dict[Target, Bytes]


class ExecSystem(Component):
    """The execute unit with scratchpad, weights and parameters, connected as in the accelerator.

    Parameters
    ----------
    config
        What to build.

    Members
    -------
    unit, act : as the unit's control, and the scratchpad's port for loads
    weight_*, param_* : In
        Write ports of the other memories.
    flush : In(1)
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.scratchpad = Scratchpad(config)
        self.exec = ExecUnit(config)
        self.weights = LineMemory(config.weight_bytes, config.weight_word_bytes, config.axi_bytes)
        self.params = LineMemory(config.param_bytes, PARAM_LAYOUT.size // 8, config.axi_bytes)
        write = self.scratchpad.write_load.signature
        assert isinstance(write, WriteSignature)
        ports = {
            f"{name}_{port}": memory.signature.members[port]
            for name, memory in (("weight", self.weights), ("param", self.params))
            for port in ("wr_en", "wr_addr", "wr_data")
        }
        act = In(WriteSignature(write.addr_width, write.lanes))
        super().__init__({"unit": Out(UnitSignature()), "act": act, "flush": In(1), **ports})

    def elaborate(self, platform: object) -> Module:
        """Connect unit and memories."""
        m = Module()
        m.submodules.scratchpad, m.submodules.exec = self.scratchpad, self.exec
        m.submodules.weights, m.submodules.params = self.weights, self.params
        connect(m, flipped(self.unit), self.exec.unit)
        connect(m, self.exec.residual, self.scratchpad.read_residual)
        connect(m, self.exec.operand, self.scratchpad.read_operand)
        connect(m, self.exec.result, self.scratchpad.write_result)
        connect(m, flipped(self.act), self.scratchpad.write_load)
        m.d.comb += self.exec.flush.eq(self.flush)
        for name, memory in (("weight", self.weights), ("param", self.params)):
            m.d.comb += [
                memory.wr_en.eq(getattr(self, f"{name}_wr_en")),
                memory.wr_addr.eq(getattr(self, f"{name}_wr_addr")),
                memory.wr_data.eq(getattr(self, f"{name}_wr_data")),
                memory.rd_en.eq(getattr(self.exec, f"{name}_en")),
                memory.rd_addr.eq(getattr(self.exec, f"{name}_addr")),
                getattr(self.exec, f"{name}_data").eq(memory.rd_data),
            ]
        return m


@dataclass(frozen=True, order=True)
class Product:
    """A multiplication of two operands that are not 0, in a PE (row, column)."""

    cycle: int
    place: tuple[int, int]
    left: int
    other: int


@dataclass(frozen=True, order=True)
class Step:
    """A cycle in which the array is told something: operands, a line to load, a capture, the end of a tile."""

    cycle: int
    weights: tuple[int, ...]
    line: tuple[int, ...]
    load: bool
    capture: bool
    last: bool


@dataclass(frozen=True, order=True)
class Read:
    """A granted operand read: lane i answers byte `address` + i if `low` <= i < `high`, else the zero point."""

    cycle: int
    address: int
    low: int
    high: int


@dataclass(frozen=True, order=True)
class Row:
    """A row of sums that leaves the array."""

    cycle: int
    sums: tuple[int, ...]


@dataclass(frozen=True)
class ExecTrace:
    """What happened, by cycle from the instruction's acceptance.

    Parameters
    ----------
    instruction
        The EXEC.
    writes
        Cycles in which vectors are written to the scratchpad.
    done
        Cycle in which the unit said so.
    """

    config: AcceleratorConfig
    instruction: Instruction
    products: tuple[Product, ...]
    steps: tuple[Step, ...]
    rows: tuple[Row, ...]
    reads: tuple[Read, ...]
    writes: tuple[int, ...]
    done: int


def before_exec(program: Program, inputs: Mapping[str, npt.NDArray[np.int8]]) -> tuple[Instruction, Memories]:
    """Return a program's one EXEC, and the memories that it finds."""
    found: list[tuple[Instruction, Memories]] = []
    memories: Memories = {}

    def note(pc: int, instruction: Instruction, machine: Machine) -> None:
        nonlocal memories
        if instruction.opcode == Opcode.EXEC:
            found.append((instruction, memories))
        memories = {target: memory.copy() for target, memory in machine.onchip.items()}

    IssBackend(program.config, observer=note).run(program, inputs)
    ((instruction, before),) = found
    return instruction, before


def trace_exec(program: Program, inputs: Mapping[str, npt.NDArray[np.int8]]) -> ExecTrace:
    """Run the one EXEC of a program on the RTL."""
    config = program.config
    instruction, memories = before_exec(program, inputs)
    dut = ExecSystem(config)
    start = done = 0

    async def bench(ctx: Any) -> None:
        nonlocal start, done
        ctx.set(dut.flush, 1)
        await ctx.tick().repeat(flush_cycles(config))
        ctx.set(dut.flush, 0)
        cycle = flush_cycles(config) + await _fill(ctx, dut, memories)
        ctx.set(dut.unit.instr.payload.word, int.from_bytes(isa.encode(instruction), "little"))
        ctx.set(dut.unit.instr.valid, 1)
        assert ctx.get(dut.unit.instr.ready)
        start = cycle
        await ctx.tick()
        ctx.set(dut.unit.instr.valid, 0)
        cycle += 1
        while not ctx.get(dut.unit.done):
            assert not ctx.get(dut.unit.error.valid), "the EXEC is illegal"
            await ctx.tick()
            cycle += 1
        done = cycle
        await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    with tempfile.TemporaryDirectory(prefix="rowcast-") as folder:
        waves = Path(folder, "exec.vcd")
        with simulator.write_vcd(str(waves)):
            simulator.run()
        return _Events(config, waves).trace(instruction, start, done)


async def _fill(ctx: Any, dut: ExecSystem, memories: Memories) -> int:
    """Write the parts of the memories that are not 0, a beat a cycle; return the cycles."""
    beat, cycles = dut.config.axi_bytes, 0
    for target, memory in memories.items():
        beats = memory.reshape(-1, beat)
        for number in np.flatnonzero(beats.any(axis=1)):
            value = beats[number]
            if target == Target.ACT:
                payload = dut.act.req.payload
                ctx.set(payload.addr, int(number) * beat)
                ctx.set(payload.lo, 0)
                ctx.set(payload.hi, beat)
                ctx.set(payload.data, [int(byte) for byte in value.view(np.int8)])
                ctx.set(dut.act.req.valid, 1)
            else:
                name = "weight" if target == Target.WEIGHT else "param"
                ctx.set(getattr(dut, f"{name}_wr_addr"), int(number))
                ctx.set(getattr(dut, f"{name}_wr_data"), int.from_bytes(value.tobytes(), "little"))
                ctx.set(getattr(dut, f"{name}_wr_en"), 1)
            await ctx.tick()
            cycles += 1
            ctx.set(dut.act.req.valid, 0)
            ctx.set(dut.weight_wr_en, 0)
            ctx.set(dut.param_wr_en, 0)
    await ctx.tick()
    return cycles + 1


class _Events:
    """The events of a waveform."""

    def __init__(self, config: AcceleratorConfig, waves: Path) -> None:
        self.config = config
        self.pes = {f"exec.array.{path}": place for path, place in pe_places(config).items()}
        ports = {"w": 8 * config.rows, "a": 8 * config.read_lanes, "last": 1, "out_valid": 1}
        ports["out"] = NUMERICS.acc_width * config.cols
        ports |= {"v_en": 1, "capture": 1} if config.stos else {}
        self.array = {name: (f"exec.array.{name}", width) for name, width in ports.items()}
        self.handshake = [(f"exec.operand__req__{name}", 1) for name in ("valid", "ready")]
        self.write = ("exec.result__req__valid", 1)
        bound = range_width(operand_signature(config).span)
        widths = {"addr": act_addr_width(config), "lo": bound, "hi": bound}
        self.request = [(f"exec.\\operand__req__payload.{name}", width) for name, width in widths.items()]
        registers = [("h", 8), ("v", 8), *((("stos", 1), ("w_row_n", 8)) if config.stos else ())]
        inside = [(f"{pe}.{name}", width) for pe in self.pes for name, width in registers]
        self.waves = read_waves(
            waves, "bench.top", [*self.array.values(), *self.handshake, self.write, *self.request, *inside]
        )

    def lanes(self, name: str, cycle: int, count: int) -> tuple[int, ...]:
        """Return the signed lanes of a port of the array."""
        value, width = self.waves[self.array[name]][cycle], self.array[name][1] // count
        return tuple(_signed(value >> lane * width, width) for lane in range(count))

    def trace(self, instruction: Instruction, start: int, done: int) -> ExecTrace:
        config, cycles = self.config, range(start, done + 1)

        def when(*signals: tuple[str, int]) -> tuple[int, ...]:
            return tuple(cycle - start for cycle in cycles if all(self.waves[signal][cycle] for signal in signals))

        steps = [self.step(cycle, start) for cycle in cycles]
        rows = [Row(cycle, self.lanes("out", cycle + start, config.cols)) for cycle in when(self.array["out_valid"])]
        return ExecTrace(
            config=config,
            instruction=instruction,
            products=tuple(product for cycle in cycles for product in self.products(cycle, start)),
            steps=tuple(step for step in steps if any(step.weights) or step.load or step.capture or step.last),
            rows=tuple(rows),
            reads=tuple(self.read(cycle, start) for cycle in when(*self.handshake)),
            writes=when(self.write),
            done=done - start,
        )

    def step(self, cycle: int, start: int) -> Step:
        config = self.config

        def flag(name: str) -> bool:
            return name in self.array and bool(self.waves[self.array[name]][cycle])

        return Step(
            cycle - start,
            self.lanes("w", cycle, config.rows),
            self.lanes("a", cycle, config.read_lanes),
            flag("v_en"),
            flag("capture"),
            flag("last"),
        )

    def read(self, cycle: int, start: int) -> Read:
        return Read(cycle, *(self.waves[signal][cycle + start] for signal in self.request))

    def products(self, cycle: int, start: int) -> list[Product]:
        found = []
        for pe, place in self.pes.items():
            left = _signed(self.waves[f"{pe}.h", 8][cycle], 8)
            if self.config.stos and self.waves[f"{pe}.stos", 1][cycle]:
                other = _signed(~self.waves[f"{pe}.w_row_n", 8][cycle], 8)
            else:
                other = _signed(self.waves[f"{pe}.v", 8][cycle], 8)
            if left and other:
                found.append(Product(cycle - start, place, left, other))
        return found


def _signed(value: int, width: int) -> int:
    value &= (1 << width) - 1
    return value - (1 << width) if value >> width - 1 else value
