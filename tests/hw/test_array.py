"""The array against integer matrix products and 1-D convolutions, at the tile spacing it promises."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw.array import Array
from hw.spec.config import AcceleratorConfig


def small(rows: int, cols: int, **options: object) -> AcceleratorConfig:
    return AcceleratorConfig(rows=rows, cols=cols, act_kib=16, weight_kib=4, axi_data_width=64, **options)


class ArrayBench:
    """Feeds a schedule of steps (cycle -> inputs) and collects valid output rows with their cycles."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config, self.dut = config, Array(config)
        self.steps: dict[int, dict[str, object]] = {}
        self.rows: list[tuple[int, list[int]]] = []

    def step(self, cycle: int, **inputs: object) -> None:
        self.steps.setdefault(cycle, {}).update(inputs)

    def run(self, extra: int) -> None:
        config, dut = self.config, self.dut
        first = min(self.steps)
        flush = config.rows + config.cols + 8

        async def bench(ctx):
            ctx.set(dut.flush, 1)
            await ctx.tick().repeat(flush)
            ctx.set(dut.flush, 0)
            for cycle in range(first, max(self.steps) + extra):
                values = self.steps.get(cycle, {})
                ctx.set(dut.w, values.get("w", [0] * config.rows))
                ctx.set(dut.a, values.get("a", [0] * config.read_lanes))
                ctx.set(dut.last, values.get("last", 0))
                ctx.set(dut.tile_rows, values.get("tile_rows", 0))
                if config.stos:
                    ctx.set(dut.v_en, values.get("v_en", 0))
                    ctx.set(dut.capture, values.get("capture", 0))
                    ctx.set(dut.stos, int(self.mode(cycle)))
                if ctx.get(dut.out_valid):
                    self.rows.append((cycle, [ctx.get(dut.out[c]) for c in range(config.cols)]))
                await ctx.tick()

        sim = Simulator(dut)
        sim.add_clock(1e-6)
        sim.add_testbench(bench)
        sim.run()

    def mode(self, cycle: int) -> bool:
        return self.stos_from is not None and self.stos_from <= cycle < self.stos_until

    stos_from: int | None = None
    stos_until: int = 1 << 30


def gemm_schedule(
    bench: ArrayBench, rng: np.random.Generator, tiles: list[tuple[int, int]], start: int, *, gaps: bool = False
):
    """Schedule tiles of (K, used rows), back to back; returns expected rows in order and the cycle after the last."""
    config = bench.config
    rows, cols, halo = config.rows, config.cols, config.halo
    expected, cycle, last_end = [], start, None
    for depth, used in tiles:
        w = rng.integers(-128, 128, (rows, depth))
        a = rng.integers(-128, 128, (depth, cols))
        for k in range(depth):
            if gaps and rng.random() < 0.3:
                cycle += int(rng.integers(1, 4))
            if k == depth - 1 and last_end is not None:
                cycle = max(cycle, last_end + used)
            lanes = [int(rng.integers(-128, 128)) for _ in range(halo)] + [int(x) for x in a[k]]
            bench.step(cycle, w=[int(x) for x in w[:, k]], a=lanes, last=int(k == depth - 1), tile_rows=used)
            last_end = cycle if k == depth - 1 else last_end
            cycle += 1
        product = w @ a
        expected += [product[r].tolist() for r in reversed(range(used))]
    return expected, cycle, last_end


CONFIGS = [
    small(4, 4),
    small(3, 5, max_kernel=5),
    small(6, 3, max_kernel=3, pipeline_mac=True),
    small(4, 4, stos=False),
    small(5, 4, stos=False, pipeline_mac=True),
    small(1, 2, max_kernel=2),
]
IDS = [f"{c.rows}x{c.cols}{'' if c.stos else '-plain'}{'-pipe' if c.pipeline_mac else ''}" for c in CONFIGS]


STOS = [config for config in CONFIGS if config.stos]
STOS_IDS = [name for name, config in zip(IDS, CONFIGS, strict=True) if config.stos]


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
@pytest.mark.parametrize("gaps", [False, True], ids=["dense", "gaps"])
def test_gemm_tiles_follow_each_other_every_max_k_rows(config: AcceleratorConfig, gaps: bool) -> None:
    """Tiles of changing depth, spaced max(K, used rows), with and without idle steps inside them."""
    rng = np.random.default_rng(config.rows * 10 + config.cols)
    bench = ArrayBench(config)
    used = config.rows
    tiles = [(int(k), used) for k in rng.integers(1, 3 * config.rows, 8)]
    expected, _, last_end = gemm_schedule(bench, rng, tiles, 0, gaps=gaps)
    bench.run(config.rows * 2 + config.cols + 10)
    assert [row for _, row in bench.rows] == expected
    first_of_last_tile = bench.rows[-used][0]
    assert first_of_last_tile == last_end + bench.dut.LATENCY_GEMM


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_gemm_drains_used_rows_only(config: AcceleratorConfig) -> None:
    """With n < rows used rows, tiles of one step each follow every n cycles and nothing else appears."""
    rng = np.random.default_rng(7)
    used = max(1, config.rows - 2)
    bench = ArrayBench(config)
    expected, _, last_end = gemm_schedule(bench, rng, [(1, used)] * 6, 0)
    assert last_end == 5 * used
    bench.run(config.rows * 2 + config.cols + 10)
    assert [row for _, row in bench.rows] == expected


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_gemm_used_rows_change_behind_the_last_finished_sum(config: AcceleratorConfig) -> None:
    """Tiles of different used rows may end rows + cols - 1 cycles apart: what the GEMM sequencer keeps to."""
    rng = np.random.default_rng(8)
    bench = ArrayBench(config)
    expected, start = [], 0
    for used in (config.rows, 1, config.rows, max(1, config.rows - 1), 1, config.rows):
        rows, _, last = gemm_schedule(bench, rng, [(1, used)], start)
        expected += rows
        start = last + config.rows + config.cols - 1
    bench.run(config.rows * 2 + config.cols + 10)
    assert [row for _, row in bench.rows] == expected


