"""The trained digits networks on the ISS, all test pictures: what quantisation and compilation cost in accuracy."""

from __future__ import annotations

import pytest
import torch

from hw.spec.config import preset
from sim.iss import IssBackend
from sim.memory import quantise_input
from sw.compiler import compile_graph
from sw.frontends.networks import quantised_network
from sw.frontends.torch_export import import_program
from sw.nn.digits import digits_data, load_digits_network
from sw.nn.evaluate import accuracy


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), [("digits:fuse_half", "half"), ("digits", "depthwise")])
def test_iss_accuracy_is_within_half_a_point_of_fp32(name: str, variant: str) -> None:
    torch.set_num_threads(1)
    _, _, pictures, labels = digits_data()
    fp32 = accuracy(load_digits_network(variant), pictures, labels)
    assert fp32 >= 97.5
    network = quantised_network(name)
    graph = import_program(network.exported, name=network.name, meta=network.meta)
    program = compile_graph(graph, preset("edge16"))
    backend = IssBackend(program.config, check_hazards=False)
    (spec,) = program.inputs
    hits = 0
    for picture, label in zip(pictures, labels, strict=True):
        (scores,) = backend.run(program, {spec.name: quantise_input(spec, picture)}).outputs.values()
        hits += int(scores.argmax()) == int(label)
    assert 100 * hits / len(labels) >= fp32 - 0.5
