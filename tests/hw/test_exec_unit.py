"""The execute unit against the ISS: every byte after random instructions, with the operand port denied at random."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw.exec_unit import ExecUnit
from hw.spec import isa
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import Activation, Instruction, Mode, Opcode, ResidualOp, Target
from hw.spec.program import PARAM_DTYPE
from sim.iss import IssBackend
from sim.iss.execute import execute
from sim.iss.machine import FaultError, Machine
from sim.iss.operands import operands
from sim.random_programs import random_inputs, random_program
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

    def run(self, instructions: list[Instruction], *, together: bool = False, limit: int = 200_000) -> list[int]:
        """Run instructions, return the cycles from acceptance to done of each.

        Each is offered when the one before is done, or `together`: as soon as the unit takes it.
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
                self.at(2, (port.data, [int(v) for v in values]))
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


def exec_states(config: AcceleratorConfig, seed: int, **options: object):
    """Yield (instruction, memories before, scratchpad after) for the EXECs of a random program, as the ISS runs it."""
    program = random_program(config, seed, **options)
    states, memories = [], None

    def observe(pc, instruction, machine):
        nonlocal memories
        after = {target: memory.copy() for target, memory in machine.onchip.items()}
        if instruction.opcode == Opcode.EXEC:
            states.append((instruction, memories, after[Target.ACT]))
        memories = after

    IssBackend(config, observer=observe).run(program, random_inputs(program, seed))
    return states


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("denial", [0.0, 0.3], ids=["free", "denied"])
def test_random_instructions_equal_the_iss(name: str, denial: float) -> None:
    config = CONFIGS[name]
    seed = 2 * list(CONFIGS).index(name) + (denial > 0)
    for instruction, before, after in exec_states(config, seed, execs=5, cycles=2_000):
        bench = ExecBench(config, denial=denial, seed=seed)
        bench.load(before[Target.ACT], before[Target.WEIGHT], before[Target.PARAM])
        assert len(bench.run([instruction])) == 1
        wrong = np.flatnonzero(bench.act != after)
        assert wrong.size == 0, f"seed {seed}: {instruction}: {wrong.size} bytes, first {wrong[:8]}"


def check_run(config: AcceleratorConfig, instructions: list[Instruction], *, denial: float = 0.0) -> Machine:
    """Run instructions at the closest spacing on random memories; every byte must be as after the ISS.  Return it."""
    bench, machine = loaded_bench(config, denial=denial)
    assert len(bench.run(instructions, together=True)) == len(instructions)
    for instruction in instructions:
        execute(machine, instruction, operands(config, instruction))
    wrong = np.flatnonzero(bench.act != machine.onchip[Target.ACT])
    assert wrong.size == 0, f"{wrong.size} bytes, first {wrong[:8]}"
    return machine


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


FULL = {"q_lo": -128, "q_hi": 127}
PLAIN, STEEP = 40, 60
"""Parameter entries."""


@pytest.mark.parametrize("overlap", [0, 1])
def test_mode_changes_leave_nothing_behind(overlap: int) -> None:
    """Instructions of changing mode at the closest spacing; the array is wide, so its deskew is still full then."""
    wide = {"in_w": 18, "out_w": 18, "in_cs": 18, "in_pitch": 18, "out_cs": 18, "out_pitch": 18, **FULL}
    stream = {"mode": Mode.STOS_LN, "kh": 3, "kw": 3, "in_h": 2, "out_h": 2, "in_cs": 36, "out_cs": 36}
    changes = [
        stream,
        {"cin": 5, "cout": 3},
        {"mode": Mode.STOS_CH, "kw": 3, "pad_x": 1, "cout": 3},
        {"cin": 1, "cout": 2},
        {"mode": Mode.VEC, "cout": 2},
        stream,
        {"mode": Mode.VEC, "cout": 2, "sx": 2, "out_w": 9},
        {"mode": Mode.MAX, "cout": 2, "kw": 3, "pad_x": 1},
        {"cin": 2, "kh": 1, "kw": 3, "cout": 1},
        {**stream, "mode": Mode.MAX},
        stream,
        {"mode": Mode.MAX, "cout": 1},
        {"cin": 1, "cout": 1},
    ]
    instructions = [
        fields(**{**wide, **change, "overlap": overlap, "out_base": 2048 + 512 * place})
        for place, change in enumerate(changes)
    ]
    check_run(small(2, 24, max_kernel=3), instructions)


