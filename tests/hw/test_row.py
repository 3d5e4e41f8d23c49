# amaranth: UnusedElaboratable=no
"""A row: window with halo under the taps, weights along the columns, lines and results from row to row."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator

from hw.pe import mac_latency
from hw.row import Row

NO_TAP = 0xFF  # taps are broadcast as complements
SHAPES = pytest.mark.parametrize(
    ("cols", "halo", "pipeline"), [(3, 2, False), (2, 4, True), (4, 1, True), (2, 0, False)]
)


def simulate(dut: Row, bench: object) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def pixels(rng: random.Random, count: int) -> list[int]:
    return [rng.randint(-128, 127) for _ in range(count)]


@SHAPES
def test_captured_window_shifts_under_the_taps(cols: int, halo: int, pipeline: bool) -> None:
    """Tap t meets pixel halo + j - t in column j; the next line is loaded meanwhile and captured on the last tap.

    Halo register k runs halo - k cycles late: its pixel of a line, its enable, and its turn after a capture.
    """
    rng = random.Random(cols)
    dut = Row(cols, halo, stos=True, pipeline_mac=pipeline)
    taps = halo + 1
    lines = [pixels(rng, halo + cols) for _ in range(6)]
    weights = [pixels(rng, taps) for _ in lines]
    latency = mac_latency(pipeline)
    # cycle 0 loads line 0, cycle 1 captures it; from then on a line every `taps` cycles
    captures = {1 + taps * index: index for index in range(len(lines))}
    sums: list[list[int]] = []

    async def bench(ctx) -> None:
        all_cols = (1 << cols) - 1
        ctx.set(dut.use_taps, all_cols)
        ctx.set(dut.used, 1)
        ctx.set(dut.go, all_cols)
        for cycle in range(2 + taps * len(lines) + latency):
            loading = captures.get(cycle + 1)
            ctx.set(dut.v_en, loading is not None)
            fed = pixels(rng, halo + cols)
            fed[halo:] = fed[halo:] if loading is None else lines[loading][halo:]
            late = [captures.get(cycle + 1 - (halo - k)) for k in range(halo)]
            fed[:halo] = [fed[k] if line is None else lines[line][k] for k, line in enumerate(late)]
            ctx.set(dut.v_in, fed)
            ctx.set(dut.halo_en, sum((line is not None) << k for k, line in enumerate(late)))
            ctx.set(dut.halo_out, sum((cycle - (halo - k) in captures) << k for k in range(halo)))
            ctx.set(dut.capture, cycle in captures)
            line, tap = divmod(cycle - 2, taps)
            ctx.set(dut.w_row_n, ~weights[line][tap] & 0xFF if 0 <= line < len(lines) else NO_TAP)
            done = cycle - 2 - latency
            finished = done >= 0 and done % taps == taps - 1
            ctx.set(dut.clear, all_cols if finished or done < 0 else 0)
            await ctx.tick()
            if finished:
                sums.append([ctx.get(dut.d[column]) for column in range(cols)])
        assert [ctx.get(dut.v[lane]) for lane in range(halo + cols)] == lines[-1]  # held while v_en is low

    simulate(dut, bench)
    want = [
        [sum(w[t] * line[halo + column - t] for t in range(taps)) for column in range(cols)]
        for line, w in zip(lines, weights, strict=True)
    ]
    assert sums == want


@SHAPES
@pytest.mark.parametrize("stos", [True, False], ids=["stos", "plain"])
def test_gemm_weights_move_right_and_lines_down(cols: int, halo: int, pipeline: bool, stos: bool) -> None:
    """Column j multiplies the weight of j cycles ago; every column clears for itself."""
    rng = random.Random(halo)
    halo = halo if stos else 0
    dut = Row(cols, halo, stos=stos, pipeline_mac=pipeline)
    depth, delay = 5, 1 + mac_latency(pipeline)
    weights, columns = pixels(rng, depth), [pixels(rng, depth) for _ in range(cols)]
    results: list[int] = []

    async def bench(ctx) -> None:
        fed = [0] * (halo + cols)
        if stos:
            ctx.set(dut.v_en, 1)
            ctx.set(dut.halo_en, (1 << halo) - 1)
            ctx.set(dut.w_row_n, NO_TAP)
        ctx.set(dut.used, 1)
        for cycle in range(depth + cols + delay):
            assert [ctx.get(dut.v[lane]) for lane in range(halo + cols)] == fed
            fed = pixels(rng, halo + cols)
            for column in range(cols):
                if 0 <= cycle - column < depth:
                    fed[halo + column] = columns[column][cycle - column]
            ctx.set(dut.v_in, fed)
            ctx.set(dut.h_in, weights[cycle] if cycle < depth else 0)
            clear = 0
            for column in range(cols):  # starts the tile, and ends it
                clear |= (cycle in (column + delay - 1, column + delay - 1 + depth)) << column
            ctx.set(dut.clear, clear)
            await ctx.tick()
        results.extend(ctx.get(dut.d[column]) for column in range(cols))

    simulate(dut, bench)
    assert results == [sum(w * a for w, a in zip(weights, column, strict=True)) for column in columns]


def test_results_pass_unless_held_and_each_column_goes_alone() -> None:
    cols = 3
    rng = random.Random(0)
    dut = Row(cols, 1, stos=True, pipeline_mac=False)

    async def bench(ctx) -> None:
        held, current = [False] * cols, [0] * cols
        for cycle in range(300):
            above = [rng.randint(-(1 << 31), (1 << 31) - 1) for _ in range(cols)]
            clear, go, used = rng.getrandbits(cols) & rng.getrandbits(cols), rng.getrandbits(cols), rng.getrandbits(1)
            for port, value in ((dut.d_in, above), (dut.clear, clear), (dut.go, go), (dut.used, used)):
                ctx.set(port, value)
            for column in range(cols):
                if clear >> column & used:
                    held[column], current[column] = True, 0  # nothing was multiplied
                elif not held[column] or go >> column & 1:
                    held[column], current[column] = False, above[column]
            await ctx.tick()
            assert [ctx.get(dut.d[column]) for column in range(cols)] == current, cycle

    simulate(dut, bench)


def test_halo_needs_stos() -> None:
    with pytest.raises(ValueError, match="halo=2"):
        Row(2, 2, stos=False, pipeline_mac=False)
