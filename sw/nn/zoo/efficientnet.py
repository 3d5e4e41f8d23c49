"""MobileNetV1, EfficientNet-Lite0 and EfficientNet-EdgeTPU-S, parameters named as in timm.

Sources: Howard et al., arXiv 1704.04861, table 1; TensorFlow's ``models/official/efficientnet/lite`` and
``.../edgetpu``.  A stage is a list of blocks of one kind: ``separable`` (depthwise, pointwise), ``inverted``
(expand, depthwise, project) or ``edge`` (full KxK expansion, project).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from sw.nn.zoo.layers import Activation, divisible, same_padding

__all__ = ["EDGETPU_S", "LITE0", "MOBILENET_V1", "MOBILENET_V1_SMALL", "EfficientNet", "Family", "Stage"]


@dataclass(frozen=True)
class Stage:
    """Repeated blocks; the stride is the first one's."""

    kind: Literal["separable", "inverted", "edge"]
    repeats: int
    kernel: int
    stride: int
    channels: int
    expansion: int = 1
    expand_from: int | None = None  # channels (at width 1) the expansion multiplies, if not the block's inputs


@dataclass(frozen=True)
class Family:
    """A network of this file.

    Parameters
    ----------
    stages
        Blocks.
    act
        Activation throughout.
    head
        Channels of the last convolution, or None if there is none.
    eps, momentum
        Of the batch normalisations.
    fixed
        `width` leaves stem and head alone.
    same
        TensorFlow's SAME padding, lopsided for stride 2 (as the published weights need it).
    plain_separable
        Separable blocks activate their result and have no shortcut.
    """

    stages: tuple[Stage, ...]
    act: Activation = field(default=nn.ReLU6)
    head: int | None = 1280
    eps: float = 1e-5
    momentum: float = 0.1
    fixed: bool = False
    same: bool = False
    plain_separable: bool = False

    @property
    def blocks(self) -> int:
        """Number of depthwise blocks."""
        return sum(stage.repeats for stage in self.stages if stage.kind != "edge")


MOBILENET_V1 = Family(
    (
        Stage("separable", 1, 3, 1, 64),
        Stage("separable", 2, 3, 2, 128),
        Stage("separable", 2, 3, 2, 256),
        Stage("separable", 6, 3, 2, 512),
        Stage("separable", 2, 3, 2, 1024),
    ),
    head=None,
    plain_separable=True,
)
MOBILENET_V1_SMALL = replace(MOBILENET_V1, stages=(*MOBILENET_V1.stages[:-1], Stage("separable", 2, 3, 1, 1024)))
"""For pictures of 32 x 32, which the published strides would shrink to a point: the last maps are 2 x 2."""

LITE0 = Family(
    (
        Stage("separable", 1, 3, 1, 16),
        Stage("inverted", 2, 3, 2, 24, 6),
        Stage("inverted", 2, 5, 2, 40, 6),
        Stage("inverted", 3, 3, 2, 80, 6),
        Stage("inverted", 3, 5, 1, 112, 6),
        Stage("inverted", 4, 5, 2, 192, 6),
        Stage("inverted", 1, 3, 1, 320, 6),
    ),
    eps=1e-3,
    momentum=0.01,
    fixed=True,
    same=True,
)
EDGETPU_S = Family(
    (
        Stage("edge", 1, 3, 1, 24, 4, expand_from=24),
        Stage("edge", 2, 3, 2, 32, 8),
        Stage("edge", 4, 3, 2, 48, 8),
        Stage("inverted", 5, 5, 2, 96, 8),
        Stage("inverted", 4, 5, 1, 144, 8),
        Stage("inverted", 2, 5, 2, 192, 8),
    ),
    act=nn.ReLU,
)


class _Maker:
    """Makes layers, and follows the size of the picture, on which SAME padding depends."""

    def __init__(self, family: Family, resolution: int) -> None:
        self.family, self.size = family, resolution

    def norm(self, channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=self.family.eps, momentum=self.family.momentum)

    def spatial(self, cin: int, cout: int, kernel: int, stride: int, *, groups: int = 1) -> tuple[nn.Module, nn.Conv2d]:
        """Return what goes before a KxK convolution (identity, or lopsided padding) and the convolution."""
        padding = same_padding(self.size, kernel, stride)
        self.size = math.ceil(self.size / stride)
        if not self.family.same or padding[0] == padding[1]:
            return nn.Identity(), nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
        return nn.ZeroPad2d(padding * 2), nn.Conv2d(cin, cout, kernel, stride, groups=groups, bias=False)


