"""The networks of FuSeConv's authors, where they differ from the zoo's."""

from __future__ import annotations

import torch
from torch import nn

from sw.model.shapes import LayerShape
from sw.nn import zoo
from sw.nn.shapes import module_shapes
from sw.nn.zoo.layers import conv_norm
from sw.nn.zoo.mobilenet_v3 import InvertedResidual, MobileNetV3, SqueezeExcitation

__all__ = ["PAPER_HIDDEN", "authors_shapes"]

PAPER_HIDDEN = 1280
"""Channels between the linear layers of both MobileNetV3; the published weights of the small one have 1024."""


def authors_shapes(name: str) -> list[LayerShape]:
    """Return the layers of a network of the zoo or one of its FuSe variants, as the published speed-ups count them.

    Their MobileNetV1, MobileNetV2 and MnasNet-B1 are the zoo's.  Their MobileNetV3 (layer tables in the published
    model code of arXiv 2105.13434) differs from torchvision's, which the zoo has, in three things: the first block has
    a pointwise expansion, though it expands by 1; squeeze-and-excite squeezes to exactly a quarter of its channels,
    not rounded to a multiple of 8; and the hidden layer of the small one has 1280 channels instead of 1024.
    """
    about = zoo.metadata(name)
    with torch.device("meta"):
        network = zoo.create(name)
        if isinstance(network, MobileNetV3):
            _change(network)
    return module_shapes(network, about.input_shape)


def _change(network: MobileNetV3) -> None:
    first = network.features[1]
    assert isinstance(first, InvertedResidual) and isinstance(first.block, nn.Sequential)
    stem = network.features[0]
    assert isinstance(stem, nn.Sequential) and isinstance(stem[0], nn.Conv2d)
    channels = stem[0].out_channels
    first.block = nn.Sequential(conv_norm(channels, channels, act=nn.ReLU), *first.block)
    for gate in network.modules():
        if isinstance(gate, SqueezeExcitation):
            inputs = gate.fc1.in_channels
            gate.fc1 = nn.Conv2d(inputs, inputs // 4, 1, bias=False)
            gate.fc2 = nn.Conv2d(inputs // 4, inputs, 1, bias=False)
    before, last = network.classifier[0], network.classifier[-1]
    assert isinstance(before, nn.Linear) and isinstance(last, nn.Linear)
    network.classifier[0] = nn.Linear(before.in_features, PAPER_HIDDEN)
    network.classifier[-1] = nn.Linear(PAPER_HIDDEN, last.out_features)
