"""Biases that take back the shift which quantisation causes in a channel.

Rounded weights and inputs shift a convolution's output by more than its resolution, above all in depthwise layers,
where a channel has few weights whose errors do not cancel.  The shift of each channel is measured on calibration
pictures and subtracted from the bias, layer by layer: Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", ICCV 2019, section 4.2, in the empirical form of its appendix D.

Two things differ from there.  Errors count only where the activation behind the convolution lets them through (for
ReLU6 neither below 0 nor above 6): what it cuts off has no effect.  And the shift is the errors' median, not their
mean: clipping a few outliers at the input moves the mean, and a bias cannot undo that without shifting all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from sw.quant.constants import constant
from sw.quant.quantizer import CLAMP, MATMUL

__all__ = ["correct_biases"]

aten = torch.ops.aten

_SAMPLES = 8192
"""Values of a channel that its median is taken of, spread over pictures and pixels."""

_LIVE = {
    aten.relu.default: (0.0, math.inf),
    aten.hardswish.default: (-3.0, math.inf),
    aten.hardsigmoid.default: (-3.0, 3.0),
}


@torch.no_grad()
def correct_biases(model: GraphModule, prepared: GraphModule, pictures: Tensor) -> None:
    """Correct the biases, layer by layer: each for inputs that come from corrected layers.

    A layer without a bias (and without a batch normalisation, which would have made one) stays as it is.

    Parameters
    ----------
    model
        q/dq graph; its biases are changed in place.
    prepared
        What it was converted from: the floating-point graph, whose observers are left alone.
    pictures
        (N, C, H, W).  All go through both graphs together, so whole layers' outputs of all are held in memory.
    """
    _Correction(model, prepared, pictures).run(pictures)


class _Float(Interpreter):
    """Runs a graph without its observers."""

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[0]

    def layers(self, pictures: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield names and outputs of convolutions and linear layers, in order, each when it is computed."""
        self.args_iter = iter([pictures])
        for node in self.graph.nodes:
            self.env[node] = self.run_node(node)
            if node.target in MATMUL:
                yield node.name, self.env[node]
            for dead in self.user_to_last_uses.get(node, []):
                del self.env[dead]


class _Correction(Interpreter):
    """Runs a q/dq graph; corrects each bias, and the output with it, before later layers see the output."""

    def __init__(self, model: GraphModule, prepared: GraphModule, pictures: Tensor) -> None:
        super().__init__(model)
        self.wanted = _Float(prepared).layers(pictures)

    def run_node(self, n: Node) -> Any:
        found = super().run_node(n)
        if n.target not in MATMUL:
            return found
        name, wanted = next(self.wanted)
        assert name == n.name
        if len(n.args) < 3 or n.args[2] is None:
            return found
        shift = _shift(_by_channel(found), _by_channel(wanted), *_live_range(n))
        constant(self.module, n.args[2]).sub_(shift)
        return found - shift.reshape(-1, *[1] * (found.ndim - 2))


def _live_range(node: Node) -> tuple[float, float]:
    """Return the bounds within which an output matters to the activation that alone follows."""
    user = next(iter(node.users))
    if len(node.users) > 1 or user.target not in (*CLAMP, *_LIVE):
        return -math.inf, math.inf
    if user.target in _LIVE:
        return _LIVE[user.target]
    low, high = (*user.args[1:], *(-1.0, 1.0)[len(user.args) - 1 :])
    return float(low), float(high)


def _by_channel(value: Tensor) -> Tensor:
    """Return the samples of each channel: (N, C, ...) as (C, at most _SAMPLES)."""
    values = value.transpose(0, 1).flatten(1)
    # an odd step does not stay in the same columns of a map of even width
    step = math.ceil(values.shape[1] / _SAMPLES) | 1
    return values[:, ::step]


def _shift(found: Tensor, wanted: Tensor, low: float, high: float) -> Tensor:
    """Return by how much each channel lies too high, where it matters; 0 for a channel that never matters."""
    found, wanted = found.clamp(low, high), wanted.clamp(low, high)
    same_end = (found == wanted) & ((found == low) | (found == high))
    errors = torch.where(same_end, math.nan, found - wanted)
    return errors.nanmedian(1).values.nan_to_num(0.0)
