"""The execute unit between memories modelled in Python, and EXECs to run on it."""

from __future__ import annotations

import numpy as np
from amaranth.sim import Simulator

from hw.exec_unit import ExecUnit
from hw.spec import isa
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import Instruction, Mode, Opcode, Target
from hw.spec.program import PARAM_DTYPE
from sim.iss.machine import Machine
from tests.hw.operand_places import operand_bytes


def small(rows: int, cols: int, **options: object) -> AcceleratorConfig:
    return AcceleratorConfig(
        rows=rows, cols=cols, **{"act_kib": 16, "weight_kib": 8, "param_entries": 256, "axi_data_width": 64, **options}
    )


CONFIGS = {
    "4x4": small(4, 4),
    "3x5": small(3, 5, max_kernel=5),
    "6x3-pipe": small(6, 3, max_kernel=4, pipeline_mac=True),
    "5x4-plain": small(5, 4, stos=False),
    "1x2": small(1, 2, max_kernel=3),
    "2x9": small(2, 9, max_kernel=9),
    "3x14-pipe": small(3, 14, max_kernel=3, pipeline_mac=True),
    "6x10": small(6, 10, max_kernel=3),
}

FULL = {"q_lo": -128, "q_hi": 127}
PLAIN, STEEP = 40, 60
"""Parameter entries."""

GAP = {"gap": 1, "gap_bias": -9, "gap_mult": 40_000, "gap_shift": 21, "gap_zp": 7}

PACKED = {"in_w": 9, "in_h": 3, "in_cs": 27, "in_pitch": 9, "out_w": 9, "out_h": 3, "out_cs": 27, "out_pitch": 9}
PACKED |= {"seg": 3, "seg_gap": 1, "seg_missing": 2, "cout": 3, "out_zp": -7, **FULL}
"""A geometry with segments."""

COLUMNS = {"mode": Mode.STOS_LN, "kh": 3, "pad_y": 1, "fold": 1}
"""Column filters on it."""


def fields(**values: int) -> Instruction:
    base = {"kh": 1, "kw": 1, "sy": 1, "sx": 1, "cin": 1, "cout": 1, "in_w": 4, "in_h": 1, "out_w": 4, "out_h": 1}
    return Instruction(
        Opcode.EXEC, {**base, "in_cs": 4, "in_pitch": 4, "out_base": 1024, "out_cs": 4, "out_pitch": 4, **values}
    )


