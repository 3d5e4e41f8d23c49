"""Weight scales so large that biases, whole multiples of input scale times weight scale, fit the accumulator."""

from __future__ import annotations

import torch
from torch.fx import GraphModule

from hw.spec.numerics import NUMERICS
from sw.quant.constants import constant
from sw.quant.quantizer import MATMUL, PAD

__all__ = ["fit_biases"]

_DEQUANTISE = torch.ops.quantized_decomposed.dequantize_per_tensor.default
_DEQUANTISE_CHANNELS = torch.ops.quantized_decomposed.dequantize_per_channel.default
_LARGEST = 1 << (NUMERICS.bias_width - 2)
"""Of a bias; the other half of the range is for the sums of products."""


def fit_biases(model: GraphModule) -> None:
    """Raise weight scales, per channel, where the bias would overflow; the weights are rounded anew.

    Such channels have next to no weights: batch normalisation with a scale of almost 0 makes them, and their result is
    the bias.  The weights' new rounding error is at most ``bias / 2**31`` per unit of input, far below the output's
    resolution.

    Parameters
    ----------
    model
        q/dq graph; changed in place.
    """
    for node in model.graph.nodes:
        if node.op != "call_function" or node.target not in MATMUL or len(node.args) < 3:
            continue
        source, weight, bias = node.args[:3]
        if source.target is PAD:
            source = source.args[0]
        if bias is None or source.target is not _DEQUANTISE or weight.target is not _DEQUANTISE_CHANNELS:
            continue
        integers, scales = (constant(model, operand) for operand in weight.args[:2])
        least = constant(model, bias).abs() / (float(source.args[1]) * _LARGEST)
        widened = torch.maximum(scales, least.to(scales.dtype))
        if torch.equal(widened, scales):
            continue
        with torch.no_grad():
            ratio = (scales / widened).reshape(-1, *[1] * (integers.ndim - 1))
            integers.copy_(torch.round(integers * ratio))
            scales.copy_(widened)

