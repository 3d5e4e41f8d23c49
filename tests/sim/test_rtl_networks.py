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
from sim.comparison import compare_regions
from sim.iss import IssBackend
from sim.verilator.backend import VerilatorBackend
from sw.compiler import compile_graph
from tests.sim import rtl_configs
from tests.sw.random_networks import RandomNetwork, networks_for

COUNT = int(os.environ.get("ROWCAST_RTL_NETWORKS", "3"))
MACS = 400_000
CONFIGS = {name: rtl_configs.CONFIGS[name] for name in ("tiny", "4x24", "plain")}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=CONFIGS)
def backend(request: pytest.FixtureRequest) -> Iterator[VerilatorBackend]:
    with VerilatorBackend(CONFIGS[request.param]) as instance:
        yield instance


@cache
def networks(config: AcceleratorConfig) -> list[tuple[RandomNetwork, Program]]:
    """Return the first networks that fit the configuration, with programs that store every tensor."""
    return list(networks_for(config, COUNT, macs=MACS, dump_tensors=True))


@pytest.mark.parametrize("number", range(COUNT))
def test_every_byte_equals_the_iss(backend: VerilatorBackend, number: int) -> None:
    """With every tensor stored, and as compiled for use, where tensors stay on chip."""
    network, dumped = networks(backend.config)[number]
    plain = compile_graph(network.graph, backend.config)
    rng = np.random.default_rng([number, 9])
    for seed, program in enumerate((dumped, plain)):
        latency, stalls = int(rng.integers(1, 250)), float(rng.uniform(0.02, 0.5))
        backend.set_memory(latency=latency, stall_probability=stalls, seed=seed)
        expected = IssBackend(backend.config).run(program, network.inputs)
        compared = compare_regions(program, backend.run(program, network.inputs).regions, expected.regions)
        where = f"{network.graph.name}, latency {latency}, stalls {stalls:.2f}"
        assert compared.equal, f"{where}: {compared.differences[:3]}"
        assert compared.size > 0


def test_the_networks_use_what_there_is() -> None:
    """Many kinds of layers are among those that run, on every configuration."""
    for config in CONFIGS.values():
        layers = [layer for _, program in networks(config) for layer in program.layers]
        assert len({layer.kind for layer in layers}) >= 5, config
