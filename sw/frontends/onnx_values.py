"""What an ONNX tensor stands for while a network is read.

Additions, products and bounds by numbers are not turned into layers one by one: they accumulate in a piece of
:mod:`sw.quant.piecewise`, whose base is a tensor of the layer list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sw.quant.piecewise import Piece

__all__ = ["HostStep", "Padded", "Tail", "Value"]


@dataclass(frozen=True)
class Padded:
    """A tensor with zeros around it: `pads` are (top, left, bottom, right)."""

    base: str
    pads: tuple[int, int, int, int]
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostStep:
    """An operation behind the network's last layer that is left to the host.

    Parameters
    ----------
    name, op
        ONNX node and operator type.
    axis
        Axis of a softmax or argmax.
    flat
        Softmax before opset 13: it takes all axes from `axis` on together.
    keepdims
        Argmax: whether the axis stays, with size 1.
    """

    name: str
    op: str
    axis: int = 0
    flat: bool = False
    keepdims: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        """Compute it."""
        match self.op:
            case "ArgMax":
                return torch.argmax(x, self.axis, self.keepdims)
            case "Sigmoid":
                return torch.sigmoid(x)
            case "Softmax" | "LogSoftmax":
                kind = torch.softmax if self.op == "Softmax" else torch.log_softmax
                return kind(x.flatten(self.axis), -1).reshape(x.shape) if self.flat else kind(x, self.axis)
        raise NotImplementedError(self.op)


@dataclass(frozen=True)
class Tail:
    """A value that only the host computes, from a tensor of the layer list."""

    base: str
    steps: tuple[HostStep, ...] = ()


Value = npt.NDArray[Any] | np.generic | Piece[str] | Padded | Tail
