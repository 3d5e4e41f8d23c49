"""ResNet50 (He et al., arXiv 1512.03385; stride in the 3x3 convolution), parameters named as in torchvision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sw.nn.zoo.layers import conv_norm, divisible

__all__ = ["ResNet50"]

_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # channels, repeats, first stride
_EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution; the shortcut has a convolution of its own where shapes differ."""

    def __init__(self, cin: int, channels: int, stride: int) -> None:
        super().__init__()
        cout = _EXPANSION * channels
        self.conv1, self.bn1 = conv_norm(cin, channels)
        self.conv2, self.bn2 = conv_norm(channels, channels, 3, stride)
        self.conv3, self.bn3 = conv_norm(channels, cout)
        self.act1, self.act2, self.act3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.downsample = conv_norm(cin, cout, 1, stride) if stride != 1 or cin != cout else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, cin, H, W) to (N, 4 * channels, ceil(H / stride), ceil(W / stride))."""
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.act2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.act3(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """The network; `width` scales all channels."""

    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        cin = divisible(64 * width)
        self.conv1, self.bn1, self.relu = conv_norm(3, cin, 7, 2, act=nn.ReLU)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for number, (base, repeats, first_stride) in enumerate(_STAGES, 1):
            channels, blocks = divisible(base * width), []
            for index in range(repeats):
                blocks.append(Bottleneck(cin, channels, first_stride if index == 0 else 1))
                cin = _EXPANSION * channels
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(cin, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to logits (N, classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))
