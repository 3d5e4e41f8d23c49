"""Published networks on the ISS, layer by layer: each tensor is PyTorch's within 1 LSB."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sw.frontends.networks import quantised_network
from sw.frontends.torch_export import import_program
from sw.nn import zoo
from sw.nn.dev_pictures import imagenet_pictures, sample_pictures
from sw.nn.pictures import Pictures
from sw.nn.pretrained import pretrained
from sw.preprocessing import preprocess
from tests.sw.qdq import agrees


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
def test_each_layer_is_pytorch_s_within_one_lsb(name: str, tmp_path: Path) -> None:
    path = imagenet_pictures()
    if not path.exists():
        path = sample_pictures(tmp_path / "photographs")
    network = quantised_network(name, weights=pretrained(name), calibration=path, pictures=16)
    pictures, about = Pictures(path), zoo.metadata(name)
    picture = preprocess(pictures.image(pictures.entries[-1]), about.input_shape, about.preprocessing)
    graph = import_program(network.exported)
    agrees(network.exported, graph, torch.from_numpy(picture)[None], "edge16")
