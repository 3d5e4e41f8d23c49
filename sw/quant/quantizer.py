"""What the hardware quantises: a torchao PT2E quantizer."""

from __future__ import annotations

import operator
from typing import Literal, get_args

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    QuantizationSpecBase,
    Quantizer,
    SharedQuantizationSpec,
)
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from sw.quant.needs import need
from sw.quant.rewrite import hoist_activations, normalise_operators, remove_dropout, remove_whole_slices

__all__ = [
    "ACTIVATION_MAX",
    "ACTIVATION_MIN",
    "WEIGHT_MAX",
    "ObserverKind",
    "RowcastQuantizer",
    "UnsupportedOperatorError",
]

aten = torch.ops.aten

ObserverKind = Literal["histogram", "minmax"]

ACTIVATION_MIN, ACTIVATION_MAX = -128, 127
WEIGHT_MAX = 127
"""Weights are symmetric: -WEIGHT_MAX to WEIGHT_MAX, so that none needs the asymmetric -128."""

_EPS = 2.0**-12
"""Smallest activation scale; keeps a constant tensor's scale a usable multiplier."""

CONVOLUTION = {aten.conv2d.default, aten.convolution.default}
MATMUL = CONVOLUTION | {aten.linear.default}
CLAMP = {aten.relu.default, aten.hardtanh.default}
CONCAT = {aten.cat.default}
CURVES = {aten.hardswish.default, aten.hardsigmoid.default}
PAD = aten.pad.default
LISTS = {aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default}
VIEWS = {
    aten.slice.Tensor,
    aten.narrow.default,
    aten.flatten.using_ints,
    aten.view.default,
    aten.reshape.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.contiguous.default,
    aten.clone.default,
    operator.getitem,
}


class UnsupportedOperatorError(ValueError):
    """An operator that neither the quantizer nor the hardware knows; the message names it and its module."""


def activation_spec(observer: ObserverKind) -> QuantizationSpec:
    """Return the specification of activations: int8, one scale and zero point per tensor."""
    kinds = {"histogram": HistogramObserver, "minmax": MinMaxObserver}
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=ACTIVATION_MIN,
        quant_max=ACTIVATION_MAX,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=kinds[observer].with_args(eps=_EPS),
    )


def weight_spec() -> QuantizationSpec:
    """Return the specification of weights: int8, one scale per output channel, zero point 0."""
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-WEIGHT_MAX,
        quant_max=WEIGHT_MAX,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver,
    )


