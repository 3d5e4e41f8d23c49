"""Published ImageNet weights in the zoo's networks; needs ``rowcast[pretrained]``, so run it by ``nox -s pretrained``.

The pictures are 200 of ImageNet, given by the environment variable ``ROWCAST_IMAGENET`` (a tar with ``labels.csv``) or
in ``../shared/data/imagenet_dev.tar``; without them only the loading is tested.
"""

from __future__ import annotations

import pytest
import torch

from sw.evaluation import Setup, evaluate, metrics
from sw.nn import zoo
from sw.nn.dev_pictures import imagenet_pictures
from sw.nn.pretrained import pretrained
from sw.nn.samples import read_samples
from sw.nn.weights import WeightsError

PICTURES = imagenet_pictures()

TOP1 = {"mobilenet_v2": 86.5, "efficientnet_lite0": 89.5}
"""Percent on the 200 pictures, which may be of the training split: a check of the arithmetic, no ImageNet accuracy."""


@pytest.mark.parametrize("name", TOP1)
def test_weights_load_completely(name: str) -> None:
    network = zoo.create(name, weights=pretrained(name))
    state = torch.load(pretrained(name), weights_only=True)
    # each tensor of the file is in the network
    values = list(network.state_dict().values())
    assert len(values) == len(state)
    by_sum = sorted(float(value.double().sum()) for value in values)
    assert by_sum == sorted(float(value.double().sum()) for value in state.values())


def test_weights_of_the_other_network_are_refused() -> None:
    with pytest.raises(WeightsError, match="the file lacks 'conv_stem.weight'.*'mobilenet_v2': create that"):
        zoo.create("efficientnet_lite0", weights=pretrained("mobilenet_v2"))
    with pytest.raises(WeightsError, match="the network has no '_conv_stem.weight'.*'efficientnet_lite0': create that"):
        zoo.create("mobilenet_v2", weights=pretrained("efficientnet_lite0"))
    with pytest.raises(WeightsError, match=r"'mobilenet_v2'.*convert\(network, 'half', init='middle'\)"):
        zoo.create("mobilenet_v2:fuse_half", weights=pretrained("mobilenet_v2"))


@pytest.mark.skipif(not PICTURES.exists(), reason=f"no pictures at {PICTURES}; set ROWCAST_IMAGENET")
@pytest.mark.parametrize("name", TOP1)
def test_accuracy(name: str) -> None:
    network, about = zoo.create(name, weights=pretrained(name)).eval(), zoo.metadata(name)
    samples = read_samples(PICTURES, about.input_shape, {"input": about.to_json()})
    report = metrics(evaluate(samples, Setup(network)))
    assert report["n"] == 200 and report["top5"] > report["top1"] == TOP1[name]
