"""Operators that the accelerator does not execute, and what to do about it."""

from __future__ import annotations

__all__ = ["need"]

_NEEDS = {
    "mul": "only a product of a map and a (C, 1, 1) gate is known (squeeze-and-excite)",
    "sigmoid": "there is no exponential; use h-sigmoid once the hardware has it, or ReLU6",
    "silu": "there is no exponential; use ReLU6 (as the Lite networks do)",
    "gelu": "there is no exponential; use ReLU6",
    "softmax": "apply it to the network's output on the host",
    "log_softmax": "apply it to the network's output on the host",
    "max_pool2d": "max pooling has no execution mode in ISA 1; use a convolution of stride 2",
    "avg_pool2d": "only global average pooling is executed; use a convolution of stride 2",
    "batch_norm": "batch normalisation must be folded into the convolution: use sw.quant, or call eval() before export",
    "conv1d": "only 2-D convolutions are executed; add an axis of size 1",
    "conv3d": "only 2-D convolutions are executed",
    "conv_transpose2d": "transposed convolutions have no execution mode; upsample on the host",
    "matmul": "products of two activations are not executed; only convolutions and linear layers with constant weights",
    "bmm": "products of two activations are not executed; only convolutions and linear layers with constant weights",
    "sub": "subtraction is not executed; negate the weights of one branch and add",
    "add": "only tensors of one shape are added; fold a constant into a bias",
    "pad": "only zeros around lines and pixels are padded, and only in front of convolutions, which do it themselves",
    "upsample_bilinear2d": "interpolation is not executed; resize on the host",
    "upsample_nearest2d": "interpolation is not executed; resize on the host",
}
_OTHERS = (
    "supported are convolution, linear, ReLU, ReLU6, hardtanh, addition of equal shapes, concatenation, global average "
    "pooling, slices and reshapes; rewrite the layer with these"
)


def need(operator: str) -> str:
    """Return what an operator that is not executed would need, or what is supported; `operator` as ``aten.NAME``..."""
    parts = operator.split(".")
    return _NEEDS.get(parts[min(1, len(parts) - 1)].removesuffix("_"), _OTHERS)
