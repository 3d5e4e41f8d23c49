"""A small space, and a supernet of it whose numbers are all different from the initial ones."""

from __future__ import annotations

import torch
from torch import nn

from sw.search.space import Space, Stage
from sw.search.supernet import Supernet

SPACE = Space(
    width=0.25,
    resolution=16,
    classes=2,
    kernels=(3, 5, 7),
    expansions=(2, 3),
    stages=(Stage(16, 1, 1, expand=False), Stage(24, 2, 2), Stage(32, 2, 2)),
    last=16,
)


def supernet(seed: int = 0, space: Space = SPACE) -> Supernet:
    torch.manual_seed(seed)
    result = Supernet(space)
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            if any(part in name for part in ("transforms", "rows", "columns")):
                parameter += 0.1 * torch.randn_like(parameter)
        for module in result.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.5)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    return result.eval()
