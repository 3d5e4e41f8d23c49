"""FuSe layers in the form that trains quickly: one normalisation, and square depthwise kernels."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sw.nn.fuse import FuSeConv2d, convolve

__all__ = ["JointFuSe2d", "joined", "separated"]

_NORMALISATION = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class JointFuSe2d(nn.Module):
    """The function of a :class:`sw.nn.fuse.FuSeConv2d`, with both branches in one convolution and normalisation.

    Gradients, statistics and therefore training are those of the layer, up to rounding.

    Parameters
    ----------
    layer
        Copied.

    Attributes
    ----------
    row, column
        Filters (rows, 1, 1, K) and (columns, 1, K, 1).
    bn
        Of both branches' channels, row filters first.
    """

    def __init__(self, layer: FuSeConv2d) -> None:
        super().__init__()
        self._like = [copy.deepcopy(layer)]  # in a list: no submodule, its parameters are not trained
        branches = (layer.row, layer.column)
        norms = [branch.get_submodule("bn") for branch in branches]
        assert all(isinstance(norm, nn.BatchNorm2d) for norm in norms)
        self.stride, self.variant = layer.stride, layer.variant
        self.row, self.column = (
            nn.Parameter(branch.get_parameter("conv.weight").detach().clone()) for branch in branches
        )
        self.bn = nn.BatchNorm2d(layer.out_channels, norms[0].eps, norms[0].momentum).to(self.row)
        with torch.no_grad():
            for name in _NORMALISATION[:-1]:
                getattr(self.bn, name).copy_(torch.cat([getattr(norm, name) for norm in norms]))
        activation = dict(layer.row.named_children()).get("act")
        self.act = copy.deepcopy(activation) if activation is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out_channels, ceil(H / stride_y), ceil(W / stride_x))."""
        return self.act(self.bn(convolve(x, self.row, self.column, self.stride, self.variant)))

    @torch.no_grad()
    def separated(self) -> FuSeConv2d:
        """Return the plain layer with these parameters and statistics."""
        result = copy.deepcopy(self._like[0]).to(self.row)
        split = len(self.row)
        for branch, weight, part in (
            (result.row, self.row, slice(0, split)),
            (result.column, self.column, slice(split, None)),
        ):
            branch.get_parameter("conv.weight").copy_(weight)
            norm = branch.get_submodule("bn")
            assert isinstance(norm, nn.BatchNorm2d)
            norm.eps, norm.momentum = self.bn.eps, self.bn.momentum
            for name in _NORMALISATION:
                value = getattr(self.bn, name)
                getattr(norm, name).copy_(value[part] if value.ndim else value)
        return result.train(self.training)


def _layers(model: nn.Module, kind: type[nn.Module]) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for name, module in [(name, module) for name, module in model.named_modules() if isinstance(module, kind)]:
        path, _, leaf = name.rpartition(".")
        yield model.get_submodule(path), leaf, module


def joined(model: nn.Module) -> nn.Module:
    """Return a copy of a network with its FuSe layers as joint ones."""
    result = copy.deepcopy(model)
    for owner, leaf, layer in _layers(result, FuSeConv2d):
        assert isinstance(layer, FuSeConv2d)
        setattr(owner, leaf, JointFuSe2d(layer).train(layer.training))
    return result


def separated(model: nn.Module) -> nn.Module:
    """Return a copy of a network with joint layers as plain ones, parameters named as the zoo's."""
    result = copy.deepcopy(model)
    for owner, leaf, layer in _layers(result, JointFuSe2d):
        assert isinstance(layer, JointFuSe2d)
        setattr(owner, leaf, layer.separated())
    return result
