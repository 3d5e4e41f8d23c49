"""LOAD and STORE through the real fetcher, queues, units, arbiter and scratchpad."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import Instruction, Opcode, Queue, Region, Target, assemble
from tests.hw.accelerator_bench import DONE, ERROR, AcceleratorRig
from tests.hw.control_bench import frame

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "wide_bus": PRESETS["tiny"].twin(cols=20, rows=3, axi_data_width=128, stos=False),
}
TO_STORE, FROM_LOAD = 1 << Queue.STORE, 1 << Queue.LOAD


def round_trips(seed: int, config: AcceleratorConfig, count: int) -> tuple[list[Instruction], list[bytes], bytes]:
    """Pairs of a LOAD to a random place and the STORE that waits for it.

    Returns the program, the four regions before it and region OUTPUT after it.
    """
    rng = random.Random(seed)
    source, before = rng.randbytes(3000), rng.randbytes(3000)
    sink = bytearray(before)
    body = []
    slot = config.act_bytes // count
    room = len(sink) // count
    for index in range(count):
        rows, width = rng.randint(1, 5), rng.randint(1, 90)
        mem_stride = rng.randint(width, 120)
        mem = index * slot + rng.randint(0, slot - rows * mem_stride)
        in_stride = rng.randint(0, 300)
        in_offset = rng.randint(0, len(source) - (rows - 1) * in_stride - width)
        out_stride = rng.randint(width, room // rows)
        out_offset = index * room
        load = {"target": Target.ACT, "region": Region.INPUT, "dram_offset": in_offset, "dram_stride": in_stride}
        store = {"region": Region.OUTPUT, "dram_offset": out_offset, "dram_stride": out_stride}
        chip = {"mem_addr": mem, "mem_stride": mem_stride, "rows": rows, "row_bytes": width}
        body.append(Instruction(Opcode.LOAD, {**chip, **load, "signal": TO_STORE}))
        body.append(Instruction(Opcode.STORE, {**chip, **store, "wait": FROM_LOAD}))
        for row in range(rows):
            line = source[in_offset + row * in_stride :][:width]
            start = out_offset + row * out_stride
            sink[start : start + width] = line
    program = frame(config, body)
    return program, [assemble(program), b"", source, before], bytes(sink)


@pytest.mark.parametrize(("name", "stall"), [("tiny", 0.0), ("tiny", 0.3), ("wide_bus", 0.3)])
def test_round_trips(name: str, stall: float) -> None:
    """Bytes go where they should and nowhere else; the counters know how many."""
    config = CONFIGS[name]
    program, regions, expected = round_trips(7, config, 4)
    rig = AcceleratorRig(config, regions, seed=3, stall=stall)

    async def bench(ctx: Any) -> None:
        await rig.begin(ctx)
        assert rig.region(Region.OUTPUT) != expected
        assert await rig.execute(len(program)) == DONE, await rig.error()
        assert rig.region(Region.OUTPUT) == expected
        moved = sum(i["rows"] * i["row_bytes"] for i in program if i.opcode == Opcode.STORE)
        assert await rig.bus.get("STORE_BYTES_LO") == moved
        assert await rig.bus.get("LOAD_BYTES_LO") >= moved
        assert await rig.bus.get("INSTRUCTIONS_LO") == len(program)
        cycles = await rig.bus.get("CYCLES_LO")
        for counter in ("LOAD_BUSY", "STORE_BUSY", "STORE_TOKEN"):
            assert 0 < await rig.bus.get(f"{counter}_LO") < cycles

    rig.run(bench)
    rig.reads.finish()
    rig.writes.finish()


def check_error_then_recovery(rig: AcceleratorRig, count: int, expected: bytes, error: tuple[ErrorCause, int]) -> None:
    """Run into an error with faults injected, take them away, soft reset, run again to the right result."""

    async def bench(ctx: Any) -> None:
        await rig.begin(ctx)
        assert await rig.execute(count) == ERROR
        assert (await rig.error())[:2] == error
        await rig.soft_reset()
        rig.reads.faults = rig.writes.faults = frozenset()
        assert await rig.execute(count) == DONE
        assert rig.region(Region.OUTPUT) == expected

    rig.run(bench)


@pytest.mark.parametrize("failing", [1, 4])
def test_bus_error_on_load_or_store(failing: int) -> None:
    """Instruction 1 is a LOAD, 4 a STORE, each hit by SLVERR on its first burst."""
    config = CONFIGS["tiny"]
    program, regions, expected = round_trips(9, config, 2)
    rig = AcceleratorRig(config, regions, seed=4)
    hit = program[failing]
    address = rig.bases[hit["region"]] + hit["dram_offset"] & -config.axi_bytes
    if hit.opcode == Opcode.LOAD:
        rig.reads.faults = frozenset({address})
        cause = ErrorCause.AXI_READ
    else:
        rig.writes.faults = frozenset({address})
        cause = ErrorCause.AXI_WRITE
    check_error_then_recovery(rig, len(program), expected, (cause, failing))


def test_dram_range_and_recovery() -> None:
    """A LOAD that ends one byte beyond its region stops the program; with a larger region it runs."""
    config = CONFIGS["tiny"]
    program, regions, expected = round_trips(11, config, 2)
    rig = AcceleratorRig(config, regions, seed=5)
    load = program[1]
    end = load["dram_offset"] + (load["rows"] - 1) * load["dram_stride"] + load["row_bytes"]

    async def bench(ctx: Any) -> None:
        await rig.begin(ctx)
        await rig.bus.set("REGION2_SIZE", end - 1)
        assert await rig.execute(len(program)) == ERROR
        assert (await rig.error())[:2] == (ErrorCause.DRAM_RANGE, 1)
        await rig.soft_reset()
        await rig.bus.set("REGION2_SIZE", len(regions[Region.INPUT]))
        assert await rig.execute(len(program)) == DONE
        assert rig.region(Region.OUTPUT) == expected

    rig.run(bench)


@pytest.mark.parametrize("when", [40, 150])
def test_soft_reset_in_the_middle_of_transfers(when: int) -> None:
    """Whatever is under way is completed on the bus; the next run is right."""
    config = CONFIGS["tiny"]
    program, regions, expected = round_trips(13, config, 3)
    rig = AcceleratorRig(config, regions, seed=when, latency=30)

    async def bench(ctx: Any) -> None:
        await rig.begin(ctx)
        await rig.bus.set("PROG_COUNT", len(program))
        await rig.bus.set("CTRL", 1)
        await ctx.tick().repeat(when)
        await rig.soft_reset()
        assert await rig.bus.get("STATUS") == 0
        assert await rig.execute(len(program)) == DONE
        assert rig.region(Region.OUTPUT) == expected

    rig.run(bench)
