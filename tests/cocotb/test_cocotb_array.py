"""PE, row and array as emitted Verilog against PyTorch, bit for bit, with their latencies and tile rates."""

from __future__ import annotations

import numpy as np
import pytest

from hw.array import Array
from hw.pe import PE, mac_latency
from hw.row import Row
from hw.spec.config import AcceleratorConfig
from sim.cocotb.runner import BenchFailure, run_bench
from tests.cocotb.torch_reference import conv2d, fuse_conv, matmul

SMALL = {"act_kib": 16, "act_banks": 2, "weight_kib": 4, "param_entries": 256, "axi_data_width": 64}
CONFIGS = {
    "tiny": AcceleratorConfig(rows=4, cols=4, **SMALL),
    "6x10": AcceleratorConfig(rows=6, cols=10, max_kernel=5, **SMALL),
    "plain": AcceleratorConfig(rows=4, cols=5, stos=False, **SMALL),
    "pipelined": AcceleratorConfig(rows=5, cols=4, pipeline_mac=True, **SMALL),
}


def int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape)


def extremes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Mostly the ends of the range, where products and sums are largest."""
    return rng.choice([-128, -127, 127, 0, -1], shape)


@pytest.mark.parametrize("pipeline_mac", [False, True], ids=["", "pipelined"])
@pytest.mark.parametrize(("stos", "mode"), [(True, "gemm"), (True, "stos"), (False, "gemm")])
def test_pe(stos: bool, mode: str, pipeline_mac: bool) -> None:
    rng = np.random.default_rng(1)
    for length, draw in ((1, int8), (7, int8), (16, extremes)):
        a, b = draw(rng, 20, length), draw(rng, 20, length)
        run_bench(
            lambda: PE(stos=stos, pipeline_mac=pipeline_mac),
            "sim.cocotb.bench_pe",
            parameters={"stos": stos, "mode": mode, "mac_latency": mac_latency(pipeline_mac)},
            arrays={"a": a, "b": b, "expected": matmul(a[:, None, :], b[:, :, None])[:, 0, 0]},
        )


def test_bench_sees_a_wrong_result() -> None:
    a = np.ones((3, 4), np.int64)
    with pytest.raises(BenchFailure, match=r"got \[4, 4, 4\], expected \[4, 5, 4\]"):
        run_bench(
            lambda: PE(stos=True, pipeline_mac=False),
            "sim.cocotb.bench_pe",
            parameters={"stos": True, "mode": "gemm", "mac_latency": 1},
            arrays={"a": a, "b": a, "expected": [4, 5, 4]},
        )


@pytest.mark.parametrize(("cols", "halo", "pipeline_mac"), [(4, 6, False), (10, 4, False), (5, 2, True)])
def test_row(cols: int, halo: int, pipeline_mac: bool) -> None:
    rng = np.random.default_rng(2)
    taps = halo + 1
    lines, filters = int8(rng, 8, cols + halo), int8(rng, 8, taps)
    filters[3, :2] = 0  # a shorter kernel
    # Taps come in reverse, and register 0 of the window stands for offset -halo: a valid convolution.
    conv = conv2d(lines[:, None, :], filters[:, None, None, :], groups=8)[:, 0, :]
    w, a = int8(rng, 13), int8(rng, 13, cols)
    run_bench(
        lambda: Row(cols, halo, stos=True, pipeline_mac=pipeline_mac),
        "sim.cocotb.bench_row",
        parameters={"cols": cols, "halo": halo, "mac_latency": mac_latency(pipeline_mac)},
        arrays={
            "lines": lines,
            "taps": filters[:, ::-1],
            "conv": conv,
            "w": w,
            "a": a,
            "product": matmul(w[None], a)[0],
        },
    )


def run_array(config: AcceleratorConfig, mode: str, interval: int, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    array = Array(config)
    parameters = {
        "rows": config.rows,
        "cols": config.cols,
        "halo": config.halo,
        "mode": mode,
        "has_stos": config.stos,
        "interval": interval,
    }
    got = run_bench(lambda: array, "sim.cocotb.bench_array", parameters=parameters, arrays=arrays)
    return {**got, "latency": array.LATENCY_GEMM if mode == "gemm" else array.LATENCY_STOS}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("depth", [1, 3, 17])
def test_array_gemm(name: str, depth: int) -> None:
    config = CONFIGS[name]
    rng = np.random.default_rng(depth)
    tiles, rows = 5, config.rows
    interval = max(depth, rows)  # the rate the architecture promises
    w, a = int8(rng, tiles, rows, depth), int8(rng, tiles, depth, config.cols)
    got = run_array(config, "gemm", interval, w=w, a=a, tile_rows=np.full(tiles, rows))
    expected = matmul(w, a)[:, ::-1].reshape(-1, config.cols)  # row R-1 drains first
    assert np.array_equal(got["out"], expected)
    first = got["cycles"].reshape(tiles, rows)
    assert (first[:, 0] - got["last"] == got["latency"]).all()
    assert np.array_equal(first - first[:, :1], np.tile(np.arange(rows), (tiles, 1)))


@pytest.mark.parametrize("used", [1, 3])
def test_array_gemm_with_few_rows(used: int) -> None:
    config = CONFIGS["6x10"]
    rng = np.random.default_rng(used)
    tiles, depth = 6, 3
    w, a = int8(rng, tiles, config.rows, depth), int8(rng, tiles, depth, config.cols)
    got = run_array(config, "gemm", max(depth, used), w=w, a=a, tile_rows=np.full(tiles, used))
    assert np.array_equal(got["out"], matmul(w, a)[:, :used][:, ::-1].reshape(-1, config.cols))


@pytest.mark.parametrize("name", [name for name, config in CONFIGS.items() if config.stos])
def test_array_stos_rows_are_fuse_conv_row_filters(name: str) -> None:
    config = CONFIGS[name]
    rng = np.random.default_rng(3)
    taps = min(config.max_kernel, 5)
    rows, cols, halo, pad = config.rows, config.cols, config.halo, taps // 2
    tiles = 3
    x = int8(rng, rows, 1, tiles * cols)
    filters = int8(rng, rows, taps)
    unused = np.zeros_like(filters)
    expected = fuse_conv(x, filters, unused, variant="full")[:rows, 0]
    # Window register p of a tile at x0 holds the pixel x0 + p - halo + (taps - 1 - pad).
    padded = np.pad(x[:, 0], ((0, 0), (halo + pad, halo + pad)))
    start = np.arange(tiles) * cols + halo + pad - halo + (taps - 1 - pad)
    lines = np.stack([padded[:, at : at + cols + halo] for at in start])
    w = np.repeat(filters[None, :, ::-1], tiles, 0)
    got = run_array(config, "stos", max(rows, taps + 1), w=w, lines=lines, tile_rows=np.full(tiles, rows))
    tiled = expected.reshape(rows, tiles, cols).transpose(1, 0, 2)
    assert np.array_equal(got["out"], tiled[:, ::-1].reshape(-1, cols))
    last_row = got["cycles"].reshape(tiles, rows)[:, -1]
    assert (last_row - got["last"] == got["latency"]).all()