CURVE = {"act": Activation.HSWISH, "act_offset": 1500, "act_limit": 3000, "post_shift": 16, "out_zp": -100}
GATE = {"res": ResidualOp.SCALE, "res_base": 1901, "res_zp": -128, "post_shift": 6, "out_zp": 5}
ADD = {"res": ResidualOp.ADD, "res_base": 1405, "res_zp": -3, "res_mult": 9}
GAP = {"gap": 1, "gap_bias": -9, "gap_mult": 40_000, "gap_shift": 21, "gap_zp": 7}


@pytest.mark.parametrize(("name", "denial"), [("4x4", 0.0), ("3x14-pipe", 0.3), ("5x4-plain", 0.2)])
def test_maxima_curves_and_gates(name: str, denial: float) -> None:
    """Each with the modes, strides, pooling and a residual, one after another."""
    config = CONFIGS[name]
    stos = config.stos
    image = {"in_base": 3, "in_w": 9, "in_h": 4, "in_pitch": 10, "in_cs": 41, "in_zp": -17, "kh": 3, "kw": 3}
    image |= {"pad_y": 1, "pad_x": 1, "out_w": 9, "out_h": 4, "out_pitch": 9, "out_cs": 36, **FULL}
    half = {"sx": 2, "sy": 2, "out_w": 5, "out_h": 2}
    depthwise = {"mode": Mode.STOS_LN} if stos else {"depthwise": 1}
    rows = {"mode": Mode.STOS_CH, "kh": 1, "pad_y": 0} if stos else {"depthwise": 1, "kh": 1, "pad_y": 0}
    vec = {"mode": Mode.VEC, "kh": 1, "kw": 1, "pad_y": 0, "pad_x": 0}
    changes = [
        {"mode": Mode.MAX, "cout": 4, "p_base": PLAIN},
        {"mode": Mode.MAX, "cout": 3, "p_base": PLAIN, **half},
        {"mode": Mode.MAX, "cout": 2, "kh": 2, "kw": 2, "pad_y": 0, "pad_x": 0, "p_base": PLAIN, **half},
        {"mode": Mode.MAX, "cout": 2, "p_base": PLAIN, **GAP},
        {"mode": Mode.MAX, "cout": 2, "p_base": STEEP, **ADD, **CURVE},
        {"cin": 2, "cout": 6, **CURVE},
        {**depthwise, "cout": 6, **GATE},
        {"cin": 1, "cout": 5, **GATE, **half},
        {**rows, "cout": 5, **CURVE, **ADD, **half},
        {**rows, "cout": 6, **GATE, **GAP},
        {**vec, "cout": 3, "p_base": PLAIN, **GATE},
        {**vec, "cout": 3, "p_base": STEEP, **CURVE, **half},
    ]
    instructions = [
        fields(**{**image, "out_base": 2048 + 512 * i, "overlap": i % 4 > 0, **change})
        for i, change in enumerate(changes)
    ]
    after = check_run(config, instructions, denial=denial).onchip[Target.ACT].view(np.int8)
    for instruction in instructions:
        kept = after[instruction["out_base"] :][: instruction["out_cs"] * instruction["cout"]]
        lines = kept.reshape(instruction["cout"], -1, instruction["out_pitch"])
        written = lines[:, :1, :1] if instruction["gap"] else lines[:, : instruction["out_h"], : instruction["out_w"]]
        assert len(np.unique(written)) > min(written.size, 20) // 2, f"{instruction}: nearly constant"


PACKED = {"in_w": 9, "in_h": 3, "in_cs": 27, "in_pitch": 9, "out_w": 9, "out_h": 3, "out_cs": 27, "out_pitch": 9}
PACKED |= {"seg": 3, "seg_gap": 1, "seg_missing": 2, "cout": 3, "out_zp": -7, **FULL}
COLUMNS = {"mode": Mode.STOS_LN, "kh": 3, "pad_y": 1, "fold": 1}


