"""Memory: allocators, residency, tiling, and networks that only fit in strips."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Opcode, Region, Target
from sw.compiler import CompileError, compile_graph, optimise
from sw.compiler.ir import Graph
from sw.compiler.lower import lower
from sw.compiler.memory import Arena, Fit, Ring
from sw.compiler.plan import Plan, plan
from sw.compiler.storage import Storage
from sw.compiler.tiling import Residency, input_lines, tilings
from tests.sw.ir_graphs import Builder


def _plan(graph: Graph, config: AcceleratorConfig, *, fusion: bool = True) -> Plan:
    graph = optimise(graph, config)
    kernels, views = lower(graph, config)
    return plan(graph, kernels, views, config, fusion=fusion)


def test_arena_never_hands_out_a_byte_twice() -> None:
    rng = np.random.default_rng(0)
    arena = Arena(4096, 1024, 16)
    taken: dict[int, int] = {}
    failures = 0
    for _ in range(400):
        if taken and rng.random() < 0.4:
            base = int(rng.choice(list(taken)))
            del taken[base]
            arena.free(base)
            continue
        size = int(rng.integers(1, 700))
        base = arena.allocate(size, [(0, 100)])
        if base is None:
            failures += 1
            continue
        assert base % 16 == 0 and base + size <= 4096
        assert all(base + size <= other or other + length <= base for other, length in taken.items())
        taken[base] = size
    assert failures > 10
    assert arena.free_bytes == 4096 - sum(-(-size // 16) * 16 for size in taken.values())


def test_arena_prefers_other_banks() -> None:
    arena = Arena(4096, 1024, 8)
    first = arena.allocate(600)
    assert first == 0
    second = arena.allocate(300, [(0, 600)])
    assert second is not None and second // 1024 == 1
    assert arena.allocate(300, [(0, 600), (second, second + 300)]) == 2048
    # where only shared banks are left, it still allocates
    arena.allocate(1748)
    assert arena.allocate(100, [(0, 4096)]) is not None
    assert arena.allocate(4000) is None


def test_arena_places_high_among_equal_banks() -> None:
    arena = Arena(4096, 1024, 8)
    assert arena.allocate(1000, fit=Fit.HIGH) == 3096
    assert arena.allocate(1000, [(3096, 4096)], fit=Fit.HIGH) == 2048
    assert arena.allocate(100, fit=Fit.HIGH) == 2048 - 104


def test_ring_wraps_and_stays_contiguous() -> None:
    ring = Ring(100, 4)
    assert [ring.allocate(size) for size in (30, 30, 30, 30, 100, 1)] == [0, 32, 64, 0, 0, 0]
    with pytest.raises(ValueError, match="from a ring of 100"):
        ring.allocate(101)


def test_a_network_that_fits_touches_dram_only_at_its_ends() -> None:
    build = Builder(0)
    x = build.conv(build.input((8, 10, 10)), 8)
    x = build.conv(x, 8, (3, 3))
    program = compile_graph(build.graph(build.conv(x, 8)), PRESETS["edge8"])
    stream = program.instructions()
    moved = [i for i in stream if i.opcode == Opcode.LOAD and i["target"] == Target.ACT]
    stores = [i for i in stream if i.opcode == Opcode.STORE]
    assert [i["region"] for i in moved] == [Region.INPUT] and [i["region"] for i in stores] == [Region.OUTPUT]
    assert program.region_sizes[Region.WORK] == 0


def _banks(storage: Storage, config: AcceleratorConfig) -> set[int]:
    return set(range(storage.base // config.act_bank_bytes, -(-(storage.base + storage.size) // config.act_bank_bytes)))


def test_input_and_residual_lie_in_different_banks() -> None:
    build = Builder(1)
    x = build.conv(build.input((8, 20, 20)), 8)
    y = build.conv(x, 24)
    y = build.conv(y, 8)
    config = PRESETS["edge8"]
    made = _plan(build.graph(build.add(x, y)), config)
    (kernel,) = (item.kernel for item in made.kernels if item.kernel.residual is not None)
    source, residual = (_banks(made.storages[view.storage], config) for view in (kernel.source, kernel.residual))
    assert source.isdisjoint(residual)


def test_a_shortcut_lies_apart_from_what_is_read_with_it_later() -> None:
    build = Builder(1)
    x = build.conv(build.input((8, 16, 16)), 24)
    y = build.conv(x, 72)
    y = build.fuse(y, 3)
    y = build.conv(y, 24)
    config = PRESETS["edge8"]
    made = _plan(build.graph(build.add(x, y)), config)
    last = made.kernels[-1].kernel
    assert last.residual is not None
    source, residual = (_banks(made.storages[view.storage], config) for view in (last.source, last.residual))
    assert source.isdisjoint(residual)


@pytest.mark.parametrize("highest", list(Fit))
def test_wide_blocks_that_nearly_fill_the_scratchpad_keep_all_on_chip(
    highest: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hidden maps of 43 % each beside a shortcut of 7 %: the next shortcut must not lie between the next two."""
    build = Builder(2)
    x = build.conv(build.input((16, 14, 14)), 48)
    for _ in range(2):
        y = build.fuse(build.conv(x, 288), 3)
        x = build.add(x, build.conv(y, 48))
    config = PRESETS["edge8"]
    monkeypatch.setattr("sw.compiler.plan._HARDEST", highest)
    made = _plan(build.graph(build.conv(x, 8)), config, fusion=False)
    spilled = [storage.name for storage in made.storages.values() if not storage.resident]
    assert bool(spilled) == (highest == Fit.LOW)
    if not spilled:
        for kernel in (item.kernel for item in made.kernels if item.kernel.residual is not None):
            source, residual = (made.storages[view.storage] for view in (kernel.source, kernel.residual))
            assert len(_banks(source, config) & _banks(residual, config)) <= 1


