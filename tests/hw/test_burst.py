# amaranth: UnusedElaboratable=no
"""Burst generator against a loop over rows, beats and 4 KiB pages."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator, SimulatorContext

from hw.burst import MAX_BURST_BEATS, BurstGenerator, beat_addr_width, burst_beats
from hw.spec.config import AcceleratorConfig, preset
from hw.spec.csr import ErrorCause
from hw.spec.fields import FieldTable
from hw.spec.isa import EXEC, LOAD, STORE, Instruction, Opcode, Target
from tests.hw.dma_bench import CONFIGS, REGION_BYTES, dma, random_dma, region_base, regions, rows_of, word

LATENCY = 4
LOW = region_base(0) & 0xFFFFFFFF


def reference(config: AcceleratorConfig, instruction: Instruction) -> list[dict[str, int]]:
    """Bursts of one instruction."""
    size, block = config.axi_bytes, burst_beats(config) * config.axi_bytes
    bursts = []
    rows = rows_of(instruction)
    for index, (addr, mem, count) in enumerate(rows):
        begin, end = addr, addr + count
        while begin < end:
            stop = min(end, (begin // block + 1) * block)
            first, last = begin // size, (stop - 1) // size
            bursts.append(
                {
                    "addr": first * size,
                    "len": last - first,
                    "mem": mem + first * size - addr,
                    "lo": begin - first * size,
                    "hi": stop - last * size,
                    "target": instruction.values.get("target", Target.ACT.value),
                    "last": int(stop == end and index == len(rows) - 1),
                }
            )
            begin = stop
    return bursts


def run(dut: BurstGenerator, instructions: list[Instruction], *, stall: float, expected: int) -> tuple[list, list, int]:
    """Return the bursts, their cycles and the cycle of the first instruction's acceptance."""
    bursts, cycles, accepted = [], [], []
    mem_mask = (1 << len(dut.burst.p.mem)) - 1

    async def feed(ctx: SimulatorContext) -> None:
        ctx.set(dut.regions, regions())
        for index, instruction in enumerate(instructions):
            ctx.set(dut.instr.valid, 1)
            ctx.set(dut.instr.payload, {"word": word(instruction), "pc": index})
            await ctx.tick().until(dut.instr.ready)
        ctx.set(dut.instr.valid, 0)

    async def take(ctx: SimulatorContext) -> None:
        rng = random.Random(5)
        cycle = 0
        while len(bursts) < expected:
            ready = rng.random() >= stall
            ctx.set(dut.burst.ready, ready)
            _, _, accept, valid, payload, fault = await ctx.tick().sample(
                dut.instr.valid & dut.instr.ready, dut.burst.valid, dut.burst.payload, dut.fault.valid
            )
            assert not fault
            if accept:
                accepted.append(cycle)
            if valid and ready:
                bursts.append({name: payload[name] for name in payload.shape().members})
                cycles.append(cycle)
            cycle += 1
            assert cycle < 20_000
        ctx.set(dut.burst.ready, 1)
        for _ in range(10):
            _, _, valid = await ctx.tick().sample(dut.burst.valid)
            assert not valid, "more bursts than expected"

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(feed, background=True)
    sim.add_testbench(take)
    sim.run()
    for burst in bursts:
        assert burst["mem"] <= mem_mask
    return bursts, cycles, accepted[0]


def masked(dut: BurstGenerator, bursts: list[dict[str, int]]) -> list[dict[str, int]]:
    mask = (1 << len(dut.burst.p.mem)) - 1
    return [{**burst, "mem": burst["mem"] & mask} for burst in bursts]


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("width", CONFIGS)
@pytest.mark.parametrize("table", [LOAD, STORE], ids=lambda table: table.name)
def test_bursts(width: int, table: FieldTable, stall: float) -> None:
    config = CONFIGS[width]
    rng = random.Random(f"{width} {table.name} {stall}")
    opcode = Opcode[table.name]
    whole = range(config.act_bytes)
    instructions = [random_dma(rng, opcode, whole) for _ in range(40)]
    # Long rows, from every side of a 4 KiB page; and the largest memory and offset that fit.
    instructions += [
        dma(opcode, dram_offset=4096 - before, mem_addr=3, row_bytes=before + after)
        for before in (1, 7, 512, 513, 4090)
        for after in (1, 4096, 5000)
    ]
    instructions.append(dma(opcode, row_bytes=config.act_bytes))
    if table is LOAD:
        weights = range(config.weight_bytes)
        instructions += [
            random_dma(rng, opcode, weights, grain=config.axi_bytes, target=Target.WEIGHT.value) for _ in range(10)
        ]
    dut = BurstGenerator(config, table)
    want = masked(dut, [burst for instruction in instructions for burst in reference(config, instruction)])
    got, _, _ = run(dut, instructions, stall=stall, expected=len(want))
    assert got == want


def test_one_burst_per_cycle() -> None:
    config = CONFIGS[64]
    single = [dma(Opcode.STORE, dram_offset=8 * i, mem_addr=5 * i, row_bytes=3) for i in range(20)]
    block = dma(Opcode.STORE, rows=30, row_bytes=8, dram_stride=24, mem_stride=9)
    dut = BurstGenerator(config, STORE)
    instructions = [*single, block, *single]
    got, cycles, accepted = run(dut, instructions, stall=0.0, expected=70)
    assert got == masked(dut, [b for i in instructions for b in reference(config, i)])
    assert cycles == list(range(accepted + LATENCY, accepted + LATENCY + 70))


