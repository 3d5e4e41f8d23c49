"""Networks in packed layouts on the generated Verilog, with a memory that holds back at random."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hw.spec.isa import Opcode
from sim.comparison import compare_regions
from sim.iss import IssBackend
from sim.verilator.backend import VerilatorBackend
from sw.compiler import CompileError, compile_graph
from tests.sim.rtl_configs import CONFIGS
from tests.sw.packed_networks import packed_network, random_layouts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def backend() -> Iterator[VerilatorBackend]:
    with VerilatorBackend(CONFIGS["4x24"]) as instance:
        yield instance


def test_every_byte_equals_the_iss(backend: VerilatorBackend) -> None:
    """In random mixtures of layouts, with every tensor stored and as compiled for use."""
    kinds: set[str] = set()
    folded = missing = 0
    for seed in range(15):
        build, graph = packed_network(seed)
        try:
            with random_layouts(seed):
                program = compile_graph(graph, backend.config, dump_tensors=seed % 2 == 0)
        except CompileError:  # too large for this accelerator
            continue
        stream, inputs = program.instructions(), build.values()
        backend.set_memory(latency=20 + 15 * seed, stall_probability=0.03 * seed, seed=seed)
        expected = IssBackend(backend.config).run(program, inputs)
        compared = compare_regions(program, backend.run(program, inputs).regions, expected.regions)
        assert compared.equal, f"{graph.name}{seed}: {compared.differences[:3]}"
        execs = [i for i in stream if i.opcode == Opcode.EXEC]
        folded += sum(i["fold"] for i in execs)
        missing += sum(i["seg_missing"] > 0 for i in execs)
        for layer in program.layers:
            _, height, width = layer.output_shape
            mine = [stream[pc] for pc in layer.instructions]
            kinds |= {layer.kind for i in mine if i["seg"] or i["out_cs"] > height * width}  # open planes have no seg
    assert kinds >= {"pointwise", "fuse_row", "fuse_col", "depthwise", "scale"} and folded > 5 and missing > 10
