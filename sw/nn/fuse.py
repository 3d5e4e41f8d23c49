"""FuSeConv: a depthwise KxK convolution factored into 1xK row filters and Kx1 column filters.

The operator is that of Selvam, Ganesan and Kumar (DATE 2021, arXiv 2105.13434): every filter is an independent 1-D
convolution, which the ST-OS dataflow runs one per array row.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FuSeConv2d", "Init", "Variant", "convolve", "middle_column", "middle_row"]

Variant = Literal["half", "full"]
Init = Literal["random", "middle"]


def middle_row(kernel: Tensor) -> Tensor:
    """Return the middle row of depthwise kernels: (C, 1, K, K) to (C, 1, 1, K)."""
    middle = kernel.shape[2] // 2
    return kernel[:, :, middle : middle + 1, :]


def middle_column(kernel: Tensor) -> Tensor:
    """Return the middle column of depthwise kernels: (C, 1, K, K) to (C, 1, K, 1)."""
    middle = kernel.shape[3] // 2
    return kernel[:, :, :, middle : middle + 1]


def convolve(x: Tensor, row: Tensor, column: Tensor, stride: tuple[int, int], variant: Variant) -> Tensor:
    """Return FuSeConv's two branches before normalisation, concatenated, from KxK depthwise convolutions.

    The filters become the middle row or column of KxK kernels that are zero elsewhere, which is the same function.
    CPU libraries have quick depthwise kernels for square filters on all channels, not for flat ones on some.

    Parameters
    ----------
    x
        (N, C, H, W).
    row, column
        Filters (rows, 1, 1, K) and (columns, 1, K, 1).
    stride, variant
        Of the layer.
    """
    half = row.shape[3] // 2
    flat, upright = F.pad(row, (0, 0, half, half)), F.pad(column, (half, half, 0, 0))
    if variant == "half":
        return F.conv2d(x, torch.cat([flat, upright]), None, stride, half, groups=x.shape[1])
    both = [F.conv2d(x, kernel, None, stride, half, groups=x.shape[1]) for kernel in (flat, upright)]
    return torch.cat(both, 1)


class FuSeConv2d(nn.Module):
    """Row and column filters in place of a depthwise convolution and its batch normalisation.

    With C input channels, *half* gives the first ``C // 2`` channels a row filter (1, K) and the other
    ``C - C // 2`` a column filter (K, 1), so an odd C has one column filter more; the concatenation has C channels.
    *Full* applies both filters to all channels; the concatenation, row filters first, has 2C channels.  Each filter
    pads ``K // 2`` zeros on its own axis only; both branches take the stride on both axes.

    The activation is applied in each branch, before the concatenation.  That is the same function as after it, and
    lets quantisation see each branch's convolution, normalisation and activation as one fused operation.

    Parameters
    ----------
    channels
        Input channels C; at least 2 for *half*, 1 for *full*.
    kernel_size
        K, odd and at least 3.
    stride
        Stride along y and x, or one number for both.
    variant
        ``"half"`` or ``"full"``.
    activation
        Elementwise module, or None for the identity.
    eps, momentum
        Of the batch normalisations.

    Attributes
    ----------
    row, column
        Branches: ``conv`` (depthwise, no bias), ``bn``, and ``act`` if there is an activation.
    out_channels
        C for *half*, 2C for *full*.

    Raises
    ------
    ValueError
        If the variant is unknown, K is even or below 3, or there are too few channels.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        stride: int | tuple[int, int] = 1,
        variant: Variant = "half",
        activation: nn.Module | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
    ) -> None:
        super().__init__()
        if variant not in get_args(Variant):
            raise ValueError(f"variant {variant!r} is unknown; use one of {', '.join(get_args(Variant))}")
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {kernel_size} must be odd and at least 3")
        least = 2 if variant == "half" else 1
        if channels < least:
            raise ValueError(f"channels {channels} are too few: {variant} needs at least {least}")
        self.channels = channels
        self.kernel_size = kernel_size
        self.stride = (stride, stride) if isinstance(stride, int) else stride
        self.variant = variant
        self.row_channels = channels // 2 if variant == "half" else channels
        self.column_channels = channels - channels // 2 if variant == "half" else channels
        self.out_channels = self.row_channels + self.column_channels
        self.row = self._branch(self.row_channels, (1, kernel_size), activation, eps, momentum)
        self.column = self._branch(self.column_channels, (kernel_size, 1), activation, eps, momentum)

    def _branch(
        self, channels: int, kernel: tuple[int, int], activation: nn.Module | None, eps: float, momentum: float | None
    ) -> nn.Sequential:
        padding = (kernel[0] // 2, kernel[1] // 2)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv"] = nn.Conv2d(channels, channels, kernel, self.stride, padding, groups=channels, bias=False)
        layers["bn"] = nn.BatchNorm2d(channels, eps=eps, momentum=momentum)
        if activation is not None:
            layers["act"] = activation
        return nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out_channels, ceil(H / stride_y), ceil(W / stride_x))."""
        if self.variant == "full":
            return torch.cat([self.row(x), self.column(x)], 1)
        split = self.row_channels
        return torch.cat([self.row(x[:, :split]), self.column(x[:, split:])], 1)

    @torch.no_grad()
    def init_from_depthwise(self, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> None:
        """Take filters from the middle row and column of a depthwise kernel, normalisation from its `bn`.

        This is the initial state of the NOS adapters (Ganesan and Kumar, arXiv 2108.11441).  The running statistics
        are the depthwise network's and only approximate: train, or recalibrate them, before use.  A bias of `conv`
        moves into the running mean.

        Raises
        ------
        ValueError
            If `conv` has another kernel size or channel count.
        """
        k = self.kernel_size
        if tuple(conv.weight.shape) != (self.channels, 1, k, k):
            raise ValueError(
                f"depthwise kernel {tuple(conv.weight.shape)} does not fit: {(self.channels, 1, k, k)} is expected"
            )
        half = self.variant == "half"
        split = self.row_channels
        rows = slice(0, split) if half else slice(None)
        columns = slice(split, None) if half else slice(None)
        for branch, part, pick in ((self.row, rows, middle_row), (self.column, columns, middle_column)):
            branch.conv.weight.copy_(pick(conv.weight[part]))
            for name in ("weight", "bias", "running_mean", "running_var"):
                source, target = getattr(bn, name), getattr(branch.bn, name)
                if source is not None:
                    target.copy_(source[part])
            if conv.bias is not None:
                branch.bn.running_mean.sub_(conv.bias[part])

    def extra_repr(self) -> str:
        """Return the variant and geometry for ``repr``."""
        return f"{self.channels}, {self.out_channels}, kernel_size={self.kernel_size}, variant={self.variant!r}"
