"""DRAM traffic as the compiler reports it against what the generated hardware counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hw.spec.config import PRESETS
from hw.spec.isa import Opcode
from hw.spec.program import Program
from sim.verilator.backend import VerilatorBackend
from sw.compiler import compile_graph
from sw.compiler.traffic import traffic
from sw.frontends.networks import quantised_network
from sw.frontends.torch_export import import_program

CONFIG = PRESETS["tiny"]


@pytest.fixture(scope="module")
def programs() -> dict[bool, Program]:
    """Return the digits network, as it is used and with every tensor stored; many of its tensors do not fit on chip."""
    network = quantised_network("digits:fuse_half")
    graph = import_program(network.exported, name=network.name, meta=network.meta)
    return {dump: compile_graph(graph, CONFIG, dump_tensors=dump) for dump in (False, True)}


@pytest.fixture(scope="module")
def backend() -> Iterator[VerilatorBackend]:
    with VerilatorBackend(CONFIG) as instance:
        yield instance


@pytest.mark.slow
@pytest.mark.parametrize("dump", [False, True])
def test_counters_of_the_hardware_are_equal(
    programs: dict[bool, Program], backend: VerilatorBackend, dump: bool
) -> None:
    program = programs[dump]
    rng = np.random.default_rng(0)
    inputs = {spec.name: rng.integers(-128, 128, spec.shape).astype(np.int8) for spec in program.inputs}
    counted = backend.run(program, inputs).counters
    moved = traffic(program)
    assert counted["LOAD_BYTES"] == moved.loaded > 0
    assert counted["STORE_BYTES"] == moved.stored > 0


@pytest.mark.slow
def test_where_results_go(programs: dict[bool, Program]) -> None:
    """Layers say what becomes of their output; what is kept on chip is read by no LOAD."""
    plain, dumped = (traffic(programs[dump]).layers for dump in (False, True))
    assert {layer.output for layer in plain} == {"on chip", "spilled", "network output"}
    assert {layer.output for layer in dumped} == {"stored", "spilled", "network output"}
    assert plain[-1].output == "network output" and plain[-1].stored == 10
    for layer, other in zip(plain, dumped, strict=True):
        assert (layer.stored == 0) == (layer.output == "on chip")
        # groups of channels may be others, and a group that is not full takes whole words nonetheless
        assert other.stored > 0 and other.parameters == layer.parameters
    # the network's input is read, and as many bytes as were spilled are read back at least once
    spilled = sum(layer.stored for layer in plain if layer.output == "spilled")
    loads = [i for i in programs[False].instructions() if i.opcode == Opcode.LOAD]
    assert sum(layer.activations for layer in plain) >= spilled + 32 * 32
    assert sum(layer.loaded for layer in plain) >= sum(load["rows"] * load["row_bytes"] for load in loads)