def _only_user(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _annotate(node: Node, inputs: dict[Node, QuantizationSpecBase], output: QuantizationSpecBase | None) -> None:
    node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(
        input_qspec_map=dict(inputs), output_qspec=output, _annotated=True
    )


def _annotated(node: Node) -> bool:
    return Q_ANNOTATION_KEY in node.meta


def _shape(node: Node) -> tuple[object, ...]:
    return tuple(node.meta["val"].shape)


def _is_tensor_add(node: Node) -> bool:
    """Whether a node adds two tensors of one shape, unscaled."""
    if node.op != "call_function" or node.target is not aten.add.Tensor or node.kwargs.get("alpha", 1) != 1:
        return False
    left, right = node.args[:2]
    return isinstance(left, Node) and isinstance(right, Node) and _shape(left) == _shape(right)


def _is_global_pool(node: Node) -> bool:
    """Whether a node averages over all pixels (axes 2 and 3), keeping them as size 1 or not."""
    if node.target is aten.mean.dim:
        return node.args[1] is not None and {int(axis) % len(_shape(node.args[0])) for axis in node.args[1]} == {2, 3}
    return node.target is aten.adaptive_avg_pool2d.default and list(node.args[1]) == [1, 1]


def _is_gate(node: Node) -> bool:
    """Whether a node scales the channels of a map: (N, C, H, W) times (N, C, 1, 1), in either order."""
    if node.target is not aten.mul.Tensor or not all(isinstance(operand, Node) for operand in node.args):
        return False
    gate, source = sorted((_shape(operand) for operand in node.args), key=lambda shape: shape[2:] != (1, 1))
    return len(source) == len(gate) == 4 and gate == (*source[:2], 1, 1)


def _is_padding(node: Node) -> bool:
    """Whether a node puts zeros around the pixels of a map, for convolutions alone, which then pad themselves."""
    if node.target is not PAD:
        return False
    pads, mode, value = (*node.args[1:], *("constant", None)[len(node.args) - 2 :])
    edges = len(pads) in (2, 4) and all(isinstance(pad, int) and pad >= 0 for pad in pads)
    zeros = mode == "constant" and value in (None, 0)
    return edges and zeros and all(user.target in CONVOLUTION and user.args[0] is node for user in node.users)


class RowcastQuantizer(Quantizer):  # type: ignore[misc]
    """Annotates what the accelerator's output stage writes as int8, and nothing in between.

    * Convolution or linear, alone or with ReLU / ReLU6 / hardtanh behind it: input, weight and the last result.  The
      convolution's own result has no quantisation of its own.
    * Such an operation without clamp whose result goes only into an addition of two tensors of one shape: the
      addition (and a clamp that alone follows it) joins, and its result is quantised.  The other operand is an int8
      tensor.  If both operands are such operations, the later one joins and the earlier one is quantised by itself.
      This is ``q = clamp(round(conv * M + (r - z_r) * m) + z)`` of :mod:`hw.spec.numerics`.
    * Other additions, clamps, global average pooling, h-swish, h-sigmoid and channel gates (squeeze-and-excite): inputs
      and result, each with its own range.
    * Zeros around the input of convolutions (``nn.ZeroPad2d``): the input alone, in front of them, because they become
      the convolutions' padding.  0 is always representable (the zero point).
    * Concatenation: all inputs and the result share one range.  Slices, chunks, splits and reshapes share their
      input's.  So none of them requantises: the producers write straight into the concatenated tensor.

    Activations are int8 with a per-tensor scale and zero point; weights int8, symmetric (-127..127), per output
    channel; biases stay floating point (the compiler makes them int32).

    Parameters
    ----------
    observer
        How ranges come from calibration: ``"histogram"`` minimises the squared error and cuts outliers off;
        ``"minmax"`` takes the extremes.

    Raises
    ------
    ValueError
        If the observer is unknown.
    """

    def __init__(self, observer: ObserverKind = "histogram") -> None:
        super().__init__()
        if observer not in get_args(ObserverKind):
            raise ValueError(f"observer {observer!r} is unknown; use one of {', '.join(get_args(ObserverKind))}")
        self.activation = activation_spec(observer)
        self.weight = weight_spec()

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        """Write synonyms one way, drop operations without effect, move clamps ahead of concatenations."""
        normalise_operators(model)
        remove_dropout(model)
        remove_whole_slices(model)
        hoist_activations(model, CLAMP, CONCAT, MATMUL)
        return model

    def annotate(self, model: GraphModule) -> GraphModule:
        """Annotate every node the hardware executes."""
        nodes = [node for node in model.graph.nodes if node.op == "call_function"]
        # in reverse, so that of two convolutions into one addition the later claims it
        for node in reversed(nodes):
            if node.target in MATMUL:
                self._matmul(node)
        for node in nodes:
            if _annotated(node):
                continue
            alone = node.target in CLAMP or node.target in CURVES
            if alone or _is_tensor_add(node) or _is_global_pool(node) or _is_gate(node):
                _annotate(node, dict.fromkeys(node.all_input_nodes, self.activation), self.activation)
            elif node.target in CONCAT:
                self._concat(node)
            elif node.target in LISTS or _is_padding(node):
                _annotate(node, {node.all_input_nodes[0]: self.activation}, None)
            elif node.target in VIEWS:
                self._view(node)
        return model

    def _matmul(self, node: Node) -> None:
        source, weight = node.args[:2]
        assert isinstance(source, Node) and isinstance(weight, Node)
        inputs = {weight: self.weight} if _is_padding(source) else {source: self.activation, weight: self.weight}
        _annotate(node, inputs, None)
        last = node
        user = _only_user(last)
        if user is not None and not _annotated(user) and _is_tensor_add(user) and user.args[0] is not user.args[1]:
            other = next(operand for operand in user.all_input_nodes if operand is not node)
            _annotate(user, {other: self.activation}, None)
            last, user = user, _only_user(user)
        if user is not None and not _annotated(user) and user.target in CLAMP:
            _annotate(user, {}, None)
            last = user
        last.meta[Q_ANNOTATION_KEY].output_qspec = self.activation

    def _concat(self, node: Node) -> None:
        first, *rest = node.all_input_nodes
        shared = SharedQuantizationSpec((first, node))
        _annotate(node, {first: self.activation, **dict.fromkeys(rest, shared)}, shared)

    def _view(self, node: Node) -> None:
        source = node.all_input_nodes[0]
        if node.target is operator.getitem:
            # the list has no range of its own: share with the edge into the operation that made it
            _annotate(node, {}, SharedQuantizationSpec((source.all_input_nodes[0], source)))
            return
        _annotate(node, {source: self.activation}, SharedQuantizationSpec((source, node)))

    def validate(self, model: GraphModule) -> None:
        """Refuse a graph with an operation that would stay in floating point.

        Raises
        ------
        UnsupportedOperatorError
            Names the operation and the module it comes from.
        """
        for node in model.graph.nodes:
            if node.op == "call_function" and not _annotated(node):
                raise UnsupportedOperatorError(
                    f"layer {module_path(node)!r}: operator {node.target} is not supported by the accelerator: "
                    f"{need(str(node.target))}"
                )


def module_path(node: Node) -> str:
    """Return the path of the module a node was exported from, or the node's name if that is not known."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if path]
    return paths[-1] if paths else node.name
