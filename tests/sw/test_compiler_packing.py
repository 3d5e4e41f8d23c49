"""Packed layouts: which tensors get one, what the kernels become, and that the bytes stay the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Instruction, Mode, Opcode, Region
from hw.spec.packing import Packing
from hw.spec.program import Program
from sim.iss import IssBackend
from sw.compile_report import layout, layout_text, summary, summary_text
from sw.compiler import compile_graph, optimise
from sw.compiler.ir import Graph
from sw.compiler.lower import lower
from sw.compiler.packing import Packed, pack
from sw.regions import read_tensor
from tests.sw.compiled import check
from tests.sw.ir_graphs import Builder
from tests.sw.ir_reference import run_integer
from tests.sw.packed_networks import block, packed_network, random_layouts
from tests.sw.random_networks import compile_in_smallest

_SMALL = {"act_kib": 64, "act_banks": 2, "weight_kib": 16, "param_entries": 256, "axi_data_width": 64}

CONFIGS = {
    "4x24": AcceleratorConfig(rows=4, cols=24, **_SMALL),
    "6x20": AcceleratorConfig(rows=6, cols=20, **_SMALL),
    "3x40": AcceleratorConfig(rows=3, cols=40, **_SMALL),
    "4x24-plain": AcceleratorConfig(rows=4, cols=24, stos=False, **_SMALL),
}
WIDE = CONFIGS["4x24"]
LARGE = AcceleratorConfig(rows=32, cols=32, **_SMALL)


def packed(graph: Graph, config: AcceleratorConfig) -> Packed:
    graph = optimise(graph, config)
    return pack(graph, *lower(graph, config), config)


def seven(build: Builder, *, kernels: tuple[int, ...] = (3, 3), size: tuple[int, int] = (7, 7), **options) -> Graph:
    """Blocks between a plain input and a classifier behind a pool."""
    x = build.input((6, *size))
    for kernel in kernels:
        x = block(build, x, kernel, **options)
    x = build.conv(x, 17, clamp=(-10, 127))
    return build.graph(build.linear(build.pool(x), 9))


def execs(program: Program) -> list[Instruction]:
    return [i for i in program.instructions() if i.opcode == Opcode.EXEC]


# --- what is packed --------------------------------------------------------------------------------------------------


def test_a_region_is_packed_from_its_first_expansion_to_the_pool() -> None:
    build = Builder(0)
    graph = seven(build)
    result = packed(graph, WIDE)
    (layout,) = set(result.packings.values())
    assert layout == Packing(7, 7, 8, 3)
    assert [kernel.kind for kernel in result.kernels if kernel.relayout] == ["relayout"]
    # the input is packed once, for the first expansion and for the residual
    first, expansion = result.kernels[:2]
    assert first.source.storage == "x" and first.target.storage == "x.packed" == expansion.source.storage
    assert [k.residual.storage for k in result.kernels if k.residual is not None][0] == "x.packed"
    assert all(k.packing == layout for k in result.kernels if k.kind not in ("linear",))
    modes = {k.kind: (k.mode, k.fold) for k in result.kernels}
    assert modes["fuse_col"] == (Mode.STOS_LN, True) and not modes["fuse_row"][1]
    for name, one in result.packings.items():
        assert result.graph[name].shape[1:] == (one.lines, one.width) and result.views[name].plane == one.plane


def test_slices_and_parts_keep_their_channels() -> None:
    build = Builder(0)
    result = packed(seven(build), WIDE)
    plane = Packing(7, 7, 8, 3).plane
    columns = next(k for k in result.kernels if k.kind == "fuse_col")
    assert columns.source.offset == 12 * plane and columns.target.offset == 12 * plane
    assert columns.source.shape == (12, 3, 23)


def test_fields_of_the_packed_instructions() -> None:
    build = Builder(0)
    program = compile_graph(seven(build), WIDE)
    by_kind = {layer.kind: program.instructions()[layer.instructions[-1]] for layer in program.layers}
    column, row, copy = by_kind["fuse_col"], by_kind["fuse_row"], by_kind["relayout"]
    for packed_exec in (column, row):
        fields = [packed_exec[name] for name in ("seg", "seg_gap", "seg_missing", "out_w", "out_h", "in_w", "in_h")]
        assert fields == [8, 1, 2, 23, 3, 23, 3]
    assert (column["fold"], row["fold"]) == (1, 0)
    assert copy["seg"] == 0 and copy["out_w"] == 7 and copy["out_pitch"] == 23 and copy["in_pitch"] == 7
    assert {layer.output_shape for layer in program.layers if layer.kind == "fuse_row"} == {(12, 7, 7)}


def test_nothing_is_packed_without_gain_or_room() -> None:
    build = Builder(0)
    assert not packed(seven(build), PRESETS["tiny"]).packings  # 4 columns
    # one pointwise layer between input and output has nothing to gain
    build = Builder(0)
    assert not packed(build.graph(build.conv(build.input((6, 7, 7)), 20)), WIDE).packings


def test_outputs_and_what_strided_layers_make_are_plain() -> None:
    build = Builder(0)
    x = block(build, block(build, build.input((6, 7, 7)), 3, hidden=64), 3, hidden=64)
    wide = build.conv(x, 24)
    made = build.conv(wide, 0, (3, 3), (2, 2), depthwise=True)
    graph = build.graph(build.conv(made, 12), y := build.conv(x, 5))
    result = packed(graph, LARGE)
    assert {x, wide} <= set(result.packings) and not {made, y} & set(result.packings)
    # the strided layer and the output read packed maps as they are
    assert [k.name for k in result.kernels if k.relayout] == ["x.packed"]
    check(graph, LARGE, build.values())


@pytest.mark.parametrize(
    ("kernel", "cols", "want"), [(3, 40, (8, 4)), (3, 64, (8, 7)), (5, 16, (9, 2)), (5, 64, (9, 7)), (7, 40, (10, 4))]
)
def test_gaps_and_segments_are_as_large_as_filters_reach(kernel: int, cols: int, want: tuple[int, int]) -> None:
    build = Builder(0)
    x = block(build, block(build, build.input((6, 7, 7)), kernel, hidden=64), kernel, hidden=64)
    (layout,) = set(packed(build.graph(build.pool(x)), LARGE.twin(cols=cols)).packings.values())
    assert (layout.pitch, layout.segments) == want and 2 * layout.lines >= kernel // 2


@pytest.mark.parametrize(("size", "mode"), [((7, 7), Mode.STOS_CH), ((14, 14), Mode.STOS_LN)])
def test_square_filters_over_few_packed_lines_take_channels_as_rows(size: tuple[int, int], mode: Mode) -> None:
    """Two lines would wait for the nine taps of one channel; of 32 channels they take 3 x 32 cycles each."""
    build = Builder(0)
    x = build.conv(build.input((6, *size)), 64)
    x = build.conv(x, 0, (3, 3), depthwise=True)
    program = check(build.graph(build.pool(build.conv(x, 40))), LARGE, build.values())
    (square,) = (i for i in execs(program) if i["kh"] == i["kw"] == 3)
    assert (square["mode"], square["fold"], square["out_h"]) == (mode, 1, 2 if size == (7, 7) else 7)


def test_packing_is_an_option() -> None:
    build = Builder(0)
    graph = seven(build)
    with_it, without = compile_graph(graph, WIDE, dump_tensors=True), compile_graph(graph, WIDE, packing=False)
    assert any(i["seg"] for i in execs(with_it)) and any(spec.packing for spec in with_it.tensors)
    assert not any(i["seg"] for i in execs(without)) and not any(spec.packing for spec in without.tensors)
    assert "relayout" not in {layer.kind for layer in without.layers}


def test_reports_show_the_layout() -> None:
    build = Builder(0)
    program = compile_graph(seven(build, hidden=64), LARGE, dump_tensors=True)
    layers = {layer["kind"]: layer for layer in summary(program)["layers"]}
    assert layers["fuse_row"]["segments"] == layers["fuse_col"]["segments"] == 4
    assert layers["linear"]["segments"] == layers["relayout"]["segments"] == 1
    assert layers["fuse_row"]["output_shape"] == [32, 7, 7]
    assert "STOS_LN, 4 segments" in summary_text(summary(program))
    entries = {entry["name"]: entry for entry in layout(program)}
    assert entries["layer0"]["packing"] == "7x7 in 2 lines of 4 segments of 8"
    assert (entries["layer0"]["plane_stride"], entries["layer0"]["bytes"]) == (62, 64 * 62)
    assert "packing" not in entries["x"] and "4 segments of 8" in layout_text(layout(program))


def test_where_packed_planes_do_not_fit_the_plain_ones_are_taken() -> None:
    build = Builder(0)
    graph = seven(build)
    for size in (1, 2, 4, 8):
        program = compile_graph(graph, WIDE.twin(act_kib=size, act_banks=1))
        assert any(i["seg"] for i in execs(program)) == (size >= 4)
        want = run_integer(optimise(graph, program.config), program.config, inputs := build.values())
        got = IssBackend(program.config).run(program, inputs).outputs
        assert all(np.array_equal(got[name], want[name]) for name in got)


# --- the same bytes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", [False, True])
def test_blocks_are_bit_for_bit_the_reference(gate: bool) -> None:
    """With and without dumps, on an array that gains much."""
    build = Builder(1)
    program = check(seven(build, hidden=64, gate=gate), LARGE, build.values())
    assert sum(bool(i["seg"]) for i in execs(program)) > 6


@pytest.fixture
def any_layout() -> Iterator[None]:
    """Layouts drawn at random instead of chosen by cost."""
    with random_layouts(7):
        yield


@pytest.mark.usefixtures("any_layout")
@pytest.mark.parametrize("name", CONFIGS)
def test_random_networks_in_random_layouts(name: str) -> None:
    """Every mixture of layouts computes the same: relayouts between any two, shared, of parts, strips, through DRAM."""
    seen: Counter[str] = Counter()
    for seed in range(20):
        build, graph = packed_network(seed)
        program = compile_in_smallest(graph, CONFIGS[name].twin(act_kib=1 << seed % 3), dump_tensors=True)
        inputs = build.values()
        want = run_integer(optimise(graph, program.config), program.config, inputs)
        result = IssBackend(program.config).run(program, inputs)
        for spec in program.tensors:
            np.testing.assert_array_equal(read_tensor(result.regions, spec), want[spec.name], err_msg=spec.name)
        stream = program.instructions()
        for layer in program.layers:
            mine = [stream[pc] for pc in layer.instructions]
            _, height, width = layer.output_shape
            # an open plane is a plain one to its EXEC, but larger than the image
            packed_execs = [i for i in mine if i["seg"] or i["out_cs"] > height * width]
            seen[layer.kind] += bool(packed_execs) or layer.kind == "relayout"
            seen["missing"] += any(i["seg_missing"] for i in packed_execs)
            seen["strips"] += len({(i["out_h"], i["seg_missing"]) for i in packed_execs}) > 1
            seen["pooled"] += any(i["gap"] for i in packed_execs)
            copies_through_dram = layer.kind == "relayout" and any(i["region"] == Region.WORK for i in mine)
            seen["copies through DRAM"] += copies_through_dram
            runs = [i for i in mine if i.opcode == Opcode.EXEC and layer.kind != "relayout"]
            seen["spread"] += any(i["in_pitch"] != i["in_w"] or i["out_pitch"] != i["out_w"] for i in runs)
    assert all(seen[kind] for kind in ("relayout", "pointwise", "fuse_row", "scale", "missing", "pooled")), seen
    assert name == "4x24-plain" or seen["fuse_col"] and seen["depthwise"] and seen["avg_pool"], seen
    assert seen["strips"] and seen["copies through DRAM"] and seen["spread"], seen


@pytest.mark.usefixtures("any_layout")
def test_from_one_packing_to_another_a_tensor_is_copied_at_once() -> None:
    direct = 0
    for _ in range(12):
        build = Builder(2)
        graph = seven(build, kernels=(3, 5, 3))
        copies = [k for k in packed(graph, CONFIGS["3x40"]).kernels if k.relayout]
        assert not {k.source.storage for k in copies} & {k.target.storage for k in copies}
        direct += sum(k.packing is not None and k.source_packing is not None for k in copies)
    assert direct > 3


def test_networks_are_the_same_with_and_without() -> None:
    gates = Builder(0)
    for build, graph in ((gates, seven(gates, hidden=64, gate=True)), packed_network(1), packed_network(3)):
        inputs = build.values()
        programs = [compile_graph(graph, LARGE, packing=on) for on in (False, True)]
        assert [any(i["seg"] for i in execs(program)) for program in programs] == [False, True]
        plain, packed_ones = (IssBackend(LARGE).run(program, inputs).outputs for program in programs)
        for name in graph.outputs:
            np.testing.assert_array_equal(packed_ones[name], plain[name])
