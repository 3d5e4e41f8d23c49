"""The trained FuSe-Half network that comes with the project: what its file says, and a picture of it on RTL."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hw.spec.config import preset
from hw.spec.program import Program
from sim.comparison import compare_regions
from sim.iss import IssBackend
from sim.verilator.backend import VerilatorBackend
from sw.compiler import compile_graph
from sw.frontends.networks import quantised_network
from sw.frontends.torch_export import import_program
from sw.inputs import read_inputs
from sw.nn import zoo
from sw.nn.count import parameters
from sw.nn.dev_pictures import sample_pictures
from sw.nn.fuse import FuSeConv2d
from sw.nn.pretrained import pretrained, pretrained_facts

NAME = "mobilenet_v1_cifar:fuse_half"


def test_the_file_says_what_it_is():
    facts = pretrained_facts(NAME)
    assert pretrained(NAME).stat().st_size <= 3e6
    assert (facts["network"], facts["method"], facts["classes"]) == (NAME, "nos", 10)
    assert facts["data"].startswith("CIFAR-10") and "lossy JPEG" in facts["data"]
    assert facts["licence"].startswith("Apache-2.0")
    assert len(facts["class_names"]) == 10
    network = zoo.pretrained(NAME)
    assert parameters(network) == facts["parameters"]
    assert {layer.variant for layer in network.modules() if isinstance(layer, FuSeConv2d)} == {"half"}
    assert not network.training


def test_the_record_is_of_this_file():
    rows = json.loads((Path(__file__).parents[2] / "docs" / "data" / "nos_cifar10.json").read_text())["rows"]
    facts = pretrained_facts(NAME)
    runs = {row["seed"]: row["top1"] for row in rows if row["method"] == "half_nos"}
    assert runs[facts["seed"]] == facts["top1"] == max(runs.values())


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> tuple[Program, Path]:
    """The compiled network, calibrated with scikit-learn's photographs, and one of these."""
    folder = sample_pictures(tmp_path_factory.mktemp("photographs"))
    facts = pretrained_facts(NAME)
    network = quantised_network(
        NAME,
        weights=pretrained(NAME),
        width=facts["width"],
        class_names=facts["class_names"],
        calibration=folder,
    )
    graph = import_program(network.exported, name=network.name, meta=network.meta)
    return compile_graph(graph, preset("tiny")), folder / "china.jpg"


@pytest.mark.slow
def test_a_picture_on_rtl_equals_the_iss(program):
    compiled, picture = program
    inputs = read_inputs(compiled, [str(picture)])
    expected = IssBackend(compiled.config).run(compiled, inputs)
    with VerilatorBackend(compiled.config) as backend:
        found = backend.run(compiled, inputs)
    compared = compare_regions(compiled, found.regions, expected.regions)
    assert compared.equal, compared.differences[:3]
    (scores,), (golden,) = found.outputs.values(), expected.outputs.values()
    assert np.array_equal(scores, golden) and len(set(scores.flatten().tolist())) > 1
    assert compiled.meta["classes"][int(scores.argmax())] in pretrained_facts(NAME)["class_names"]
