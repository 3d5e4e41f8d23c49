"""The supernet: weights that all networks of a space share, each a slice of them.

As in Once-for-All (Cai et al., arXiv 1908.09791, section 3): fewer channels are the first ones; a smaller kernel is the
middle of the next larger one, changed by a matrix of the layer; FuSeConv's filters come from the kernel by two matrices
per kernel size, as in Neural Operator Scaffolding (:mod:`sw.nos.scaffold`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw.nn.fuse import FuSeConv2d
from sw.nn.zoo.layers import conv_norm
from sw.search.space import OPERATORS, Architecture, Block, Place, Space
from sw.search.subnet import Subnet, SubnetBlock

__all__ = ["ElasticBlock", "ElasticNorm", "Supernet"]

_NORM = ("weight", "bias", "running_mean", "running_var")


class ElasticNorm(nn.BatchNorm2d):
    """Batch normalisation that takes as many channels as come, the first ones."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c, H, W) to the same shape, c up to the number of features."""
        mean, var, count = self.running_mean, self.running_var, self.num_batches_tracked
        assert mean is not None and var is not None and count is not None
        c, share = x.shape[1], self.momentum
        if self.training:
            count.add_(1)
            share = 1 / float(count) if share is None else share
        weight, bias = self.weight[:c], self.bias[:c]
        return F.batch_norm(x, mean[:c], var[:c], weight, bias, self.training, share or 0.0, self.eps)

    @torch.no_grad()
    def write(self, to: nn.BatchNorm2d, start: int = 0) -> None:
        """Copy parameters and statistics of the channels from `start` into another normalisation."""
        to.eps, to.momentum = self.eps, self.momentum
        for name in _NORM:
            getattr(to, name).copy_(getattr(self, name)[start : start + to.num_features])