def _pointwise(cin: int, cout: int) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, 1, bias=False)


class Separable(nn.Module):
    """Depthwise and pointwise convolution."""

    def __init__(self, make: _Maker, stage: Stage, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        plain = make.family.plain_separable
        self.pad, self.conv_dw = make.spatial(cin, cin, stage.kernel, stride, groups=cin)
        self.bn1, self.act1 = make.norm(cin), make.family.act()
        self.conv_pw, self.bn2 = _pointwise(cin, cout), make.norm(cout)
        self.act2 = make.family.act() if plain else nn.Identity()
        self.shortcut = stride == 1 and cin == cout and not plain

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, cin, H, W) to (N, cout, ceil(H / stride), ceil(W / stride))."""
        y = self.act1(self.bn1(self.conv_dw(self.pad(x))))
        y = self.act2(self.bn2(self.conv_pw(y)))
        return x + y if self.shortcut else y


class Inverted(nn.Module):
    """Expand, depthwise, project."""

    def __init__(self, make: _Maker, stage: Stage, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        hidden = divisible(cin * stage.expansion)
        self.conv_pw, self.bn1, self.act1 = _pointwise(cin, hidden), make.norm(hidden), make.family.act()
        self.pad, self.conv_dw = make.spatial(hidden, hidden, stage.kernel, stride, groups=hidden)
        self.bn2, self.act2 = make.norm(hidden), make.family.act()
        self.conv_pwl, self.bn3 = _pointwise(hidden, cout), make.norm(cout)
        self.shortcut = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, cin, H, W) to (N, cout, ceil(H / stride), ceil(W / stride))."""
        y = self.act1(self.bn1(self.conv_pw(x)))
        y = self.act2(self.bn2(self.conv_dw(self.pad(y))))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.shortcut else y


class Edge(nn.Module):
    """Expand by a full KxK convolution, project."""

    def __init__(self, make: _Maker, stage: Stage, cin: int, cout: int, stride: int, source: int) -> None:
        super().__init__()
        hidden = divisible(source * stage.expansion)
        self.pad, self.conv_exp = make.spatial(cin, hidden, stage.kernel, stride)
        self.bn1, self.act1 = make.norm(hidden), make.family.act()
        self.conv_pwl, self.bn2 = _pointwise(hidden, cout), make.norm(cout)
        # a block whose expansion is given other channels than its own has no shortcut at any width
        self.shortcut = stride == 1 and cin == cout and stage.expand_from is None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, cin, H, W) to (N, cout, ceil(H / stride), ceil(W / stride))."""
        y = self.act1(self.bn1(self.conv_exp(self.pad(x))))
        y = self.bn2(self.conv_pwl(y))
        return x + y if self.shortcut else y


class EfficientNet(nn.Module):
    """A network of this file.

    Parameters
    ----------
    family
        Which.
    width, resolution, classes
        Multiplier of channels; height and width of the picture; outputs.
    """

    def __init__(self, family: Family, width: float, resolution: int, classes: int) -> None:
        super().__init__()
        make = _Maker(family, resolution)
        cin = 32 if family.fixed else divisible(32 * width)
        self.pad, self.conv_stem = make.spatial(3, cin, 3, 2)
        self.bn1, self.act1 = make.norm(cin), family.act()
        stages = []
        for stage in family.stages:
            cout, blocks = divisible(stage.channels * width), []
            for index in range(stage.repeats):
                stride = stage.stride if index == 0 else 1
                if stage.kind == "edge":
                    source = cin if stage.expand_from is None else divisible(stage.expand_from * width)
                    blocks.append(Edge(make, stage, cin, cout, stride, source))
                else:
                    kind = Separable if stage.kind == "separable" else Inverted
                    blocks.append(kind(make, stage, cin, cout, stride))
                cin = cout
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        if family.head is None:
            self.conv_head, self.bn2, self.act2 = nn.Identity(), nn.Identity(), nn.Identity()
        else:
            head = family.head if family.fixed else divisible(family.head * width)
            self.conv_head, self.bn2, self.act2 = _pointwise(cin, head), make.norm(head), family.act()
            cin = head
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(cin, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to logits (N, classes)."""
        x = self.blocks(self.act1(self.bn1(self.conv_stem(self.pad(x)))))
        x = self.act2(self.bn2(self.conv_head(x)))
        return self.classifier(self.dropout(torch.flatten(self.pool(x), 1)))
