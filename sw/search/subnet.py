"""One network of a space as a plain module, without what the others would need."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sw.nn.fuse import FuSeConv2d
from sw.nn.zoo.layers import conv_norm
from sw.search.space import Architecture, Block, Place, Space

__all__ = ["Subnet", "SubnetBlock"]


class SubnetBlock(nn.Module):
    """Expand (unless the stage does not), filter by depthwise or FuSeConv, project; with a shortcut where possible."""

    def __init__(self, place: Place, block: Block) -> None:
        super().__init__()
        hidden = place.cin * block.expansion
        self.expand = conv_norm(place.cin, hidden, act=nn.ReLU6) if place.expand else nn.Identity()
        self.filter: nn.Module
        if block.operator == "depthwise":
            self.filter = conv_norm(hidden, hidden, block.kernel, place.stride, groups=hidden, act=nn.ReLU6)
        else:
            self.filter = FuSeConv2d(hidden, block.kernel, stride=place.stride, activation=nn.ReLU6())
        self.project = conv_norm(hidden, place.cout)
        self.shortcut = place.shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, cin, H, W) to (N, cout, ceil(H / stride), ceil(W / stride))."""
        y = self.project(self.filter(self.expand(x)))
        return x + y if self.shortcut else y


class Subnet(nn.Module):
    """A network of a space.

    Raises
    ------
    sw.search.space.SpaceError
        If it is not one of the space.
    """

    def __init__(self, space: Space, architecture: Architecture) -> None:
        super().__init__()
        self.first = conv_norm(3, space.stem_channels, 3, act=nn.ReLU6)
        self.blocks = nn.Sequential(*(SubnetBlock(place, block) for place, block in space.blocks(architecture)))
        self.last = conv_norm(space.places[-1][-1].cout, space.last_channels, act=nn.ReLU6)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(space.last_channels, space.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to logits (N, classes)."""
        x = self.last(self.blocks(self.first(x)))
        return self.classifier(torch.flatten(self.pool(x), 1))