@pytest.mark.parametrize("config", STOS, ids=STOS_IDS)
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_stos_rows_are_independent_convolutions(config: AcceleratorConfig, kernel: int) -> None:
    """A row convolution tile every max(rows, K) cycles: lines loaded while the tile before is multiplied."""
    if kernel > config.max_kernel:
        kernel = config.max_kernel
    rng = np.random.default_rng(kernel)
    rows, cols, halo, lanes = config.rows, config.cols, config.halo, config.read_lanes
    bench = ArrayBench(config)
    bench.stos_from = 0
    expected, interval = [], max(rows, kernel)
    for tile in range(5):
        lines = rng.integers(-128, 128, (rows, lanes))
        taps = rng.integers(-128, 128, (rows, kernel))
        load = tile * interval
        for index in range(rows):  # the bottom row's line first
            bench.step(load + index, v_en=1, a=[int(x) for x in lines[rows - 1 - index]])
        bench.step(load + rows, capture=1)
        for t in range(kernel):  # last tap of the kernel first
            k = kernel - 1 - t
            bench.step(load + rows + 1 + t, w=[int(x) for x in taps[:, k]], last=int(t == kernel - 1), tile_rows=rows)
        # column j's window for tap k: register halo + j - (kernel-1-k) before any move
        want = [
            [
                sum(int(taps[r, k]) * int(lines[r, halo + j - (kernel - 1 - k)]) for k in range(kernel))
                for j in range(cols)
            ]
            for r in range(rows)
        ]
        expected += want[::-1]
        end = load + rows + kernel
    bench.run(2 * rows + cols + 10)
    assert [row for _, row in bench.rows] == expected
    assert bench.rows[-1][0] == end + bench.dut.LATENCY_STOS


@pytest.mark.parametrize("config", STOS, ids=STOS_IDS)
def test_streaming_columns_after_gemm(config: AcceleratorConfig) -> None:
    """Mode change from GEMM to line streaming; a line enters and is captured every cycle, n + K - 1 cycles a tile."""
    rng = np.random.default_rng(3)
    rows, cols, halo, lanes = config.rows, config.cols, config.halo, config.read_lanes
    bench = ArrayBench(config)
    expected, cycle, _ = gemm_schedule(bench, rng, [(3, rows), (5, rows)], 0)
    start = cycle + 2 * rows + cols + 4
    bench.stos_from = start
    kernel = 3
    for used in (rows, max(1, rows - 1), rows):
        plane = rng.integers(-128, 128, (used + kernel - 1, lanes))
        taps = rng.integers(-128, 128, kernel)
        for s in range(used + kernel - 1):
            bench.step(start + s, v_en=1, a=[int(x) for x in plane[s]])
            if s >= used - 1:
                k = s - (used - 1)
                bench.step(start + s + 1, capture=1)
                bench.step(start + s + 2, w=[int(taps[k])] * rows, last=int(k == kernel - 1), tile_rows=used)
        start += used + kernel - 1
        lines = [
            [sum(int(taps[k]) * int(plane[y + k, halo + j]) for k in range(kernel)) for j in range(cols)]
            for y in range(used)
        ]
        expected += lines  # row used-1 holds the first line and leaves first
    bench.run(2 * rows + cols + 10)
    assert [row for _, row in bench.rows] == expected


@pytest.mark.parametrize(
    "config", [*STOS, small(2, 14), small(7, 3, max_kernel=3, pipeline_mac=True)], ids=[*STOS_IDS, "2x14", "7x3-pipe"]
)
def test_modes_follow_each_other_while_rows_drain(config: AcceleratorConfig) -> None:
    """Lines right behind the last GEMM step, the first capture when it has passed, GEMM right behind the last tap."""
    rng = np.random.default_rng(4)
    rows, cols, halo = config.rows, config.cols, config.halo
    used = max(1, rows - 1)
    bench = ArrayBench(config)
    before, _, end = gemm_schedule(bench, rng, [(3, rows), (5, rows)], 0)
    plane = rng.integers(-128, 128, (used + 1, config.read_lanes))
    taps = rng.integers(-128, 128, 2)
    load = bench.stos_from = end + cols
    for s in range(used):
        bench.step(load + s, v_en=1, a=[int(x) for x in plane[s]])
    captures = [max(load + used, end + rows + cols - 1)]
    bench.step(captures[0] + 1, v_en=1, a=[int(x) for x in plane[used]])
    # The tile's first row leaves behind the last one of GEMM.
    last_out = end + bench.dut.LATENCY_GEMM + rows - 1
    captures.append(max(captures[0] + 2, last_out - bench.dut.LATENCY_STOS + used - 1))
    for index, capture in enumerate(captures):
        bench.step(capture, capture=1)
        bench.step(capture + 1, w=[int(taps[index])] * rows, last=index, tile_rows=used)
    bench.stos_until = captures[1] + 2
    lines = [(taps[0] * plane[y] + taps[1] * plane[y + 1])[halo:].tolist() for y in range(used)]
    after, _, _ = gemm_schedule(bench, rng, [(1, rows), (4, rows)], captures[1] + 2)
    bench.run(2 * rows + cols + 10)
    assert [row for _, row in bench.rows] == before + lines + after