@pytest.mark.parametrize(
    ("values", "cause", "info"),
    [
        ({"rows": 0, "row_bytes": 8}, ErrorCause.BAD_FIELD, 0),
        ({"row_bytes": 0}, ErrorCause.BAD_FIELD, 0),
        ({"row_bytes": 8, "target": 3}, ErrorCause.BAD_FIELD, 3),
        ({"row_bytes": 8, "target": 1, "dram_offset": 4}, ErrorCause.MISALIGNED, LOW + 4),
        ({"row_bytes": 12, "target": 1}, ErrorCause.MISALIGNED, LOW),
        ({"row_bytes": 8, "target": 2, "mem_addr": 1}, ErrorCause.MISALIGNED, LOW),
        ({"row_bytes": 8, "target": 2, "rows": 2, "mem_stride": 9}, ErrorCause.MISALIGNED, LOW),
        ({"row_bytes": 8, "target": 1, "rows": 2, "dram_stride": 9}, ErrorCause.MISALIGNED, LOW),
        ({"row_bytes": 2, "mem_addr": 0x3FFF}, ErrorCause.MEM_RANGE, 0x3FFF),
        ({"row_bytes": 1, "mem_addr": 0xFFFFFF}, ErrorCause.MEM_RANGE, 0xFFFFFF),
        ({"row_bytes": 8, "rows": 3, "mem_addr": 0x2000, "mem_stride": 0x1FF8}, ErrorCause.MEM_RANGE, 0x5FF0),
        ({"row_bytes": 8, "target": 1, "mem_addr": 4096}, ErrorCause.MEM_RANGE, 4096),
        ({"row_bytes": 8, "target": 2, "mem_addr": 2048}, ErrorCause.MEM_RANGE, 2048),
        ({"row_bytes": 2, "dram_offset": REGION_BYTES - 1}, ErrorCause.DRAM_RANGE, REGION_BYTES - 1),
        ({"row_bytes": 1, "dram_offset": (1 << 40) - 1}, ErrorCause.DRAM_RANGE, 0xFFFFFFFF),
        ({"row_bytes": 8, "rows": 9, "dram_stride": 0xFFFFFFFF}, ErrorCause.DRAM_RANGE, 0xFFFFFFFF),
    ],
)
def test_faults(values: dict[str, int], cause: ErrorCause, info: int) -> None:
    """A good instruction, a faulty one, a good one: all bursts before the fault, none after, then silence."""
    config = CONFIGS[64]
    dut = BurstGenerator(config, LOAD)
    good = dma(Opcode.LOAD, row_bytes=30, region=1)
    bad = dma(Opcode.LOAD, **values)
    rows_before = {0x5FF0: 2, 0xFFFFFFFF: int(values.get("rows", 1) > 1)}.get(info, 0)
    legal = Instruction(Opcode.LOAD, {**bad.values, "rows": rows_before})
    want = masked(dut, reference(config, good) + [{**b, "last": 0} for b in reference(config, legal)])
    got = []

    async def bench(ctx: SimulatorContext) -> None:
        ctx.set(dut.regions, regions())
        ctx.set(dut.burst.ready, 1)
        pending = [good, bad, good]
        seen = None
        for _ in range(40):
            ctx.set(dut.instr.valid, bool(pending))
            if pending:
                ctx.set(dut.instr.payload, {"word": word(pending[0]), "pc": 7 + len(pending)})
            _, _, ready, valid, payload, fault, fault_cause, pc, fault_info = await ctx.tick().sample(
                dut.instr.ready, dut.burst.valid, dut.burst.payload, dut.fault.valid, dut.fault.cause,
                dut.fault.pc, dut.fault.info,
            )  # fmt: skip
            if ready and pending:
                pending.pop(0)
            if valid:
                got.append({name: payload[name] for name in payload.shape().members})
            if fault and seen is None:
                seen = (ErrorCause(fault_cause), pc, fault_info)
                ctx.set(dut.halt, 1)
        assert seen == (cause, 9, info)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert got == want


def test_single_row_ignores_strides() -> None:
    config = CONFIGS[128]
    dut = BurstGenerator(config, LOAD)
    instruction = dma(Opcode.LOAD, row_bytes=32, target=1, dram_stride=5, mem_stride=3)
    got, _, _ = run(dut, [instruction], stall=0.0, expected=1)
    assert got == reference(config, instruction)


def test_sizes() -> None:
    assert burst_beats(preset("tiny")) == MAX_BURST_BEATS
    assert burst_beats(AcceleratorConfig(cols=128, axi_data_width=1024)) == 4096 // 128
    assert beat_addr_width(preset("tiny"), 4096) == 9
    assert beat_addr_width(preset("tiny"), 8) == 1
    with pytest.raises(ValueError, match="LOAD or STORE, not EXEC"):
        BurstGenerator(preset("tiny"), EXEC)