def test_whatever_does_not_fit_goes_through_dram_in_strips() -> None:
    build = Builder(2)
    x = build.conv(build.input((3, 40, 40)), 8, (3, 3))
    graph = build.graph(build.conv(x, 4, (3, 3)))
    config = AcceleratorConfig(rows=4, cols=4, act_kib=4, act_banks=2, weight_kib=4, axi_data_width=64)
    made = _plan(graph, config, fusion=False)
    assert not made.storages["layer0"].resident
    assert all(len(item.source) == 2 for item in made.kernels), "strips are double-buffered"
    for item in made.kernels:
        buffers = sorted(
            (base, base + size)
            for bases, (_, size) in ((item.source, item.tiling.source), (item.target, item.tiling.target))
            for base in bases
        )
        assert all(a[1] <= b[0] for a, b in zip(buffers, buffers[1:], strict=False))
        assert buffers[-1][1] <= config.act_bytes


def test_input_lines_of_strips_cover_the_window() -> None:
    build = Builder(3)
    graph = build.graph(build.conv(build.input((2, 11, 5)), 2, (5, 3), (2, 1), (2, 1, 2, 1)))
    kernel = lower(graph, PRESETS["tiny"])[0][0]
    for first in range(6):
        for stop in range(first + 1, 7):
            start, end = input_lines(kernel, first, stop)
            used = {y * 2 + k - 2 for y in range(first, stop) for k in range(5)} & set(range(11))
            assert (start, end) == (min(used), max(used) + 1)


def test_residual_and_output_share_strides() -> None:
    build = Builder(4)
    x = build.conv(build.input((4, 16, 16)), 4)
    y = build.conv(x, 4, (3, 3))
    graph = optimise(build.graph(build.add(x, y)), PRESETS["tiny"])
    kernel = lower(graph, PRESETS["tiny"])[0][-1]
    mixed = tilings(kernel, PRESETS["tiny"], Residency(True, True, False))
    assert {tiling.lines for tiling in mixed} == {16}
    assert len({t.lines for t in tilings(kernel, PRESETS["tiny"], Residency(True, False, False))}) > 3


