"""What the zoo's networks are made of."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

__all__ = ["Activation", "conv_norm", "divisible", "initialise", "same_padding"]

Activation = Callable[[], nn.Module]


def divisible(channels: float, divisor: int = 8) -> int:
    """Return `channels` rounded to a multiple of `divisor`, at least one, and not below 90 % of what was asked.

    The rule of MobileNet's authors for scaled widths.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def conv_norm(
    cin: int,
    cout: int,
    kernel: int = 1,
    stride: int = 1,
    *,
    groups: int = 1,
    act: Activation | None = None,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> nn.Sequential:
    """Return convolution without bias (``K // 2`` zeros around), batch normalisation and `act`, numbered 0, 1, 2."""
    layers: list[nn.Module] = [
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout, eps=eps, momentum=momentum),
    ]
    return nn.Sequential(*layers, act()) if act is not None else nn.Sequential(*layers)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding (before, after) of an axis; for stride 2 and an even size it is lopsided."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def initialise(model: nn.Module) -> None:
    """Draw initial weights: He's normal with the fan-out of one group for convolutions, a small normal for linear."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_out))
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
