"""MobileNetV2 (Sandler et al., arXiv 1801.04381), parameters named as in torchvision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sw.nn.zoo.layers import conv_norm, divisible

__all__ = ["BLOCKS", "SMALL_STRIDES", "STRIDES", "MobileNetV2"]

# table 2: expansion, channels, repeats
_STAGES = (
    (1, 16, 1),
    (6, 24, 2),
    (6, 32, 3),
    (6, 64, 4),
    (6, 96, 3),
    (6, 160, 3),
    (6, 320, 1),
)
BLOCKS = sum(repeats for _, _, repeats in _STAGES)

STRIDES = (2, 1, 2, 2, 2, 1, 2, 1)
"""Of the first convolution, and of the first block of each stage (table 2)."""

SMALL_STRIDES = (1, 1, 2, 2, 2, 1, 1, 1)
"""For pictures of 32 x 32, which the published strides would shrink to a point: the last maps are 4 x 4."""


class InvertedResidual(nn.Module):
    """Expand (unless by 1), depthwise 3x3, project; with a shortcut where shapes allow it."""

    def __init__(self, cin: int, cout: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = cin * expansion
        layers: list[nn.Module] = [conv_norm(cin, hidden, act=nn.ReLU6)] if expansion != 1 else []
        layers.append(conv_norm(hidden, hidden, 3, stride, groups=hidden, act=nn.ReLU6))
        self.conv = nn.Sequential(*layers, *conv_norm(hidden, cout))
        self.shortcut = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, cin, H, W) to (N, cout, ceil(H / stride), ceil(W / stride))."""
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """The network; `width` scales all channels, those of the last convolution only upwards."""

    def __init__(self, width: float, classes: int, strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        cin = divisible(32 * width)
        features: list[nn.Module] = [conv_norm(3, cin, 3, strides[0], act=nn.ReLU6)]
        for (expansion, channels, repeats), first_stride in zip(_STAGES, strides[1:], strict=True):
            cout = divisible(channels * width)
            for index in range(repeats):
                features.append(InvertedResidual(cin, cout, first_stride if index == 0 else 1, expansion))
                cin = cout
        last = divisible(1280 * max(1.0, width))
        self.features = nn.Sequential(*features, conv_norm(cin, last, act=nn.ReLU6))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to logits (N, classes)."""
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))
