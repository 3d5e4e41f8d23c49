"""MobileNetV3 (Howard et al., arXiv 1905.02244), parameters named as in torchvision."""

from __future__ import annotations

from collections.abc import Set
from functools import partial

import torch
from torch import Tensor, nn

from sw.nn.zoo.layers import Activation, conv_norm, divisible

__all__ = ["LARGE", "SMALL", "MobileNetV3", "Row"]

Row = tuple[int, int, int, bool, Activation, int]
"""A block: kernel, expanded channels, output channels, squeeze-and-excite, activation, stride."""

_RE: Activation = nn.ReLU
_HS: Activation = nn.Hardswish

LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, _RE, 1),
    (3, 64, 24, False, _RE, 2),
    (3, 72, 24, False, _RE, 1),
    (5, 72, 40, True, _RE, 2),
    (5, 120, 40, True, _RE, 1),
    (5, 120, 40, True, _RE, 1),
    (3, 240, 80, False, _HS, 2),
    (3, 200, 80, False, _HS, 1),
    (3, 184, 80, False, _HS, 1),
    (3, 184, 80, False, _HS, 1),
    (3, 480, 112, True, _HS, 1),
    (3, 672, 112, True, _HS, 1),
    (5, 672, 160, True, _HS, 2),
    (5, 960, 160, True, _HS, 1),
    (5, 960, 160, True, _HS, 1),
)
"""Table 1."""
SMALL: tuple[Row, ...] = (
    (3, 16, 16, True, _RE, 2),
    (3, 72, 24, False, _RE, 2),
    (3, 88, 24, False, _RE, 1),
    (5, 96, 40, True, _HS, 2),
    (5, 240, 40, True, _HS, 1),
    (5, 240, 40, True, _HS, 1),
    (5, 120, 48, True, _HS, 1),
    (5, 144, 48, True, _HS, 1),
    (5, 288, 96, True, _HS, 2),
    (5, 576, 96, True, _HS, 1),
    (5, 576, 96, True, _HS, 1),
)
"""Table 2."""

_conv_norm = partial(conv_norm, eps=1e-3, momentum=0.01)


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate computed from the means of all channels.

    Parameters
    ----------
    channels, squeezed
        Channels, and those between the two 1x1 convolutions.
    output
        Activation of the scaled channels, or None.
    """

    def __init__(self, channels: int, squeezed: int, output: nn.Module | None = None) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = nn.Hardsigmoid()
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        gate = self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return gate * x if self.output is None else self.output(gate * x)


class InvertedResidual(nn.Module):
    """Expand (if there is anything to), depthwise, squeeze-and-excite (if `row` says so), project; shortcut.

    The depthwise activation comes before squeeze-and-excite, as in the published weights, or behind it if `late`, as
    in FuSeConv networks (arXiv 2105.13434).  Parameters have the same names in both.
    """

    def __init__(self, cin: int, width: float, row: Row, *, late: bool) -> None:
        super().__init__()
        kernel, expanded, channels, scaled, act, stride = row
        hidden, cout = divisible(expanded * width), divisible(channels * width)
        late = late and scaled
        layers: list[nn.Module] = [_conv_norm(cin, hidden, act=act)] if hidden != cin else []
        layers.append(_conv_norm(hidden, hidden, kernel, stride, groups=hidden, act=None if late else act))
        if scaled:
            layers.append(SqueezeExcitation(hidden, divisible(hidden // 4), act() if late else None))
        self.block = nn.Sequential(*layers, _conv_norm(hidden, cout))
        self.shortcut = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, cin, H, W) to (N, cout, ceil(H / stride), ceil(W / stride))."""
        return x + self.block(x) if self.shortcut else self.block(x)


class MobileNetV3(nn.Module):
    """The network.

    Parameters
    ----------
    rows
        Blocks, :data:`LARGE` or :data:`SMALL`.
    hidden
        Channels between the two linear layers, before scaling.
    width, classes
        Multiplier of all channels; outputs.
    late
        Blocks whose activation follows squeeze-and-excite.
    """

    def __init__(self, rows: tuple[Row, ...], hidden: int, width: float, classes: int, late: Set[int]) -> None:
        super().__init__()
        cin = divisible(16 * width)
        features: list[nn.Module] = [_conv_norm(3, cin, 3, 2, act=_HS)]
        for index, row in enumerate(rows):
            features.append(InvertedResidual(cin, width, row, late=index in late))
            cin = divisible(row[2] * width)
        self.features = nn.Sequential(*features, _conv_norm(cin, 6 * cin, act=_HS))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        last = divisible(hidden * width)
        self.classifier = nn.Sequential(
            nn.Linear(6 * cin, last), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(last, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to logits (N, classes)."""
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