class ElasticBlock(nn.Module):
    """A place with the weights of all choices for it.

    Parameters
    ----------
    place, kernels, expansions
        Of the space.

    Attributes
    ----------
    kernel
        (C, 1, K, K) with the largest K and most hidden channels.
    transforms
        By smaller kernel k: (k * k, k * k), applied to the middle of the next larger kernel; at first the identity.
    rows, columns
        By kernel k: (k, k * k), which make FuSeConv's filters; at first they pick middle row and column.
    bn_operators
        By operator, because statistics differ.
    """

    def __init__(self, place: Place, kernels: Sequence[int], expansions: Sequence[int]) -> None:
        super().__init__()
        self.place, self.kernels = place, tuple(kernels)
        hidden, largest = place.cin * max(expansions), max(kernels)
        if place.expand:
            self.expand = nn.Conv2d(place.cin, hidden, 1, bias=False)
            self.bn_expand = ElasticNorm(hidden)
        self.kernel = nn.Parameter(torch.empty(hidden, 1, largest, largest))
        self.transforms = nn.ParameterDict({str(k): torch.eye(k * k) for k in kernels if k != largest})
        places = {k: torch.eye(k * k).view(k, k, k * k) for k in kernels}
        self.rows = nn.ParameterDict({str(k): eye[k // 2].clone() for k, eye in places.items()})
        self.columns = nn.ParameterDict({str(k): eye[:, k // 2].clone() for k, eye in places.items()})
        self.bn_operators = nn.ModuleDict({name: ElasticNorm(hidden) for name in OPERATORS})
        self.project = nn.Conv2d(hidden, place.cout, 1, bias=False)
        self.bn_project = ElasticNorm(place.cout)
        nn.init.kaiming_normal_(self.kernel, mode="fan_in", nonlinearity="relu")
        for conv in (self.project, *([self.expand] if place.expand else [])):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def depthwise_kernel(self, hidden: int, size: int) -> Tensor:
        """Return the kernels (hidden, 1, size, size)."""
        result = self.kernel[:hidden]
        for k in sorted(self.kernels, reverse=True):
            if k == result.shape[2]:
                continue
            if k < size:
                break
            margin = (result.shape[2] - k) // 2
            middle = result[:, :, margin : margin + k, margin : margin + k].flatten(1)
            result = (middle @ self.transforms[str(k)].T).view(hidden, 1, k, k)
        return result

    def fuse_filters(self, hidden: int, size: int) -> tuple[Tensor, Tensor]:
        """Return the row filters (hidden / 2, 1, 1, size) and column filters (the others, 1, size, 1)."""
        flat, split = self.depthwise_kernel(hidden, size).flatten(1), hidden // 2
        row, column = flat[:split] @ self.rows[str(size)].T, flat[split:] @ self.columns[str(size)].T
        return row[:, None, None, :], column[:, None, :, None]

    def forward(self, x: Tensor, block: Block) -> Tensor:
        """Map (N, cin, H, W) to (N, cout, ceil(H / stride), ceil(W / stride)) as the chosen block does."""
        hidden, stride, half = self.place.cin * block.expansion, self.place.stride, block.kernel // 2
        y = x
        if self.place.expand:
            y = F.relu6(self.bn_expand(F.conv2d(x, self.expand.weight[:hidden])))
        if block.operator == "depthwise":
            y = F.conv2d(y, self.depthwise_kernel(hidden, block.kernel), None, stride, half, groups=hidden)
        else:
            row, column = self.fuse_filters(hidden, block.kernel)
            upper, lower = y.split([len(row), len(column)], 1)  # whose gradient keeps the memory format; a slice's not
            horizontal = F.conv2d(upper, row, None, stride, (0, half), groups=len(row))
            vertical = F.conv2d(lower, column, None, stride, (half, 0), groups=len(column))
            y = torch.cat([horizontal, vertical], 1)
        y = F.relu6(self.bn_operators[block.operator](y))
        y = self.bn_project(F.conv2d(y, self.project.weight[:, :hidden]))
        return x + y if self.place.shortcut else y

    @torch.no_grad()
    def write(self, to: SubnetBlock, block: Block) -> None:
        """Copy the chosen block's weights and statistics into a plain one."""
        hidden = self.place.cin * block.expansion
        if self.place.expand:
            _write(self.expand.weight[:hidden], self.bn_expand, to.expand)
        norm = cast(ElasticNorm, self.bn_operators[block.operator])
        if isinstance(to.filter, FuSeConv2d):
            start = 0
            branches = (to.filter.row, to.filter.column)
            for branch, weight in zip(branches, self.fuse_filters(hidden, block.kernel), strict=True):
                branch.conv.weight.copy_(weight)
                norm.write(branch.bn, start)
                start += len(weight)
        else:
            _write(self.depthwise_kernel(hidden, block.kernel), norm, to.filter)
        _write(self.project.weight[:, :hidden], self.bn_project, to.project)


def _write(weight: Tensor, norm: ElasticNorm, to: nn.Module) -> None:
    conv, bn = list(to.children())[:2]
    assert isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d)
    conv.weight.copy_(weight)
    norm.write(bn)


class Supernet(nn.Module):
    """All networks of a space.

    In training mode :meth:`forward` runs each of :attr:`active` and returns their logits one below the other, so that
    one step (and one reduction over processes) trains them together; in evaluation mode it runs the first.

    Parameters
    ----------
    space
        Networks to choose from.

    Attributes
    ----------
    active
        Networks that :meth:`forward` runs; at first the largest one.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space, self.active = space, [space.largest]
        self.first = conv_norm(3, space.stem_channels, 3, act=nn.ReLU6)
        self.stages = nn.ModuleList(
            nn.ModuleList(ElasticBlock(place, space.kernels, space.place_expansions(place)) for place in places)
            for places in space.places
        )
        self.last = conv_norm(space.places[-1][-1].cout, space.last_channels, act=nn.ReLU6)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(space.last_channels, space.classes)
        nn.init.normal_(self.classifier.weight, 0.0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def activate(self, architectures: Iterable[Architecture]) -> None:
        """Set :attr:`active`.

        Raises
        ------
        sw.search.space.SpaceError
            If a network is not one of the space.
        """
        self.active = list(architectures)
        for architecture in self.active:
            list(self.space.blocks(architecture))

    def share_normalisation(self) -> None:
        """Start FuSeConv's normalisations with the depthwise ones, whose channels they are made from."""
        for module in self.modules():
            if isinstance(module, ElasticBlock):
                module.bn_operators["fuse_half"].load_state_dict(module.bn_operators["depthwise"].state_dict())

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to logits (N, classes), when training (N * active, classes)."""
        if not self.training:
            return self._one(x, self.active[0])
        return torch.cat([self._one(x, architecture) for architecture in self.active])

    def _one(self, x: Tensor, architecture: Architecture) -> Tensor:
        x = self.first(x)
        for places, stage in zip(self.stages, architecture.stages, strict=True):
            for place, block in zip(cast(nn.ModuleList, places), stage, strict=False):
                x = place(x, block)
        return self.classifier(torch.flatten(self.pool(self.last(x)), 1))

    @torch.no_grad()
    def subnet(self, architecture: Architecture) -> Subnet:
        """Return a network by itself: a copy of its slices, statistics included (see :mod:`sw.nos.recalibrate`).

        Raises
        ------
        sw.search.space.SpaceError
            If it is not one of the space.
        """
        device = self.classifier.weight.device
        result = Subnet(self.space, architecture).to(device).train(self.training)
        for name in ("first", "last"):
            mine, other = getattr(self, name), getattr(result, name)
            other.load_state_dict(mine.state_dict())
            other[1].eps, other[1].momentum = mine[1].eps, mine[1].momentum
        result.classifier.load_state_dict(self.classifier.state_dict())
        blocks = iter(result.blocks)
        for places, stage in zip(self.stages, architecture.stages, strict=True):
            for place, block in zip(cast(nn.ModuleList, places), stage, strict=False):
                cast(ElasticBlock, place).write(cast(SubnetBlock, next(blocks)), block)
        return result
