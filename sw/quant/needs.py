"""Operators that the accelerator does not execute, and what to do about it: the one home of these texts."""

from __future__ import annotations

__all__ = ["need", "onnx_need"]

_EXPONENTIAL = "there is no exponential in the hardware; retrain with h-sigmoid, h-swish or ReLU6"
_HOST = "it needs an exponential; apply it to the network's output on the host"
_LEAK = "the output stage has one slope; use ReLU, ReLU6 or another clamp"
_NORM = "statistics of the input itself are not executed; use batch normalisation, which folds into the convolution"
_PRODUCT = "products of two activations are not executed; only convolutions and linear layers with constant weights"
_RECURRENT = "recurrent layers have no execution mode; run them on the host"
_RUNTIME = "control flow that depends on values is not executed; export the network with fixed control flow"
_INTERPOLATION = "there is no interpolation in the hardware; resize on the host"
_PIXELS = "pixels are not rearranged; do it on the host, or use a convolution of stride 2"

_NEEDS = {
    "mul": "only a product of a map and a (C, 1, 1) gate is known (squeeze-and-excite), or h-swish's",
    "div": "there is no division; fold a constant into a convolution's weights",
    "sub": "subtraction is not executed; negate the weights of one branch and add",
    "add": "only tensors of one shape are added; fold a constant into a bias",
    "sigmoid": _EXPONENTIAL,
    "silu": f"{_EXPONENTIAL} (as the Lite networks do)",
    "gelu": _EXPONENTIAL,
    "elu": _EXPONENTIAL,
    "mish": _EXPONENTIAL,
    "softplus": _EXPONENTIAL,
    "tanh": _EXPONENTIAL,
    "exp": _EXPONENTIAL,
    "erf": _EXPONENTIAL,
    "softmax": _HOST,
    "log_softmax": _HOST,
    "leaky_relu": _LEAK,
    "prelu": _LEAK,
    "max_pool2d": "only windows of neighbouring places (dilation 1) are executed; use another window",
    "max_pool2d_with_indices": "only the maxima are computed, not their indices; use max_pool2d",
    "avg_pool2d": (
        "only windows that divide by all their places are executed; use count_include_pad=True or no padding, "
        "no ceil_mode beyond the map and no divisor_override"
    ),
    "adaptive_avg_pool2d": "only sizes that divide the map's are executed, as windows without overlap; choose such one",
    "adaptive_max_pool2d": "windows that follow from a size have no execution mode; use max_pool2d with a window",
    "amax": "the maximum over axes has no execution mode; use max_pool2d with a window of the map's size",
    "mean": "only the mean over lines and pixels (axes 2 and 3) together is executed: global average pooling",
    "batch_norm": "batch normalisation must be folded into the convolution: use sw.quant, or call eval() before export",
    "dropout": "dropout was exported in training mode; call eval() before export",
    "layer_norm": _NORM,
    "group_norm": _NORM,
    "instance_norm": _NORM,
    "local_response_norm": _NORM,
    "conv1d": "only 2-D convolutions are executed; add an axis of size 1",
    "conv3d": "only 2-D convolutions are executed",
    "conv_transpose2d": "transposed convolutions have no execution mode; upsample on the host",
    "matmul": _PRODUCT,
    "bmm": _PRODUCT,
    "scaled_dot_product_attention": _PRODUCT,
    "lstm": _RECURRENT,
    "gru": _RECURRENT,
    "pad": (
        "only zeros around lines and pixels are padded, and only in front of convolutions and average pooling, which "
        "do it themselves; or -inf in front of max pooling"
    ),
    "gather": "only channel ranges (slices, splits) are addressed; replace the indexing with them",
    "index": "only channel ranges (slices, splits) are addressed; replace the indexing with them",
    "pixel_shuffle": _PIXELS,
    "pixel_unshuffle": _PIXELS,
    "upsample_bilinear2d": _INTERPOLATION,
    "upsample_nearest2d": _INTERPOLATION,
    "cond": _RUNTIME,
}
_OTHERS = (
    "supported are convolution, linear, ReLU, ReLU6, hardtanh, h-swish, h-sigmoid, addition of equal shapes, products "
    "with a gate per channel, concatenation, maximum and average pooling, slices and reshapes; rewrite the layer with "
    "these"
)

_ONNX = {
    "Tanh": "tanh",
    "Exp": "exp",
    "Erf": "erf",
    "Gelu": "gelu",
    "Elu": "elu",
    "Selu": "elu",
    "Celu": "elu",
    "Swish": "silu",
    "Softplus": "softplus",
    "Mish": "mish",
    "LeakyRelu": "leaky_relu",
    "PRelu": "prelu",
    "Resize": "upsample_bilinear2d",
    "Upsample": "upsample_bilinear2d",
    "ConvTranspose": "conv_transpose2d",
    "InstanceNormalization": "instance_norm",
    "LayerNormalization": "layer_norm",
    "GroupNormalization": "group_norm",
    "LRN": "local_response_norm",
    "If": "cond",
    "Loop": "cond",
    "Scan": "cond",
    "LSTM": "lstm",
    "GRU": "gru",
    "RNN": "gru",
    "Gather": "gather",
    "GatherElements": "gather",
    "GatherND": "gather",
    "DepthToSpace": "pixel_shuffle",
    "SpaceToDepth": "pixel_unshuffle",
    "ReduceMax": "amax",
    "Einsum": "matmul",
    "Attention": "matmul",
}
"""ONNX operator type to its counterpart above."""


def need(operator: str) -> str:
    """Return what an operator that is not executed would need, or what is supported; `operator` as ``aten.NAME``..."""
    parts = operator.split(".")
    return _NEEDS.get(parts[min(1, len(parts) - 1)].removesuffix("_"), _OTHERS)


def onnx_need(operator: str) -> str:
    """Return the same for an ONNX operator type."""
    return _NEEDS[_ONNX[operator]] if operator in _ONNX else f"{_OTHERS}, or cut the network before it"
