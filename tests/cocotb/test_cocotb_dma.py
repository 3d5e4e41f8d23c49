"""The emitted load and store units with cocotbext-axi's RAM and back-pressure, against the ISA's definition."""

from __future__ import annotations

import numpy as np
import pytest

from hw.layouts import act_addr_width
from hw.load_unit import LoadUnit
from hw.ports import ReadSignature
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Opcode, Target, encode
from hw.store_unit import StoreUnit
from sim.cocotb.runner import run_bench

SMALL = {"act_kib": 4, "act_banks": 2, "weight_kib": 4, "param_entries": 128}
CONFIGS = {
    "64 bits": AcceleratorConfig(rows=4, cols=4, axi_data_width=64, **SMALL),
    "256 bits": AcceleratorConfig(rows=6, cols=40, axi_data_width=256, **SMALL),
}
REGION_BYTES = 9000  # more than two 4 KiB pages
BASES = [0x1_0000_0000 + index * 0x4000 for index in range(4)]


def rows_of(rng: np.random.Generator, dram: int, onchip: int, unit: int) -> dict[str, int]:
    """Return a random transfer whose places, strides and rows are multiples of `unit` bytes."""
    rows = int(rng.integers(1, 6))
    row_bytes = int(rng.integers(1, max(2, min(dram, onchip) // unit // (2 * rows)))) * unit
    strides = [int(rng.integers(row_bytes // unit, space // unit // rows + 1)) * unit for space in (dram, onchip)]
    spans = [(rows - 1) * stride + row_bytes for stride in strides]
    free = [(space - span) // unit for space, span in zip((dram, onchip), spans, strict=True)]
    offset, addr = (int(rng.integers(0, units + 1)) * unit for units in free)
    return {
        "dram_offset": offset,
        "mem_addr": addr,
        "rows": rows,
        "row_bytes": row_bytes,
        "dram_stride": strides[0],
        "mem_stride": strides[1],
    }


def move(item: Instruction, dram: np.ndarray, onchip: np.ndarray) -> None:
    """Copy rows, one after the other, as the ISA's pseudo-code does."""
    size, offset = item["row_bytes"], BASES[item["region"]] - BASES[0] + item["dram_offset"]
    for row in range(item["rows"]):
        outside = slice(at := offset + row * item["dram_stride"], at + size)
        inside = slice(at := item["mem_addr"] + row * item["mem_stride"], at + size)
        if item.opcode == Opcode.LOAD:
            onchip[inside] = dram[outside]
        else:
            dram[outside] = onchip[inside]


def task(config: AcceleratorConfig, program: list[Instruction], seed: int) -> tuple[dict, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    parameters = {
        "bases": BASES,
        "sizes": [REGION_BYTES] * 4,
        "lanes": config.axi_bytes,
        "addr_width": act_addr_width(config),
        "read_latency": ReadSignature.READ_LATENCY,
        "stall": 0.25,
        "seed": seed,
    }
    arrays = {
        "program": np.stack([np.frombuffer(encode(item), np.uint8) for item in program]),
        "dram": rng.integers(0, 256, BASES[3] - BASES[0] + REGION_BYTES).astype(np.uint8),
    }
    for name, size in (("act", config.act_bytes), ("weight", config.weight_bytes), ("param", config.param_bytes)):
        arrays[name] = rng.integers(0, 256, size).astype(np.uint8)
    return parameters, arrays


@pytest.mark.parametrize("name", CONFIGS)
def test_load_unit(name: str) -> None:
    config = CONFIGS[name]
    rng = np.random.default_rng(1)
    sizes = {Target.ACT: config.act_bytes, Target.WEIGHT: config.weight_bytes, Target.PARAM: config.param_bytes}
    program = []
    for _ in range(24):
        target = Target(rng.integers(0, 3))
        unit = 1 if target == Target.ACT else config.axi_bytes
        fields = rows_of(rng, REGION_BYTES - REGION_BYTES % unit, sizes[target], unit)
        program.append(Instruction(Opcode.LOAD, {"target": target, "region": int(rng.integers(0, 4)), **fields}))
    parameters, arrays = task(config, program, seed=2)
    expected = {target: arrays[target.name.lower()].copy() for target in Target}
    for item in program:
        move(item, arrays["dram"], expected[Target(item["target"])])
    got = run_bench(lambda: LoadUnit(config), "sim.cocotb.bench_dma", parameters=parameters, arrays=arrays)
    for target in Target:
        assert np.array_equal(got[target.name.lower()], expected[target]), target.name


@pytest.mark.parametrize("name", CONFIGS)
def test_store_unit(name: str) -> None:
    config = CONFIGS[name]
    rng = np.random.default_rng(3)
    program = [
        Instruction(
            Opcode.STORE, {"region": int(rng.integers(0, 4)), **rows_of(rng, REGION_BYTES, config.act_bytes, 1)}
        )
        for _ in range(20)
    ]
    parameters, arrays = task(config, program, seed=4)
    expected = arrays["dram"].copy()
    for item in program:
        move(item, expected, arrays["act"])
    got = run_bench(lambda: StoreUnit(config), "sim.cocotb.bench_dma", parameters=parameters, arrays=arrays)
    assert np.array_equal(got["dram"], expected)