class ExecBench:
    """The unit with memories modelled in Python; the operand port is denied at random."""

    def __init__(self, config: AcceleratorConfig, *, denial: float = 0.0, seed: int = 0) -> None:
        self.config, self.dut, self.denial = config, ExecUnit(config), denial
        self.rng = np.random.default_rng(seed)
        self.act = np.zeros(config.act_bytes, np.uint8)
        self.weights = np.zeros((config.weight_words, config.weight_word_bytes), np.int8)
        self.params = np.zeros(config.param_entries, np.uint64)
        self.cycles = 0
        self.late: dict[int, list] = {}
        self.error: tuple[ErrorCause, int, int] | None = None
        self.first_request: int | None = None
        self.watch: int | None = None
        """Address of operand reads to note in `watched`, with the cycle."""
        self.watched: list[int] = []
        self.accepted: list[int] = []
        self.done: list[int] = []

    def load(self, act: np.ndarray, weights: np.ndarray, params: np.ndarray) -> None:
        self.act = act.copy()
        self.weights = weights.view(np.int8).reshape(-1, self.config.weight_word_bytes)
        self.params = params.view("<u8")

    def run(
        self, instructions: list[Instruction], *, together: bool = False, behind: int = 0, limit: int = 200_000
    ) -> list[int]:
        """Run instructions, return the cycles from acceptance to done of each.

        Each is offered when the one before is done, or `together`: as soon as the unit takes it, all but the first not
        before cycle `behind`.
        """
        self.accepted, self.done = [], []

        async def bench(ctx):
            dut, unit = self.dut, self.dut.unit
            ctx.set(dut.flush, 1)
            await ctx.tick().repeat(self.config.rows + self.config.cols + 8)
            ctx.set(dut.flush, 0)
            ctx.set(dut.residual.req.ready, 1)
            ctx.set(dut.result.req.ready, 1)
            while len(self.done) < len(instructions):
                pc = len(self.accepted)
                offer = pc < len(instructions) and (together or pc == len(self.done))
                offer &= pc == 0 or self.cycles >= behind
                if offer:
                    ctx.set(unit.instr.payload.word, int.from_bytes(isa.encode(instructions[pc]), "little"))
                    ctx.set(unit.instr.payload.pc, pc)
                ctx.set(unit.instr.valid, offer)
                if offer and ctx.get(unit.instr.ready):
                    self.accepted.append(self.cycles)
                assert ctx.get(unit.idle) == (len(self.done) == pc)
                if ctx.get(unit.done):
                    self.done.append(self.cycles)
                await self.cycle(ctx)
                if ctx.get(unit.error.valid):
                    error = unit.error
                    self.error = (ErrorCause(ctx.get(error.cause)), ctx.get(error.pc), ctx.get(error.info))
                    return
                assert self.cycles < limit, "hung"

        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        sim.add_testbench(bench)
        sim.run()
        return [done - accepted for accepted, done in zip(self.accepted, self.done, strict=False)]

    def at(self, delay: int, action: object) -> None:
        self.late.setdefault(self.cycles + delay, []).append(action)

    async def cycle(self, ctx) -> None:
        dut, config = self.dut, self.config
        ready = self.rng.random() >= self.denial
        ctx.set(dut.operand.req.ready, int(ready))
        if self.first_request is None and ctx.get(dut.operand.req.valid):
            self.first_request = self.cycles
        for port, granted in ((dut.operand, ready), (dut.residual, True)):
            if granted and ctx.get(port.req.valid):
                payload = port.req.payload
                addr, lo, hi, fill = (ctx.get(getattr(payload, name)) for name in ("addr", "lo", "hi", "fill"))
                lanes = np.arange(port.signature.lanes)
                byte = lanes.copy()
                if port is dut.operand and ctx.get(payload.strided):
                    byte[:] = -1  # lanes that no column uses
                    byte[config.halo :] = list(operand_bytes(config, strided=True).values())
                if port is dut.operand and self.watch is not None and lo < hi and addr + lo == self.watch:
                    self.watched.append(self.cycles)
                inside = (byte >= lo) & (byte < hi)
                values = np.where(inside, self.act[(addr + byte) % config.act_bytes], fill)
                values[byte < 0] = self.rng.integers(0, 256)
                values = values.astype(np.uint8).view(np.int8)
                self.at(port.signature.READ_LATENCY, (port.data, [int(v) for v in values]))
        if ctx.get(dut.weight_en):
            word = self.weights[ctx.get(dut.weight_addr)]
            self.at(1, (dut.weight_data, [int(v) for v in word[: config.rows]]))
        if ctx.get(dut.param_en):
            self.at(1, (dut.param_data.as_value(), int(self.params[ctx.get(dut.param_addr)])))
        if ctx.get(dut.result.req.valid):
            payload = dut.result.req.payload
            addr = ctx.get(payload.addr)
            for lane in range(ctx.get(payload.lo), ctx.get(payload.hi)):
                self.act[(addr + lane) % config.act_bytes] = ctx.get(payload.data[lane]) & 0xFF
        await ctx.tick()
        self.cycles += 1
        for port, value in self.late.pop(self.cycles, []):
            ctx.set(port, value)


def loaded_bench(config: AcceleratorConfig, *, denial: float = 0.0) -> tuple[ExecBench, Machine]:
    """Return a bench and the ISS's machine with the same random memories."""
    rng = np.random.default_rng(1)
    machine = Machine(config, [np.zeros(1, np.uint8)] * 4)
    for target, memory in machine.onchip.items():
        memory[:] = rng.integers(0, 256, memory.size)
        if target == Target.PARAM:
            sets = memory.view(PARAM_DTYPE)
            sets["bias"], sets["mult"], sets["shift"] = rng.integers(-999, 999, sets.size), 40_000, 22
            for first, shift in ((PLAIN, 16), (STEEP, 12)):  # for modes without sums
                sets["bias"][first : first + 9], sets["shift"][first : first + 9] = 3, shift
    bench = ExecBench(config, denial=denial)
    bench.load(*(machine.onchip[target] for target in (Target.ACT, Target.WEIGHT, Target.PARAM)))
    return bench, machine
