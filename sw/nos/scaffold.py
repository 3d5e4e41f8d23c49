"""The scaffold: a layer that is either a depthwise convolution or FuSeConv, from one shared kernel.

Neural Operator Scaffolding (Ganesan and Kumar, arXiv 2108.11441): FuSeConv's filters are computed from the depthwise
kernel W of each channel by two matrices of the layer, ``w_row = A_row vec(W)`` and ``w_column = A_column vec(W)``.
While training, a layer is now one operator, now the other; at the end the matrices are folded into plain filters.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw.nn.convert import convert, depthwise_blocks
from sw.nn.fuse import FuSeConv2d, Variant, convolve

__all__ = ["Operator", "ScaffoldConv2d", "collapse", "scaffold", "scaffold_layers"]

Operator = Literal["depthwise", "fuse"]

_NORMALISATION = ("weight", "bias", "running_mean", "running_var")


def _normalisation(like: nn.BatchNorm2d, channels: Tensor) -> nn.BatchNorm2d:
    """Return a normalisation of the given channels of another one, with their parameters and statistics."""
    result = nn.BatchNorm2d(len(channels), like.eps, like.momentum).to(like.weight)
    with torch.no_grad():
        for name in _NORMALISATION:
            getattr(result, name).copy_(getattr(like, name)[channels])
    return result


class ScaffoldConv2d(nn.Module):
    """A layer in both forms: depthwise KxK, and FuSeConv with filters computed from the same kernel.

    The depthwise form of *full*, whose FuSe form has 2C channels, gives each channel twice, so that the pointwise
    convolution behind it fits both.

    Parameters
    ----------
    conv, bn
        The depthwise convolution with odd KxK, centred padding and no bias, and its batch normalisation; copied.
    variant
        ``"half"`` or ``"full"``.
    activation
        Module behind the normalisation, or None.

    Attributes
    ----------
    operator
        ``"depthwise"`` or ``"fuse"``: what :meth:`forward` computes.
    kernel
        (C, 1, K, K), shared by both forms.
    adapter_row, adapter_column
        (K, K * K); at first they pick the middle row and the middle column.
    """

    def __init__(self, conv: nn.Conv2d, bn: nn.BatchNorm2d, variant: Variant, activation: nn.Module | None) -> None:
        super().__init__()
        k = conv.kernel_size[0]
        channels = conv.in_channels
        self.stride, self.variant, self.channels, self.kernel_size = conv.stride, variant, channels, k
        self.operator: Operator = "fuse"
        split = channels // 2
        self.rows = slice(0, split) if variant == "half" else slice(0, channels)
        self.columns = slice(split, channels) if variant == "half" else slice(0, channels)
        self.kernel = nn.Parameter(conv.weight.detach().clone())
        places = torch.eye(k * k, device=conv.weight.device).view(k, k, k * k)
        self.adapter_row = nn.Parameter(places[k // 2].clone())
        self.adapter_column = nn.Parameter(places[:, k // 2].clone())
        self.bn_depthwise = _normalisation(bn, torch.arange(channels))
        both = torch.cat([torch.arange(channels)[part] for part in (self.rows, self.columns)])
        self.bn_fuse = _normalisation(bn, both)
        self.act = activation if activation is not None else nn.Identity()

    def filters(self) -> tuple[Tensor, Tensor]:
        """Return FuSeConv's row filters (rows, 1, 1, K) and column filters (columns, 1, K, 1)."""
        flat = self.kernel.flatten(1)
        row, column = flat[self.rows] @ self.adapter_row.T, flat[self.columns] @ self.adapter_column.T
        return row[:, None, None, :], column[:, None, :, None]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C or 2C, ceil(H / stride_y), ceil(W / stride_x))."""
        if self.operator == "depthwise":
            half = self.kernel_size // 2
            y = F.conv2d(x, self.kernel, None, self.stride, half, groups=self.channels)
            y = self.act(self.bn_depthwise(y))
            return torch.cat([y, y], 1) if self.variant == "full" else y
        return self.act(self.bn_fuse(convolve(x, *self.filters(), (self.stride[0], self.stride[1]), self.variant)))

    @torch.no_grad()
    def folded(self) -> FuSeConv2d:
        """Return the FuSe form as a plain layer: same function, filters instead of kernel and matrices."""
        activation = None if isinstance(self.act, nn.Identity) else copy.deepcopy(self.act)
        bn = self.bn_fuse
        result = FuSeConv2d(
            self.channels,
            self.kernel_size,
            stride=(self.stride[0], self.stride[1]),
            variant=self.variant,
            activation=activation,
            eps=bn.eps,
            momentum=bn.momentum,
        ).to(self.kernel)
        split = len(range(*self.rows.indices(self.channels)))
        parts = slice(0, split), slice(split, None)
        for branch, weight, part in zip((result.row, result.column), self.filters(), parts, strict=True):
            branch.conv.weight.copy_(weight)
            for name in _NORMALISATION:
                getattr(branch.bn, name).copy_(getattr(bn, name)[part])
        return result.train(self.training)

    def extra_repr(self) -> str:
        """Return variant, geometry and operator for ``repr``."""
        return f"{self.channels}, kernel_size={self.kernel_size}, variant={self.variant!r}, operator={self.operator!r}"


def scaffold_layers(model: nn.Module) -> list[ScaffoldConv2d]:
    """Return a network's scaffold layers, in the order of its modules."""
    return [module for module in model.modules() if isinstance(module, ScaffoldConv2d)]


def _replaced(model: nn.Module, kind: type[nn.Module]) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield modules of a kind with their owners and names, safe against replacing them."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, kind)]
    for name, module in found:
        path, _, leaf = name.rpartition(".")
        yield model.get_submodule(path), leaf, module


def scaffold(model: nn.Module, variant: Variant, layers: Iterable[int | str] | None = None) -> nn.Module:
    """Return a copy of a depthwise network with scaffold layers in place of depthwise convolutions.

    With all layers depthwise it computes what the network does, but for *full*, where the pointwise convolution's
    weights are halved and its inputs doubled, with the same result.

    Parameters
    ----------
    model
        Untrained, or trained (then NOS starts from its weights).
    variant, layers
        See :func:`sw.nn.convert.convert`, whose errors this has too.
    """
    fused = convert(model, variant, layers, init="middle")
    names = [name for name, module in fused.named_modules() if isinstance(module, FuSeConv2d)]
    blocks = {block.name: block for block in depthwise_blocks(model)}
    for (owner, leaf, fuse), name in zip(_replaced(fused, FuSeConv2d), names, strict=True):
        # convert() puts FuSeConv in the convolution's place, or in that of the Sequential around it
        block = next(blocks[key] for key in blocks if key == name or key.startswith(f"{name}."))
        conv, bn = model.get_submodule(block.name), model.get_submodule(block.bn or "")
        assert isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d) and isinstance(fuse, FuSeConv2d)
        activation = model.get_submodule(block.act) if block.act else None
        setattr(owner, leaf, ScaffoldConv2d(conv, bn, variant, copy.deepcopy(activation)).train(conv.training))
    return fused


def collapse(model: nn.Module) -> nn.Module:
    """Return a copy of a scaffolded network as the plain FuSe network, parameters named as :func:`convert` does."""
    result = copy.deepcopy(model)
    for owner, leaf, module in _replaced(result, ScaffoldConv2d):
        assert isinstance(module, ScaffoldConv2d)
        setattr(owner, leaf, module.folded())
    return result
