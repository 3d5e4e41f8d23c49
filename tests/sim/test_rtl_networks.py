"""Random networks on the generated Verilog, with a memory that holds back at random: every byte equals the ISS.

``ROWCAST_RTL_NETWORKS`` sets their number per configuration; ``nox -s rtl`` runs 20.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from hw.spec.config import AcceleratorConfig
from hw.spec.program import Program
from sim.backend import Int8Array
from sim.comparison import compare_regions
from sim.iss import IssBackend
from sim.verilator.backend import VerilatorBackend
from sw.compiler import CompileError, compile_graph
from tests.sim import rtl_configs
from tests.sw.random_networks import random_network

COUNT = int(os.environ.get("ROWCAST_RTL_NETWORKS", "3"))
MACS = 400_000
CONFIGS = {name: rtl_configs.CONFIGS[name] for name in ("tiny", "4x24", "plain")}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=CONFIGS)
def backend(request: pytest.FixtureRequest) -> Iterator[VerilatorBackend]:
    with VerilatorBackend(CONFIGS[request.param]) as instance:
        yield instance


@cache
def networks(config: AcceleratorConfig) -> list[tuple[int, Program, dict[str, Int8Array]]]:
    """Return the first networks that fit the configuration's scratchpads, every second one with all tensors stored."""
    found = []
    for seed in range(5 * COUNT):
        network = random_network(seed, macs=MACS)
        try:
            program = compile_graph(network.graph, config, dump_tensors=len(found) % 2 == 0)
        except CompileError as error:
            assert "raise act_kib" in str(error) or "raise weight_kib" in str(error)
            continue
        found.append((seed, program, network.inputs))
        if len(found) == COUNT:
            return found
    raise AssertionError(f"only {len(found)} of {5 * COUNT} networks fit")


@pytest.mark.parametrize("number", range(COUNT))
def test_every_byte_equals_the_iss(backend: VerilatorBackend, number: int) -> None:
    seed, program, inputs = networks(backend.config)[number]
    rng = np.random.default_rng([seed, 9])
    latency, stalls = int(rng.integers(1, 250)), float(rng.uniform(0.02, 0.5))
    backend.set_memory(latency=latency, stall_probability=stalls, seed=seed)
    expected = IssBackend(backend.config).run(program, inputs)
    compared = compare_regions(program, backend.run(program, inputs).regions, expected.regions)
    assert compared.equal, f"network {seed}, latency {latency}, stalls {stalls:.2f}: {compared.differences[:3]}"
    assert compared.size > 0


def test_the_networks_use_what_there_is() -> None:
    """Kinds of layers among those that run, on every configuration, and tensors kept on chip."""
    for config in CONFIGS.values():
        layers = [layer for _, program, _ in networks(config) for layer in program.layers]
        assert len({layer.kind for layer in layers}) >= 5, config
