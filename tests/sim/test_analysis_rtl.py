"""The maps that the analysis finds for the generated array are those of its RTL: each product's PE and cycle."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from amaranth.sim import Simulator

from hw.array import Array
from hw.pe import PE
from hw.spec.config import AcceleratorConfig
from sw.analysis.execute import execute, random_operands
from sw.analysis.operators import operator
from sw.analysis.report import implemented
from sw.analysis.schedule import FABRICS, Mapping, search

ROWS, COLS = 3, 4
FOREIGN = 100
"""A pixel that no product may contain."""


def small(**options: object) -> AcceleratorConfig:
    return AcceleratorConfig(rows=ROWS, cols=COLS, act_kib=16, weight_kib=4, axi_data_width=64, max_kernel=4, **options)


CONFIGS = {"plain": small(stos=False), "stos": small(), "pipe": small(pipeline_mac=True)}


def products(config: AcceleratorConfig, steps: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch) -> set:
    """Run steps on the array; return (cycle, (row, column), left operand, other operand) of each product but zero."""
    pes: list[PE] = []

    def remember(pe: PE, platform: object, elaborate: Callable = PE.elaborate) -> object:
        pes.append(pe)
        return elaborate(pe, platform)

    monkeypatch.setattr(PE, "elaborate", remember)
    dut = Array(config)
    found = set()

    async def bench(ctx):
        ctx.set(dut.flush, 1)
        await ctx.tick().repeat(ROWS + COLS + 8)
        ctx.set(dut.flush, 0)
        idle = {"w": [0] * ROWS, "a": [0] * config.read_lanes, "last": 0, "v_en": 0, "capture": 0}
        stos = any(step.get("capture") for step in steps)
        for cycle in range(len(steps) + ROWS + COLS + 4):
            step = idle | (steps[cycle] if cycle < len(steps) else {})
            for name in ("w", "a", "last", *(("v_en", "capture") if config.stos else ())):
                ctx.set(getattr(dut, name), step[name])
            ctx.set(dut.tile_rows, ROWS)
            if config.stos:
                ctx.set(dut.stos, stos)
            for number, pe in enumerate(pes):
                taps = config.stos and ctx.get(pe.stos)
                tap = ((~ctx.get(pe.w_row_n) & 0xFF) ^ 0x80) - 0x80 if taps else 0  # the row's wire has the complement
                left, other = ctx.get(pe.h), tap if taps else ctx.get(pe.v)
                if left and other:
                    found.add((cycle, divmod(number, COLS), left, other))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert len(pes) == ROWS * COLS
    return found


def predicted(mapping: Mapping) -> set:
    return {(one.cycle, one.place, one.point) for one in execute(mapping, random_operands(mapping, 0)).trace}


def from_first(trace: set) -> set:
    first = min(cycle for cycle, *_ in trace)
    return {(cycle - first, *rest) for cycle, *rest in trace}


@pytest.mark.parametrize("depth", [2, 5])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_output_stationary_map_is_the_array_in_gemm_mode(
    config: AcceleratorConfig, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = operator("matmul", {"M": ROWS, "N": COLS, "K": depth}).systems[0]
    mapping = search(system, FABRICS["gemm"])[0]
    assert mapping == implemented(system) and mapping.stationary == "C"
    # every operand has a value of its own, which says what element it is
    steps = [
        {
            "w": [1 + i * depth + k for i in range(ROWS)],
            "a": [FOREIGN] * config.halo + [1 + k * COLS + j for j in range(COLS)],
            "last": int(k == depth - 1),
        }
        for k in range(depth)
    ]
    trace = set()
    for cycle, place, weight, pixel in products(config, steps, monkeypatch):
        (i, k), (k_of_pixel, j) = divmod(weight - 1, depth), divmod(pixel - 1, COLS)
        assert k == k_of_pixel
        trace.add((cycle, place, (i, j, k)))
    assert len(trace) == ROWS * COLS * depth
    assert from_first(trace) == predicted(mapping)


@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("config", [CONFIGS["stos"], CONFIGS["pipe"]], ids=["stos", "pipe"])
def test_broadcast_map_is_the_array_in_stos_mode(
    config: AcceleratorConfig, kernel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = operator("fuse-full", {"C": ROWS, "H": 1, "W": COLS, "K": kernel}).systems[0]
    mapping = implemented(system)
    assert mapping is not None and mapping.stationary == "Y"
    length = COLS + kernel - 1
    lines = [[1 + c * length + e for e in range(length)] for c in range(ROWS)]
    taps = [[1 + c * kernel + k for k in range(kernel)] for c in range(ROWS)]
    foreign = [FOREIGN] * (config.halo - (kernel - 1))
    order = [kernel - 1 - t for t in range(kernel)]  # the last tap first: what the map's schedule says too
    steps: list[dict[str, object]] = [{"v_en": 1, "a": foreign + line} for line in reversed(lines)]
    steps.append({"capture": 1})
    steps += [{"w": [taps[c][k] for c in range(ROWS)], "last": int(k == 0)} for k in order]
    trace = set()
    for cycle, place, pixel, tap in products(config, steps, monkeypatch):
        (c, element), (c_of_tap, k) = divmod(pixel - 1, length), divmod(tap - 1, kernel)
        assert c == c_of_tap
        trace.add((cycle, place, (c, element - k, k)))
    assert len(trace) == ROWS * COLS * kernel
    assert from_first(trace) == predicted(mapping)
