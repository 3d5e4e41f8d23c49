"""Cycles of the execute unit: tiles in a steady state, latencies, and how closely instructions follow each other."""

from __future__ import annotations

import numpy as np
import pytest

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode, Target
from sim.iss.execute import execute
from sim.iss.operands import operands
from tests.hw.exec_bench import COLUMNS, CONFIGS, FULL, GAP, PACKED, ExecBench, fields, loaded_bench, small


@pytest.mark.parametrize("change", [{"cin": 3}, COLUMNS, {"mode": Mode.STOS_CH, "kw": 3}, {"mode": Mode.VEC}, GAP])
def test_segments_cost_no_cycle(change: dict[str, int]) -> None:
    plain = {"seg": 0, "seg_gap": 0, "seg_missing": 0, "fold": 0}
    instructions = [fields(**{**PACKED, **change, **without}) for without in (plain, {})]
    first, second = ExecBench(CONFIGS["2x9"]).run(instructions)
    assert first == second


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
