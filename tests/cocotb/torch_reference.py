"""PyTorch references in exact integer arithmetic: convolutions of integer-valued float64 tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sw.nn.fuse import FuSeConv2d, Variant


def double(value: np.ndarray) -> torch.Tensor:
    """Integers as float64."""
    return torch.from_numpy(np.ascontiguousarray(value)).to(torch.float64)


def exact(value: torch.Tensor) -> np.ndarray:
    """Back to int64; integers below 2**53 are exact in float64."""
    value = value.detach()
    rounded = value.round()
    assert torch.equal(value, rounded)
    return rounded.to(torch.int64).numpy()


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the integer matrix product (batched)."""
    return exact(torch.matmul(double(a), double(b)))


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> np.ndarray:
    """Return the integer convolution of x (C, H, W) with w (O, C/groups, KH, KW)."""
    return exact(nn.functional.conv2d(double(x)[None], double(w), None, stride, padding, 1, groups))[0]


def fuse_conv(x: np.ndarray, row: np.ndarray, column: np.ndarray, *, variant: Variant, stride: int = 1) -> np.ndarray:
    """Return our FuSeConv module's output for x (C, H, W) and integer filters row (Cr, K), column (Cc, K).

    Batch normalisation is the identity (eps 0, fresh statistics), so all values stay integers.
    """
    taps = row.shape[1]
    module = FuSeConv2d(len(x), taps, stride=stride, variant=variant, eps=0.0).double().eval()
    with torch.no_grad():
        module.row.conv.weight.copy_(double(row)[:, None, None, :])
        module.column.conv.weight.copy_(double(column)[:, None, :, None])
        return exact(module(double(x)[None]))[0]
