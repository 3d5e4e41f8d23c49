"""The trained digits networks on the ISS, all test pictures: what quantisation and compilation cost in accuracy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hw.spec.config import preset
from sim.iss import IssBackend
from sim.run import main
from sw.compiler import compile_graph
from sw.frontends.networks import quantised_network
from sw.frontends.torch_export import import_program
from sw.nn.digits import digits_data, load_digits_network
from sw.nn.evaluate import accuracy
from sw.regions import quantise_input


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


@pytest.mark.slow
def test_a_drawn_digit_is_recognised_from_its_picture_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What sim.run makes of a .png by the program's meta is what the network was trained on."""
    network = quantised_network("digits:fuse_half")
    compile_graph(import_program(network.exported, meta=network.meta), preset("edge8")).save(tmp_path / "prog")
    _, _, pictures, labels = digits_data()
    for label in (0, 4, 8):
        picture = pictures[np.flatnonzero(labels == label)[0]]
        Image.fromarray(np.rint(255 * picture[0]).astype(np.uint8)).save(tmp_path / "digit.png")
        np.save(tmp_path / "digit.npy", picture)
        scores = []
        for name in ("digit.png", "digit.npy"):
            assert main([str(tmp_path / "prog"), "--input", str(tmp_path / name), "--json", "--top", "10"]) == 0
            (output,) = json.loads(capsys.readouterr().out)["outputs"].values()
            assert output["top"][0]["name"] == str(label)
            scores.append(np.array([entry["score"] for entry in sorted(output["top"], key=lambda e: e["class"])]))
        assert np.abs(scores[0] - scores[1]).max() <= 6 * output["scale"]  # 8-bit grey values