@pytest.mark.parametrize(("name", "denial"), [("2x9", 0.0), ("3x14-pipe", 0.3), ("6x10", 0.0)])
def test_packed_lines_follow_each_other(name: str, denial: float) -> None:
    """Short instructions with and without segments, overlapping: each one's rows carry what they need."""
    vec = {"mode": Mode.VEC, "p_base": PLAIN}
    changes = [
        {"cin": 3},
        {**vec, "cout": 1, "out_h": 1, "seg_missing": 0},
        {**vec, "cout": 1, "out_h": 1, "seg": 4, "seg_gap": 2, "seg_missing": 1, "out_zp": 5},
        {**vec, "cout": 1, "out_h": 1, "seg": 0, "seg_gap": 0, "seg_missing": 0},
        {**vec, "cout": 1, "out_h": 1, "seg": 8, "seg_gap": 7, "seg_missing": 0},
        COLUMNS,
        {**COLUMNS, "kw": 3, "pad_x": 1, **GAP},
        {**COLUMNS, "seg_gap": 0, "seg_missing": 0, **ADD},
        {**COLUMNS, "sy": 2, "out_h": 2, "seg_gap": 0, "seg_missing": 1, **GATE},
        {"mode": Mode.STOS_CH, "kw": 3, "pad_x": 1, **ADD},
        {"mode": Mode.MAX, "kw": 3, "pad_x": 1, "seg": 9, "seg_gap": 4, "p_base": STEEP, **CURVE},
        {"cin": 1, "seg": 2, "seg_missing": 3, **GAP},
    ]
    instructions = [
        fields(**{**PACKED, "overlap": 1, "out_base": 2048 + 512 * place, **change})
        for place, change in enumerate(changes)
    ]
    check_run(CONFIGS[name], instructions, denial=denial)


@pytest.mark.parametrize("change", [{"cin": 3}, COLUMNS, {"mode": Mode.STOS_CH, "kw": 3}, {"mode": Mode.VEC}, GAP])
def test_segments_cost_no_cycle(change: dict[str, int]) -> None:
    plain = {"seg": 0, "seg_gap": 0, "seg_missing": 0, "fold": 0}
    instructions = [fields(**{**PACKED, **change, **without}) for without in (plain, {})]
    first, second = ExecBench(CONFIGS["2x9"]).run(instructions)
    assert first == second


def fields(**values: int) -> Instruction:
    base = {"kh": 1, "kw": 1, "sy": 1, "sx": 1, "cin": 1, "cout": 1, "in_w": 4, "in_h": 1, "out_w": 4, "out_h": 1}
    return Instruction(
        Opcode.EXEC, {**base, "in_cs": 4, "in_pitch": 4, "out_base": 1024, "out_cs": 4, "out_pitch": 4, **values}
    )


def steady_state(config: AcceleratorConfig, short: Instruction, long: Instruction, tiles: int) -> float:
    """Return cycles per tile from two instructions that differ in `tiles` tiles."""
    bench = ExecBench(config)
    first, second = bench.run([short, long])
    return (second - first) / tiles


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("depth", [1, 3, 6, 11])
def test_gemm_tile_costs_max_k_rows(depth: int, stride: int) -> None:
    config = CONFIGS["6x3-pipe"]
    shape = {"mode": Mode.GEMM, "cin": depth, "cout": config.rows, "in_cs": 96, "out_cs": 64, "sx": stride}
    short, long = (fields(**shape, in_w=stride * config.cols * n, out_w=config.cols * n) for n in (4, 14))
    assert steady_state(config, short, long, 10) == max(depth, config.rows)


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_row_convolution_tile_costs_max_rows_k(kernel: int) -> None:
    """One cycle better than max(R, K + 1): the windows are captured during the last tap."""
    for name in ("3x5", "4x4"):
        config = CONFIGS[name]
        shape = {"mode": Mode.STOS_CH, "kw": kernel, "cout": config.rows, "in_cs": 128, "out_cs": 128}
        short, long = (fields(**shape, in_w=config.cols * n, out_w=config.cols * n) for n in (4, 14))
        assert steady_state(config, short, long, 10) == max(kernel, config.rows)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_streaming_column_tile_costs_rows_plus_k_minus_1(kernel: int) -> None:
    config = CONFIGS["3x5"]
    shape = {
        "mode": Mode.STOS_LN,
        "kh": kernel,
        "in_w": 5,
        "out_w": 5,
        "in_pitch": 5,
        "out_pitch": 5,
        "pad_y": kernel // 2,
    }
    short, long = (fields(**shape, in_h=config.rows * n, out_h=config.rows * n) for n in (4, 14))
    assert steady_state(config, short, long, 10) == config.rows + kernel - 1


