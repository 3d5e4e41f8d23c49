"""FuSeConv2d against plain depthwise convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw.nn.fuse import FuSeConv2d, middle_column, middle_row

torch.set_num_threads(1)


def randomise(bn: nn.BatchNorm2d) -> None:
    """Give a normalisation statistics and weights that a wrong channel or a forgotten term would show."""
    nn.init.uniform_(bn.weight, 0.5, 1.5)
    nn.init.uniform_(bn.bias, -1, 1)
    nn.init.uniform_(bn.running_mean, -1, 1)
    nn.init.uniform_(bn.running_var, 0.5, 2)


def normalise(x: Tensor, bn: nn.BatchNorm2d) -> Tensor:
    return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps)


def embed(filters: Tensor, size: int) -> Tensor:
    """Put 1-D filters into the middle row or column of otherwise zero KxK kernels."""
    kernel = torch.zeros(len(filters), 1, size, size)
    middle = size // 2
    if filters.shape[2] == 1:
        kernel[:, :, middle, :] = filters[:, :, 0, :]
    else:
        kernel[:, :, :, middle] = filters[:, :, :, 0]
    return kernel


@pytest.mark.parametrize("variant", ["half", "full"])
@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "size"),
    [
        (8, 3, 1, (9, 12)),
        (8, 5, 2, (11, 8)),
        (7, 3, 2, (8, 7)),
        (5, 7, (2, 1), (9, 9)),
        (2, 3, (1, 2), (4, 5)),
    ],
)
def test_equals_depthwise_convolution_with_one_row_or_column(variant, channels, kernel, stride, size) -> None:
    torch.manual_seed(channels)
    fuse = FuSeConv2d(channels, kernel, stride=stride, variant=variant, activation=nn.ReLU6()).eval()
    randomise(fuse.row.bn)
    randomise(fuse.column.bn)
    x = torch.randn(2, channels, *size) * 3
    split = channels // 2
    row_x, column_x = (x[:, :split], x[:, split:]) if variant == "half" else (x, x)
    expected = [
        F.relu6(
            normalise(
                F.conv2d(
                    part, embed(branch.conv.weight, kernel), stride=stride, padding=kernel // 2, groups=part.shape[1]
                ),
                branch.bn,
            )
        )
        for part, branch in ((row_x, fuse.row), (column_x, fuse.column))
    ]
    y = fuse(x)
    torch.testing.assert_close(y, torch.cat(expected, 1), rtol=1e-5, atol=1e-5)
    assert y.shape[1] == fuse.out_channels == (channels if variant == "half" else 2 * channels)


def test_odd_channels_have_one_column_filter_more() -> None:
    fuse = FuSeConv2d(7, 3)
    assert fuse.row.conv.weight.shape == (3, 1, 1, 3)
    assert fuse.column.conv.weight.shape == (4, 1, 3, 1)
    assert fuse(torch.zeros(1, 7, 5, 5)).shape == (1, 7, 5, 5)


def test_no_bias_and_parameters() -> None:
    fuse = FuSeConv2d(16, 5, variant="full")
    assert fuse.row.conv.bias is None and fuse.column.conv.bias is None
    assert sum(p.numel() for p in fuse.parameters()) == 2 * 16 * (5 + 2)


def test_middle_picks_the_kernels_middle() -> None:
    kernel = torch.arange(50.0).reshape(2, 1, 5, 5)
    assert middle_row(kernel).flatten(1).tolist() == [[10, 11, 12, 13, 14], [35, 36, 37, 38, 39]]
    assert middle_column(kernel).flatten(1).tolist() == [[2, 7, 12, 17, 22], [27, 32, 37, 42, 47]]


@pytest.mark.parametrize("bias", [False, True])
def test_init_reproduces_kernels_that_are_rows_and_columns(bias: bool) -> None:
    torch.manual_seed(1)
    conv, bn = nn.Conv2d(9, 9, 5, 2, 2, groups=9, bias=bias), nn.BatchNorm2d(9).eval()
    randomise(bn)
    with torch.no_grad():
        conv.weight[:4] = embed(middle_row(conv.weight[:4]), 5)
        conv.weight[4:] = embed(middle_column(conv.weight[4:]), 5)
    fuse = FuSeConv2d(9, 5, stride=2).eval()
    fuse.init_from_depthwise(conv, bn)
    x = torch.randn(2, 9, 10, 13)
    torch.testing.assert_close(fuse(x), bn(conv(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 8, "kernel_size": 4}, "kernel_size 4 must be odd"),
        ({"channels": 8, "kernel_size": 1}, "kernel_size 1 must be odd and at least 3"),
        ({"channels": 1, "kernel_size": 3}, "channels 1 are too few: half needs at least 2"),
        ({"channels": 8, "kernel_size": 3, "variant": "third"}, "variant 'third' is unknown"),
    ],
)
def test_refuses(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        FuSeConv2d(**arguments)


def test_init_refuses_another_shape() -> None:
    with pytest.raises(ValueError, match=r"\(8, 1, 5, 5\) does not fit: \(8, 1, 3, 3\)"):
        FuSeConv2d(8, 3).init_from_depthwise(nn.Conv2d(8, 8, 5, groups=8), nn.BatchNorm2d(8))
