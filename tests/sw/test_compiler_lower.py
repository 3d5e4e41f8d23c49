"""Legalisation: kinds, modes, packing of constants, and refusals that name the layer and the way out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Mode
from hw.spec.program import PARAM_DTYPE
from sw.compiler import CompileError, compile_graph, optimise
from sw.compiler.constants import pack_params, pack_weights
from sw.compiler.cost import Extent, exec_cycles, pick_mode
from sw.compiler.lower import lower
from tests.sw.ir_graphs import Builder, block_net

EDGE8 = PRESETS["edge8"]


def test_kinds_and_modes_of_a_network() -> None:
    _, graph = block_net(0)
    kernels, _ = lower(optimise(graph, EDGE8), EDGE8)
    kinds = [kernel.kind for kernel in kernels]
    assert kinds.count("fuse_row") == kinds.count("fuse_col") == 2
    assert {"conv", "pointwise", "depthwise", "linear"} <= set(kinds)
    for kernel in kernels:
        separable = kernel.kind in ("fuse_row", "fuse_col", "depthwise")
        assert (kernel.mode in (Mode.STOS_CH, Mode.STOS_LN)) == separable and not kernel.depthwise
    assert any(kernel.pool is not None for kernel in kernels)
    assert any(kernel.residual is not None for kernel in kernels)


def test_without_stos_depthwise_layers_are_gemm() -> None:
    _, graph = block_net(0)
    config = EDGE8.twin(stos=False)
    for kernel in lower(optimise(graph, config), config)[0]:
        assert kernel.mode == Mode.GEMM
        assert kernel.depthwise == (kernel.kind in ("fuse_row", "fuse_col", "depthwise"))


def test_macs_are_those_of_the_definition() -> None:
    build = Builder(0)
    x = build.conv(build.input((3, 9, 11)), 8, (3, 3), (2, 1))
    x = build.conv(x, 0, (1, 5), depthwise=True)
    kernels, _ = lower(build.graph(build.linear(build.reshape(x, (8 * 5 * 11, 1, 1)), 10)), EDGE8)
    assert [kernel.macs for kernel in kernels] == [8 * 5 * 11 * 27, 8 * 5 * 11 * 5, 4400]


def test_a_row_filter_runs_by_channels_and_a_column_filter_by_lines() -> None:
    row = Extent(64, 64, 28, 28, 1, 5, 1, 1)
    column = dataclasses.replace(row, kh=5, kw=1)
    assert pick_mode(EDGE8, row) == (Mode.STOS_CH, False)
    assert pick_mode(EDGE8, column) == (Mode.STOS_LN, False)
    # few lines leave the rows of a line tile idle while its taps run
    native = dataclasses.replace(row, kh=5)
    assert pick_mode(EDGE8, native) == (Mode.STOS_LN, False)
    assert pick_mode(EDGE8, dataclasses.replace(native, out_h=1)) == (Mode.STOS_CH, False)
    assert pick_mode(EDGE8.twin(stos=False), row) == (Mode.GEMM, True)


def test_tile_costs_are_those_of_the_architecture() -> None:
    def tile(mode: Mode, extent: Extent) -> int:
        more = dataclasses.replace(extent, out_w=extent.out_w + 8)
        return exec_cycles(EDGE8, mode, False, more) - exec_cycles(EDGE8, mode, False, extent)

    assert tile(Mode.GEMM, Extent(20, 8, 1, 8, 1, 1, 1, 1)) == 20
    assert tile(Mode.GEMM, Extent(3, 8, 1, 8, 1, 1, 1, 1)) == 8
    assert tile(Mode.STOS_CH, Extent(8, 8, 1, 8, 1, 3, 1, 1)) == 8
    assert tile(Mode.STOS_CH, Extent(8, 8, 1, 8, 5, 1, 1, 1)) == 40
    assert tile(Mode.STOS_LN, Extent(1, 1, 8, 8, 5, 1, 1, 1)) == 12
    assert tile(Mode.STOS_LN, Extent(1, 1, 8, 8, 3, 3, 1, 1)) == 8 + 6


@pytest.mark.parametrize("rows", [4, 5])
def test_weight_words_follow_the_isa(rows: int) -> None:
    """Read the words back with the formulas of the EXEC section."""
    config = AcceleratorConfig(rows=rows, cols=4, act_kib=16, act_banks=2, weight_kib=8, axi_data_width=64)
    build = Builder(1)
    x = build.conv(build.input((3, 6, 6)), 7, (2, 3), padding=(0, 1, 0, 1))
    graph = build.graph(build.conv(x, 0, (3, 2), depthwise=True))
    dense, depthwise = lower(graph, config)[0]
    lanes = config.weight_word_bytes
    for kernel in (dense, depthwise):
        weights = kernel.weights
        assert weights is not None
        start, stop = 1, 7
        words = np.frombuffer(pack_weights(kernel, start, stop, config), np.int8).reshape(-1, lanes)
        assert len(words) == kernel.words(stop - start, rows)
        cout, cin, kh, kw = weights.shape
        for c in range(stop - start):
            block, i = divmod(c, rows)
            n = min(rows, stop - start - block * rows)
            for ci in range(cin):
                for ky in range(kh):
                    for kx in range(kw):
                        if kernel is dense:
                            word = ((block * cin + ci) * kh + ky) * kw + kx
                        else:
                            word = (block * kh + ky) * kw + (kw - 1 - kx)
                        assert words[word, n - 1 - i] == weights[start + c, ci, ky, kx]


def test_param_entries_hold_the_output_stage() -> None:
    build = Builder(2)
    kernel = lower(build.graph(build.conv(build.input((3, 6, 6)), 7)), EDGE8)[0][0]
    entries = np.frombuffer(pack_params(kernel, 2, 6), PARAM_DTYPE)
    for field in ("bias", "mult", "shift"):
        assert np.array_equal(entries[field], getattr(kernel.stage, field)[2:6])


@pytest.mark.parametrize(
    ("kernel", "stride", "message"),
    [
        ((9, 1), (1, 1), "kernel 9x1 is larger than max_kernel=7"),
        ((3, 3), (1, 3), "stride 3 along x"),
        ((3, 3), (5, 1), "stride 5 along y"),
    ],
)
def test_geometry_beyond_the_array_is_refused(kernel: tuple, stride: tuple, message: str) -> None:
    build = Builder(3)
    x = build.conv(build.input((4, 20, 20)), 4)
    graph = build.graph(build.conv(x, 4, kernel, stride))
    with pytest.raises(CompileError, match=f"layer layer1: {message}"):
        compile_graph(graph, EDGE8)


def test_padding_beyond_its_field_is_refused() -> None:
    build = Builder(4)
    graph = build.graph(build.conv(build.input((4, 6, 6)), 8, (3, 3), padding=(40, 1, 1, 1)))
    with pytest.raises(CompileError, match="layer layer0: padding 40 along y exceeds 31"):
        compile_graph(graph, EDGE8)


def test_a_network_without_layers_is_refused() -> None:
    build = Builder(6)
    x = build.input((4, 6, 6))
    build.input((1, 1, 1), "unused")
    with pytest.raises(CompileError, match="input unused is used by no layer"):
        compile_graph(build.graph(build.conv(x, 3)), EDGE8)