@pytest.mark.parametrize("lines", [1, 2, 5])
def test_packed_column_convolution_costs_lines_plus_k_minus_1_per_channel(lines: int) -> None:
    """Whatever the number of image lines beside each other."""
    size = 9 * lines
    shape = {**COLUMNS, "in_w": 9, "in_h": lines, "in_cs": size, "in_pitch": 9, "seg": 3, "seg_missing": 1}
    shape |= {"out_w": 9, "out_h": lines, "out_cs": size, "out_pitch": 9}
    short, long = (fields(**shape, cout=channels) for channels in (4, 14))
    assert steady_state(small(5, 9, max_kernel=3), short, long, 10) == lines + 3 - 1


@pytest.mark.parametrize(
    ("name", "values", "cause"),
    [
        ("5x4-plain", {"mode": Mode.STOS_CH}, ErrorCause.BAD_FIELD),
        ("4x4", {"kw": 8}, ErrorCause.BAD_FIELD),
        ("4x4", {"kh": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"kw": 9, "sx": 3, "act": 2}, ErrorCause.BAD_FIELD),
        ("4x4", {"sy": 5}, ErrorCause.BAD_FIELD),
        ("4x4", {"sy": 0, "out_h": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"sx": 3}, ErrorCause.BAD_FIELD),
        ("4x4", {"act": 2, "res": 3}, ErrorCause.BAD_FIELD),
        ("4x4", {"res": 3}, ErrorCause.BAD_FIELD),
        ("4x4", {"act": 1, "res": 2}, ErrorCause.BAD_FIELD),
        ("4x4", {"act": 1, "res": 2, "cin": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": 5}, ErrorCause.BAD_FIELD),
        ("5x4-plain", {"mode": 7, "cin": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": 6, "kw": 8}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": Mode.MAX, "kw": 8}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": Mode.MAX, "kh": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": Mode.MAX, "depthwise": 1}, ErrorCause.BAD_FIELD),
        ("4x4", {"cin": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"cout": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"out_w": 0}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": Mode.VEC, "kw": 2}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": Mode.STOS_LN, "depthwise": 1}, ErrorCause.BAD_FIELD),
        ("4x4", {"fold": 1, "seg_gap": 2, "seg_missing": 3}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg_gap": 2, "seg_missing": 3}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg_missing": 3}, ErrorCause.BAD_FIELD),
        ("4x4", {"mode": Mode.STOS_CH, "seg": 9, "fold": 1, "sx": 2}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg": 9, "sx": 2, "out_w": 7}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg": 9, "out_w": 7, "seg_gap": 10}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg": 4, "out_w": 3, "seg_gap": 5}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg": 3, "seg_gap": 3, "seg_missing": 5}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg": 4, "seg_gap": 15, "seg_missing": 5}, ErrorCause.BAD_FIELD),
        ("4x4", {"seg": 4, "seg_gap": 3, "seg_missing": 2}, ErrorCause.BAD_FIELD),
        ("4x4", {"in_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"mode": Mode.STOS_CH, "in_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"out_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"res": 1, "res_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"res": 2, "res_base": 16 * 1024 - 2, "cout": 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"mode": Mode.MAX, "in_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"mode": Mode.MAX, "out_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
        ("4x4", {"w_base": 2048}, ErrorCause.MEM_RANGE),
        ("4x4", {"p_base": 256}, ErrorCause.MEM_RANGE),
    ],
)
def test_bad_instruction_stops_with_cause_and_pc(name: str, values: dict[str, int], cause: ErrorCause) -> None:
    bench, broken = ExecBench(CONFIGS[name]), fields(**values)
    assert len(bench.run([fields(), broken])) == 1
    assert bench.error is not None
    assert bench.error[:2] == (cause, 1)
    with pytest.raises(FaultError) as caught:
        operands(CONFIGS[name], broken)
    assert caught.value.cause == cause
    if cause == ErrorCause.BAD_FIELD:  # both name the first illegal value
        assert bench.error[2] == caught.value.info


