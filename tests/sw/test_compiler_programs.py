"""Compiled programs on the instruction set simulator, bit for bit against an independent integer reference.

The simulator also checks that tokens order all conflicting accesses and that `overlap` is safe.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.fields import FieldError
from hw.spec.isa import INSTRUCTION_BYTES, Mode, Opcode, Region, assemble, decode, encode
from hw.spec.program import Program
from sim.iss import IssBackend
from sw.compiler import CompileError, compile_graph
from tests.sw.compiled import check
from tests.sw.ir_graphs import Builder, block_net, random_net

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "tiny-plain": PRESETS["tiny"].twin(stos=False),
    "edge8": PRESETS["edge8"],
    "rows5-cols7": AcceleratorConfig(
        rows=5, cols=7, act_kib=8, act_banks=2, weight_kib=8, param_entries=64, axi_data_width=64
    ),
    "micro": AcceleratorConfig(
        rows=3, cols=4, act_kib=2, act_banks=2, weight_kib=1, param_entries=16, axi_data_width=64
    ),
    "wide-plain": AcceleratorConfig(
        rows=2, cols=16, stos=False, act_kib=4, weight_kib=2, param_entries=32, axi_data_width=128
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize(("seed", "size"), [(0, 13), (2, 18)])
def test_networks_with_every_kind_of_layer(config: AcceleratorConfig, seed: int, size: int) -> None:
    build, graph = block_net(seed, size=size)
    program = check(graph, config, build.values())
    values = IssBackend(config).run(program, build.values()).outputs[graph.outputs[0]]
    assert len(np.unique(values)) > 5


@pytest.mark.parametrize("name", ["rows5-cols7", "micro", "wide-plain"])
def test_random_graphs(name: str) -> None:
    """Residuals, slices, concatenations and copies in any combination; some do not fit, and must say so."""
    ran = 0
    for seed in range(20):
        build, graph = random_net(seed, CONFIGS[name].max_kernel)
        try:
            check(graph, CONFIGS[name], build.values())
        except CompileError as error:
            assert "raise weight_kib" in str(error) or "raise act_kib" in str(error)
        else:
            ran += 1
    assert ran >= 10


@pytest.mark.parametrize("config", [CONFIGS["rows5-cols7"], CONFIGS["micro"], CONFIGS["wide-plain"]], ids=str)
@pytest.mark.parametrize("seed", range(12))
def test_single_layers_of_random_geometry(config: AcceleratorConfig, seed: int) -> None:
    rng = np.random.default_rng(seed)
    build = Builder(seed)
    kh, kw = (int(k) for k in rng.integers(1, 8, 2))
    depthwise = bool(rng.integers(2))
    if not depthwise:
        kh, kw = min(kh, 3), min(kw, 3)
    stride = (int(rng.integers(1, 5)), int(rng.integers(1, 3)))
    padding = tuple(int(rng.integers(0, k)) for k in (kh, kw, kh, kw))
    shape = (int(rng.integers(1, 9)), int(rng.integers(kh, 20)), int(rng.integers(kw, 25)))
    clamp = (-128, 127) if rng.integers(2) else (-90, 60)
    cout = int(rng.integers(1, 12))
    made = build.conv(build.input(shape), cout, (kh, kw), stride, padding, depthwise=depthwise, clamp=clamp)
    check(build.graph(made), config, build.values())


@pytest.mark.parametrize("kernel", [(1, 3), (3, 1), (1, 7), (7, 1), (3, 3), (5, 5), (2, 4)], ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)], ids=str)
def test_both_stos_modes_and_the_baseline_agree(kernel: tuple, stride: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder(sum(kernel) + stride[0])
    made = build.conv(build.input((5, 11, 13)), 0, kernel, stride, depthwise=True)
    graph, inputs = build.graph(made), build.values()
    seen = []
    for mode in (Mode.STOS_CH, Mode.STOS_LN, Mode.GEMM):
        config = PRESETS["tiny"].twin(stos=mode != Mode.GEMM)
        monkeypatch.setattr("sw.compiler.lower.pick_mode", lambda *_, mode=mode: (mode, mode == Mode.GEMM))
        program = check(graph, config, inputs)
        seen += [i["mode"] for i in program.instructions() if i.opcode == Opcode.EXEC]
    assert set(seen) == {Mode.STOS_CH, Mode.STOS_LN, Mode.GEMM}


@pytest.mark.parametrize("config", [CONFIGS["tiny"], CONFIGS["micro"]], ids=["tiny", "micro"])
def test_residuals_pools_and_copies(config: AcceleratorConfig) -> None:
    build = Builder(20, "mixed")
    x = build.input((6, 13, 11))
    y = build.conv(x, 6, (3, 3))
    y = build.add(y, build.conv(y, 6), clamp=(-60, 100))  # fused
    z = build.conv(y, 6, clamp=(0, 127))
    z = build.add(build.add(z, y), z)  # two of their own: the convolution clamps
    z = build.requantise(z, 0.8)
    joined = build.concat(y, build.conv(z, 3, like=y), build.slice(y, 2, 5))  # y twice: copies
    pooled = build.pool(joined)
    flat = build.reshape(build.conv(joined, 2, (3, 3), (4, 2)), (2 * 4 * 6, 1, 1))
    graph = build.graph(build.linear(pooled, 7), build.linear(flat, 5), joined)
    program = check(graph, config, build.values())
    assert {layer.kind for layer in program.layers} >= {"add", "pool", "requantise", "linear", "conv", "pointwise"}
    assert len(program.outputs) == 3


def test_two_inputs_and_an_unfused_sum() -> None:
    build = Builder(21)
    left, right = build.input((4, 5, 6), "left"), build.input((4, 5, 6), "right")
    check(build.graph(build.add(left, right)), PRESETS["tiny"], build.values())


@pytest.mark.parametrize("pad", [(3, 0, 3, 0), (0, 3, 0, 3), (2, 5, 6, 1)], ids=str)
def test_wide_padding_reads_the_zero_point(pad: tuple) -> None:
    build = Builder(22)
    made = build.conv(build.input((3, 4, 5)), 4, (3, 3), padding=pad)
    check(build.graph(made), CONFIGS["micro"], build.values())


def test_strips_split_a_map_that_is_larger_than_the_scratchpad() -> None:
    build = Builder(23)
    x = build.conv(build.input((4, 40, 30)), 8, (3, 3), (1, 1))
    x = build.fuse(x, 5)
    graph = build.graph(build.add(x, build.conv(x, 8)))
    config = CONFIGS["micro"]
    program = check(graph, config, build.values())
    assert 4 * config.act_bytes < 8 * 40 * 30
    for layer in program.layers:
        stream = [program.instructions()[pc] for pc in layer.instructions]
        assert sum(i.opcode == Opcode.EXEC for i in stream) > 2


def test_weights_stream_through_a_small_memory_in_every_loop_order() -> None:
    """Strips and groups at once: a deep convolution whose weights and maps both exceed their memories."""
    build = Builder(24)
    graph = build.graph(build.conv(build.input((12, 24, 16)), 20, (3, 3)))
    config = AcceleratorConfig(
        rows=3, cols=4, act_kib=2, act_banks=2, weight_kib=2, param_entries=16, axi_data_width=64
    )
    program = check(graph, config, build.values())
    stream = program.instructions()
    executed = {(i["w_base"], i["cout"]) for i in stream if i.opcode == Opcode.EXEC}
    assert len(executed) > 2 and sum(i.opcode == Opcode.EXEC for i in stream) > 10


def test_the_image_decodes_to_what_was_encoded() -> None:
    _, graph = block_net(3)
    config = PRESETS["tiny"]
    program = compile_graph(graph, config, name="renamed")
    stream = program.instructions()
    assert assemble(stream) == program.image[: len(stream) * INSTRUCTION_BYTES]
    assert all(decode(encode(instruction)) == instruction for instruction in stream)
    assert program.meta["network"] == "renamed"
    for instruction in stream:
        if instruction.opcode == Opcode.LOAD and instruction["region"] == Region.CONST:
            assert instruction["dram_offset"] % max(INSTRUCTION_BYTES, config.axi_bytes) == 0
    pcs = sorted(pc for layer in program.layers for pc in layer.instructions)
    assert pcs == list(range(1, len(stream) - 1))


def test_compiling_twice_gives_the_same_bytes() -> None:
    _, graph = block_net(4)
    first, second = (compile_graph(graph, PRESETS["edge8"]) for _ in range(2))
    assert first.image == second.image and first.layers == second.layers


def test_a_program_survives_saving(tmp_path) -> None:
    build, graph = block_net(5)
    program = compile_graph(dataclasses.replace(graph, meta={"classes": ["a", "b"]}), PRESETS["tiny"])
    program.save(tmp_path)
    loaded = Program.load(tmp_path)
    assert loaded == program and loaded.meta["classes"] == ["a", "b"]
    inputs = build.values()
    backend = IssBackend(PRESETS["tiny"])
    assert np.array_equal(
        backend.run(program, inputs).outputs[graph.outputs[0]], backend.run(loaded, inputs).outputs[graph.outputs[0]]
    )


def test_a_value_beyond_its_field_names_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(instruction):
        if instruction.opcode == Opcode.EXEC:
            raise FieldError("field in_w = 2000000 is out of range")
        return encode(instruction)

    monkeypatch.setattr("sw.compiler.driver.encode", refuse)
    _, graph = block_net(0)
    with pytest.raises(CompileError, match="layer layer0: does not fit the instruction format: field in_w"):
        compile_graph(graph, PRESETS["tiny"])
