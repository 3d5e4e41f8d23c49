"""Cycles per tile in the steady state, measured on generated Verilog, against the formulas of the architecture.

The cost of a tile is the difference between two programs' EXEC times divided by the difference of their tile counts.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Activation, Mode, Queue, ResidualOp
from sim.program_builder import ProgramBuilder
from sim.verilator.backend import VerilatorBackend
from sw.regions import build_regions

SMALL = {"act_kib": 32, "act_banks": 2, "weight_kib": 8, "param_entries": 256, "axi_data_width": 64}
CONFIGS = {
    "tiny": PRESETS["tiny"],
    "6x10": AcceleratorConfig(rows=6, cols=10, max_kernel=5, reset_low=True, **SMALL),
}
FEW, MANY = 4, 12

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=CONFIGS)
def backend(request: pytest.FixtureRequest) -> Iterator[VerilatorBackend]:
    with VerilatorBackend(CONFIGS[request.param]) as instance:
        yield instance


def exec_cycles(backend: VerilatorBackend, **fields: int) -> int:
    """Run a program of one EXEC and return that instruction's time from start to done."""
    builder = ProgramBuilder(backend.config)
    pc = builder.exec(q_lo=-128, q_hi=127, **{"sx": 1, "sy": 1, **fields})
    program = builder.finish()
    result = backend.run_regions(program, build_regions(program, {}))
    (event,) = (event for event in result.trace if event.queue == Queue.EXEC and event.pc == pc)
    return event.done - event.start


def layer(
    config: AcceleratorConfig, cin: int, cout: int, lines: int, width: int, kh: int = 1, kw: int = 1
) -> dict[str, int]:
    """Return the fields of a same-size layer whose output lies in the upper half of the scratchpad."""
    half = config.act_bytes // 2
    assert max(cin, cout) * lines * width <= half, "the test's layer does not fit"
    return {
        "in_cs": lines * width,
        "in_pitch": width,
        "in_w": width,
        "in_h": lines,
        "out_base": half,
        "out_cs": lines * width,
        "out_pitch": width,
        "out_w": width,
        "out_h": lines,
        "cin": cin,
        "cout": cout,
        "kh": kh,
        "kw": kw,
        "pad_y": kh // 2,
        "pad_x": kw // 2,
    }


def per_tile(few: int, many: int) -> float:
    return (many - few) / (MANY - FEW)


@pytest.mark.parametrize("depth", ["1", "R-1", "R", "R+1", "3R"])
def test_gemm_tile_costs_max_k_r(backend: VerilatorBackend, depth: str) -> None:
    config = backend.config
    rows, cols = config.rows, config.cols
    k = {"1": 1, "R-1": rows - 1, "R": rows, "R+1": rows + 1, "3R": 3 * rows}[depth]
    cost = [exec_cycles(backend, mode=Mode.GEMM, **layer(config, k, rows, 1, tiles * cols)) for tiles in (FEW, MANY)]
    assert per_tile(*cost) == max(k, rows)


def strided(fields: dict[str, int], stride: int) -> dict[str, int]:
    """Return the fields with a stride along x, on lines that are longer by it."""
    width = stride * fields["in_w"]
    return fields | {"sx": stride, "in_w": width, "in_pitch": width, "in_cs": width * fields["in_h"]}


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("kernel", [1, 3])
def test_gemm_tile_at_stride_2_has_all_columns(backend: VerilatorBackend, depth: int, kernel: int) -> None:
    """As many tiles of `cols` outputs, at the same cost, as at stride 1."""
    config = backend.config
    cost = [
        exec_cycles(
            backend,
            mode=Mode.GEMM,
            **strided(layer(config, depth, config.rows, 1, tiles * config.cols, kernel, kernel), 2),
        )
        for tiles in (FEW, MANY)
    ]
    assert per_tile(*cost) == max(depth * kernel**2, config.rows)


@pytest.mark.parametrize("taps", [1, 3, 5])
def test_row_convolution_tile_costs_at_most_max_r_k_plus_1(backend: VerilatorBackend, taps: int) -> None:
    config = backend.config
    rows, cols = config.rows, config.cols
    cost = [
        exec_cycles(backend, mode=Mode.STOS_CH, **layer(config, rows, rows, 1, tiles * cols, kw=taps))
        for tiles in (FEW, MANY)
    ]
    assert max(rows, taps) <= per_tile(*cost) <= max(rows, taps + 1)


@pytest.mark.parametrize("taps", [3, 5])
def test_streamed_column_convolution_tile_costs_r_plus_k_minus_1(backend: VerilatorBackend, taps: int) -> None:
    config = backend.config
    rows, cols = config.rows, config.cols
    cost = [
        exec_cycles(backend, mode=Mode.STOS_LN, **layer(config, tiles, tiles, rows, cols, kh=taps))
        for tiles in (FEW, MANY)
    ]
    assert per_tile(*cost) == rows + taps - 1


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("taps", [3, 5])
def test_column_convolution_at_stride_2_has_all_columns(backend: VerilatorBackend, taps: int, stride: int) -> None:
    """Along x; along y there is a phase for the taps of each parity, the first line of which costs n cycles."""
    config = backend.config
    rows, cols = config.rows, config.cols

    def cost(channels: int) -> int:
        fields = strided(layer(config, channels, channels, rows, cols, kh=taps), 2)
        lines = {"sy": stride, "in_h": stride * rows, "in_cs": stride * fields["in_cs"]}
        return exec_cycles(backend, mode=Mode.STOS_LN, **fields | lines)

    assert per_tile(cost(FEW), cost(MANY)) == (rows - 1) * stride + taps