def test_weights_are_split_so_that_the_next_group_loads_meanwhile() -> None:
    build = Builder(5)
    config = AcceleratorConfig(
        rows=4, cols=4, act_kib=16, act_banks=2, weight_kib=1, param_entries=16, axi_data_width=64
    )
    graph = build.graph(build.conv(build.input((20, 6, 6)), 30))
    program = compile_graph(graph, config)
    loads = [i for i in program.instructions() if i.opcode == Opcode.LOAD and i["target"] == Target.WEIGHT]
    assert len(loads) >= 4 and all(i["row_bytes"] <= config.weight_bytes // 2 for i in loads)
    assert {i["mem_addr"] for i in loads} != {0}


def test_a_layer_that_does_not_fit_is_named_with_bytes() -> None:
    config = AcceleratorConfig(rows=4, cols=4, act_kib=1, act_banks=1, weight_kib=4, axi_data_width=64)
    build = Builder(6)
    x = build.conv(build.input((2, 12, 12)), 8)
    graph = build.graph(build.conv(x, 8, (3, 3), (1, 1), (1, 200, 1, 200)))
    with pytest.raises(CompileError, match="layer layer1: padding 200"):
        compile_graph(graph, config)
    build = Builder(6)
    x = build.conv(build.input((64, 8, 20)), 8, (3, 3))
    with pytest.raises(CompileError, match=r"layer layer0: needs \d+ bytes .*, 1024 are there: raise act_kib") as error:
        compile_graph(build.graph(x), config)
    # three lines of all channels, one line of one channel, in whole beats
    assert f"needs {64 * 3 * 20 + 24} bytes" in str(error.value)
    build = Builder(6)
    x = build.conv(build.input((300, 2, 2)), 8, (2, 2), padding=(0, 0, 0, 0))
    with pytest.raises(CompileError, match="layer layer0: the weights of one block of channels take 4800 bytes"):
        compile_graph(build.graph(x), config.twin(act_kib=16))


def test_what_an_error_asks_for_is_enough_and_needed() -> None:
    """Following the advice of each error ends in a program, and the memory it asked for was really too small."""
    config = AcceleratorConfig(rows=3, cols=5, act_kib=1, act_banks=1, weight_kib=1, axi_data_width=64)
    build = Builder(8)
    x = build.gate(build.conv(build.input((7, 30, 60)), 30, (7, 7)), 5)
    x = build.window(x, (7, 7), (2, 2), (3, 3, 3, 3))
    graph = build.graph(build.linear(build.pool(x), 9))
    asked = []
    while True:
        try:
            compile_graph(graph, config)
            break
        except CompileError as error:
            numbers = re.search(
                r"layer (\w+): (?:needs|the weights of one block of channels take) (\d+) bytes .* raise (\w+)",
                str(error),
            )
            assert numbers is not None, error
            layer, need, memory = numbers.groups()
            have = config.act_bytes if memory == "act_kib" else config.weight_bytes
            assert int(need) > have and f"{have}" in str(error)
            asked.append((layer, memory))
            config = config.twin(**{memory: 2 * getattr(config, memory)})
    assert {memory for _, memory in asked} == {"act_kib", "weight_kib"} and asked[-1][0].startswith("layer")


def test_imagenet_sized_layers_are_expressible() -> None:
    build = Builder(7, "large")
    x = build.conv(build.input((3, 224, 224)), 32, (3, 3), (2, 2))
    y = build.conv(x, 16)
    y = build.conv(y, 96)
    y = build.fuse(y, 3, (2, 2))
    y = build.conv(y, 24)
    z = build.conv(y, 144)
    z = build.conv(z, 0, (5, 5), depthwise=True)
    y = build.add(y, build.conv(z, 24))
    y = build.conv(y, 320, (1, 1), (2, 2))
    y = build.conv(y, 1280)
    graph = build.graph(build.linear(build.pool(y), 1000))
    for name in ("edge16", "edge32"):
        for fusion in (False, True):
            program = compile_graph(graph, PRESETS[name], fusion=fusion)
            program.validate()
            assert (program.region_sizes[Region.WORK] < 96 * 112 * 112) == fusion
            # strips are not so thin that instructions outnumber what they do
            assert program.instruction_count < (1000 if fusion else 2000)