FAULTS = {
    "field": ({"mode": 5}, ErrorCause.BAD_FIELD),
    "operand": ({"in_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
    "weight": ({"w_base": 2048}, ErrorCause.MEM_RANGE),
    "parameter": ({"p_base": 256}, ErrorCause.MEM_RANGE),
    "result": ({"out_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
    "residual": ({"res": 1, "res_base": 16 * 1024 - 3}, ErrorCause.MEM_RANGE),
}
LONG = {"in_w": 32, "out_w": 32, "in_cs": 32, "out_cs": 32, "in_pitch": 32, "out_pitch": 32, **FULL}
SOUND = {
    "gemm": {**LONG, "cin": 3, "cout": 6},
    "rows": {**LONG, "mode": Mode.STOS_CH, "kw": 3, "pad_x": 1, "cout": 6},
    "vec": {**LONG, "mode": Mode.VEC, "cout": 2, "p_base": PLAIN},
    "pool": {**LONG, "cin": 3, "cout": 6, **GAP},
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("before", SOUND)
def test_what_came_before_a_fault_is_finished(before: str, fault: str) -> None:
    """The faulty instruction overlaps the one before; one behind it is perhaps accepted, and never done."""
    values, cause = FAULTS[fault]
    config, sound = CONFIGS["4x4"], fields(**SOUND[before])
    bench, machine = loaded_bench(config)
    spare = fields(overlap=1, out_base=4096)
    assert len(bench.run([sound, fields(**{"overlap": 1, "out_base": 3072, **values}), spare], together=True)) == 1
    assert bench.error is not None and bench.error[:2] == (cause, 1)
    execute(machine, sound, operands(config, sound))
    assert np.array_equal(bench.act[:3072], machine.onchip[Target.ACT][:3072])


@pytest.mark.parametrize("younger", FAULTS)
@pytest.mark.parametrize("older", ["parameter", "result", "residual"])
def test_of_two_faults_the_earlier_instructions_is_reported(older: str, younger: str) -> None:
    """Although the later one's may be found first: the earlier one's shows when its rows come."""
    bench, _ = loaded_bench(CONFIGS["4x4"])
    first, second = (fields(overlap=1, **FAULTS[name][0]) for name in (older, younger))
    assert len(bench.run([fields(), first, second], together=True)) == 1
    assert bench.error is not None and bench.error[:2] == (FAULTS[older][1], 1)


@pytest.mark.parametrize("depth", [1, 4, 20])
def test_overlapping_instructions_follow_at_the_rate_of_tiles(depth: int) -> None:
    """Ten equal instructions of four tiles: five cycles each in front of the first step."""
    config = CONFIGS["4x4"]
    shape = {"cin": depth, "cout": 4, "in_w": 16, "out_w": 16, "in_cs": 16, "in_pitch": 16, "out_cs": 16}
    instructions = [fields(**shape, overlap=1) for _ in range(10)]
    bench = ExecBench(config)
    bench.run(instructions, together=True)
    (period,) = set(np.diff(bench.done[1:]).tolist())
    assert period == 4 * max(depth, config.rows) + 5 - max(0, config.rows - depth)


def test_without_overlap_the_first_read_follows_the_last_write() -> None:
    """The second instruction reads what the first one writes, in the cycle in which that is done."""
    config = CONFIGS["4x4"]
    bench, machine = loaded_bench(config)
    pair = [fields(**FULL), fields(in_base=1024, out_base=2048, **FULL)]
    bench.watch = 1024
    bench.run(pair, together=True)
    assert bench.watched == [bench.done[0]]
    for instruction in pair:
        execute(machine, instruction, operands(config, instruction))
    assert np.array_equal(bench.act, machine.onchip[Target.ACT])


@pytest.mark.parametrize("taps", [1, 2, 3])
def test_maximum_costs_a_cycle_per_tap(taps: int) -> None:
    """And no weight word, nor a wait for the array."""
    config = CONFIGS["3x5"]
    shape = {"mode": Mode.MAX, "kh": taps, "kw": taps, "in_h": 4, "w_base": config.weight_words}
    short, long = (fields(**shape, in_w=config.cols * n, out_w=config.cols * n) for n in (4, 14))
    assert steady_state(config, short, long, 10) == taps * taps


@pytest.mark.parametrize(
    ("mode", "latency"), [(Mode.GEMM, 5), (Mode.VEC, 5), (Mode.MAX, 5), (Mode.STOS_CH, 6), (Mode.STOS_LN, 6)]
)
def test_cycles_from_acceptance_to_first_operand(mode: Mode, latency: int) -> None:
    bench = ExecBench(CONFIGS["4x4"])
    bench.run([fields(mode=mode)])
    assert bench.first_request == latency
