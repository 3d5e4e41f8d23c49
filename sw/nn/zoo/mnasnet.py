"""MnasNet-B1 (Tan et al., arXiv 1807.11626), parameters named as in torchvision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sw.nn.zoo.layers import conv_norm, divisible

__all__ = ["BLOCKS", "MnasNetB1"]

# channels, kernel, first stride, expansion, repeats
_STAGES = (
    (24, 3, 2, 3, 3),
    (40, 5, 2, 3, 3),
    (80, 5, 2, 6, 3),
    (96, 3, 1, 6, 2),
    (192, 5, 2, 6, 4),
    (320, 3, 1, 6, 1),
)
BLOCKS = 1 + sum(stage[-1] for stage in _STAGES)
_MOMENTUM = 3e-4  # TensorFlow's 0.9997


def _layers(
    cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, act: bool = True
) -> nn.Sequential:
    return conv_norm(cin, cout, kernel, stride, groups=groups, act=nn.ReLU if act else None, momentum=_MOMENTUM)


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; with a shortcut where shapes allow it."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = cin * expansion
        self.layers = nn.Sequential(
            *_layers(cin, hidden), *_layers(hidden, hidden, kernel, stride, hidden), *_layers(hidden, cout, act=False)
        )
        self.shortcut = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, cin, H, W) to (N, cout, ceil(H / stride), ceil(W / stride))."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


class MnasNetB1(nn.Module):
    """The network; `width` scales all channels but the last convolution's."""

    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        stem, cin = divisible(32 * width), divisible(16 * width)
        layers: list[nn.Module] = [
            *_layers(3, stem, 3, 2),
            *_layers(stem, stem, 3, 1, stem),
            *_layers(stem, cin, act=False),
        ]
        for channels, kernel, first_stride, expansion, repeats in _STAGES:
            cout, blocks = divisible(channels * width), []
            for index in range(repeats):
                blocks.append(InvertedResidual(cin, cout, kernel, first_stride if index == 0 else 1, expansion))
                cin = cout
            layers.append(nn.Sequential(*blocks))
        self.layers = nn.Sequential(*layers, *_layers(cin, 1280))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to logits (N, classes)."""
        return self.classifier(torch.flatten(self.pool(self.layers(x)), 1))
