"""The FuSe-Half network that comes with the project, on CIFAR-10: the figures of docs/nos.md, and a picture on RTL.

Needs the pictures of :func:`sw.nn.dev_pictures.cifar10_pictures`, which may not be passed on with the project; where
they are absent this says so and is left out.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hw.spec.config import preset
from sim.comparison import compare_regions
from sim.iss import IssBackend
from sim.verilator.backend import VerilatorBackend
from sw.compiler import compile_graph
from sw.evaluate import main
from sw.frontends.networks import quantised_network
from sw.frontends.torch_export import import_program
from sw.nn.dev_pictures import CIFAR10_VARIABLE, cifar10_pictures
from sw.nn.pretrained import pretrained, pretrained_facts
from sw.nn.samples import read_samples
from sw.regions import quantise_input

NAME = "mobilenet_v1_cifar:fuse_half"
PICTURES = cifar10_pictures()
RECORD = json.loads((Path(__file__).parents[2] / "docs" / "data" / "nos_checkpoint.json").read_text())

pytestmark = pytest.mark.skipif(not PICTURES.exists(), reason=f"no pictures at {PICTURES}; set {CIFAR10_VARIABLE}")


def evaluated(capsys: pytest.CaptureFixture[str], backend: str, *options: str) -> dict[str, float]:
    data = ["--calib", str(PICTURES), "--data", str(PICTURES)]
    assert main([NAME, "--pretrained", *data, "--backend", backend, "--json", *options]) == 0
    report: dict[str, float] = json.loads(capsys.readouterr().out)
    return report


def test_floating_point_is_what_was_trained(capsys: pytest.CaptureFixture[str]) -> None:
    report = evaluated(capsys, "torch")
    assert report["n"] == RECORD["torch"]["n"] == 10_000
    assert report["top1"] == pytest.approx(pretrained_facts(NAME)["top1"], abs=0.05)
    assert report["top1"] == pytest.approx(RECORD["torch"]["top1"], abs=0.05)


@pytest.mark.slow
def test_int8(capsys: pytest.CaptureFixture[str]) -> None:
    report = evaluated(capsys, "torch_int8")
    assert report["top1"] == pytest.approx(RECORD["torch_int8"]["top1"], abs=0.1)
    assert report["agreement"] == pytest.approx(RECORD["torch_int8"]["agreement"], abs=0.3)
    some = evaluated(capsys, "iss", "--limit", "200")
    assert some["n"] == 200 and some["max_lsb"] <= RECORD["iss"]["max_lsb"]
    assert some["agreement"] >= RECORD["iss"]["agreement"] - 4


@pytest.mark.slow
def test_a_test_picture_on_rtl_equals_the_iss() -> None:
    facts = pretrained_facts(NAME)
    network = quantised_network(NAME, weights=pretrained(NAME), width=facts["width"], calibration=PICTURES)
    program = compile_graph(import_program(network.exported, meta=network.meta), preset("edge8"))
    (spec,) = program.inputs
    assert network.reference is not None
    samples = read_samples(PICTURES, network.reference.shape, network.meta, limit=1)
    inputs = {spec.name: quantise_input(spec, samples.read(0))}
    expected = IssBackend(program.config).run(program, inputs)
    with VerilatorBackend(program.config) as backend:
        found = backend.run(program, inputs)
    assert compare_regions(program, found.regions, expected.regions).equal
    (scores,), (golden,) = found.outputs.values(), expected.outputs.values()
    assert np.array_equal(scores, golden)