@pytest.mark.parametrize("taps", [2, 3])
def test_windows_at_stride_2_keep_every_second_column(backend: VerilatorBackend, taps: int) -> None:
    config = backend.config
    kept = config.cols // 2
    cost = [
        exec_cycles(
            backend, mode=Mode.STOS_CH, **strided(layer(config, config.rows, config.rows, 1, tiles * kept, kw=taps), 2)
        )
        for tiles in (FEW, MANY)
    ]
    assert per_tile(*cost) == max(config.rows, taps)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kh", "kw"), [(1, 1), (3, 3), (2, 5)])
def test_windowed_maximum_costs_a_cycle_per_tap(backend: VerilatorBackend, kh: int, kw: int, stride: int) -> None:
    config = backend.config
    cost = [
        exec_cycles(
            backend, mode=Mode.MAX, **strided(layer(config, 1, 1, 1, tiles * config.cols, kh=kh, kw=kw), stride)
        )
        for tiles in (FEW, MANY)
    ]
    assert per_tile(*cost) == kh * kw


@pytest.mark.parametrize("mode", [Mode.VEC, Mode.GEMM])
def test_products_behind_the_array_cost_nothing(backend: VerilatorBackend, mode: Mode) -> None:
    config = backend.config
    # Its bytes lie in a bank that the input does not use: there they would take turns.
    gate = {"res": ResidualOp.SCALE, "res_base": config.act_bytes - config.rows}
    fields = layer(config, config.rows, config.rows, 2, 3 * config.cols) | {"mode": mode}
    plain = exec_cycles(backend, **fields)
    assert exec_cycles(backend, **fields, act=Activation.HSWISH, act_offset=3, act_limit=6) == plain
    assert exec_cycles(backend, **fields, **gate) == plain


def period(backend: VerilatorBackend, count: int = 10, **fields: int) -> float:
    """Return the cycles from one EXEC's end to the next one's, the mean of equal ones in a row."""
    builder = ProgramBuilder(backend.config)
    for _ in range(count):
        builder.exec(q_lo=-128, q_hi=127, sx=1, sy=1, **fields)
    program = builder.finish()
    trace = backend.run_regions(program, build_regions(program, {})).trace
    ends = [event.done for event in trace if event.queue == Queue.EXEC]
    return (ends[-1] - ends[1]) / (count - 2)


@pytest.mark.parametrize("depth", ["1", "R", "3R"])
def test_overlapping_gemms_cost_their_tiles_and_five_cycles(backend: VerilatorBackend, depth: str) -> None:
    config = backend.config
    k = {"1": 1, "R": config.rows, "3R": 3 * config.rows}[depth]
    fields = layer(config, k, config.rows, 1, MANY * config.cols) | {"mode": Mode.GEMM}
    cost = period(backend, overlap=1, **fields)
    # Of the five, those are hidden in which a tile with few steps would wait for the drain anyway.
    assert cost == MANY * max(k, config.rows) + max(2, 5 - max(0, config.rows - k))
    # Without overlap the array drains in between.
    assert period(backend, **fields) >= cost + config.rows + config.cols


def test_overlapping_gemms_of_one_tile(backend: VerilatorBackend) -> None:
    """Only two are under way: what is shorter than half the way through the array waits for it."""
    config = backend.config
    rows, cols = config.rows, config.cols
    long = 4 * (rows + cols)
    costs = {k: period(backend, overlap=1, mode=Mode.GEMM, **layer(config, k, rows, 1, cols)) for k in (rows, long)}
    assert costs[long] == long + 5
    assert rows + 5 <= costs[rows] <= rows + cols + 16


@pytest.mark.parametrize("taps", [1, 3, 5])
def test_overlapping_row_convolutions_cost_their_tiles_and_seven_plus_k_cycles(
    backend: VerilatorBackend, taps: int
) -> None:
    config = backend.config
    fields = layer(config, config.rows, config.rows, 1, MANY * config.cols, kw=taps) | {"mode": Mode.STOS_CH}
    cost = period(backend, overlap=1, **fields)
    assert cost <= MANY * max(config.rows, taps) + 7 + taps
    assert period(backend, **fields) > cost


def test_overlapping_maxima_cost_their_taps_and_five_cycles(backend: VerilatorBackend) -> None:
    config = backend.config
    fields = layer(config, 1, 1, 1, MANY * config.cols, kh=3, kw=3) | {"mode": Mode.MAX}
    assert period(backend, overlap=1, **fields) == MANY * 9 + 5
