"""What the hardware quantises: a torchao PT2E quantizer."""

from __future__ import annotations

import math
import operator

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import (
    FakeQuantize,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    QuantizationSpecBase,
    Quantizer,
    SharedQuantizationSpec,
)
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from sw.defaults import DEFAULT_OBSERVER, OBSERVERS, ObserverKind
from sw.quant.arguments import arguments, pair
from sw.quant.needs import need
from sw.quant.observers import PercentileObserver, ResultObserver
from sw.quant.rewrite import (
    free_batch,
    hoist_activations,
    normalise_operators,
    normalise_pools,
    remove_dropout,
    remove_whole_slices,
)
from sw.quant.spellings import recognise_curves

__all__ = [
    "ACTIVATION_MAX",
    "ACTIVATION_MIN",
    "WEIGHT_MAX",
    "RowcastQuantizer",
    "UnsupportedOperatorError",
]

aten = torch.ops.aten

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
MAX_POOL = aten.max_pool2d.default
AVG_POOL = aten.avg_pool2d.default
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


_OBSERVERS = {"histogram": HistogramObserver, "percentile": PercentileObserver, "minmax": MinMaxObserver}


def activation_spec(observer: ObserverKind | None, *, training: bool = False) -> QuantizationSpec:
    """Return the specification of activations: int8, one scale and zero point per tensor.

    Without observer, of the network's results.  In training the ranges of all others are running averages of the
    batches' extremes.
    """
    if observer is None:
        ranges = ResultObserver
    else:
        ranges = MovingAverageMinMaxObserver if training else _OBSERVERS[observer]
    maker = FakeQuantize.with_args(observer=ranges, eps=_EPS) if training else ranges.with_args(eps=_EPS)
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=ACTIVATION_MIN,
        quant_max=ACTIVATION_MAX,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=maker,
    )


def weight_spec(*, training: bool = False) -> QuantizationSpec:
    """Return the specification of weights: int8, one scale per output channel, zero point 0."""
    maker = PerChannelMinMaxObserver
    if training:
        # an average of nothing but the present: weights change, and their range with them
        present = MovingAveragePerChannelMinMaxObserver.with_args(averaging_constant=1.0)
        maker = FakeQuantize.with_args(observer=present)
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-WEIGHT_MAX,
        quant_max=WEIGHT_MAX,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=maker,
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


def _is_max_pool(node: Node) -> bool:
    """Whether a node takes maxima over windows of neighbouring places."""
    if node.target is not MAX_POOL:
        return False
    (*_, dilation) = arguments(node, "input kernel_size stride padding dilation", dilation=1)
    return pair(dilation) == (1, 1)


def _is_avg_pool(node: Node) -> bool:
    """Whether a node averages over windows of which each divides by all its places."""
    if node.target is not AVG_POOL:
        return False
    _, kernel, stride, padding, ceil, counted, divisor = arguments(
        node,
        "input kernel_size stride padding ceil_mode count_include_pad divisor_override",
        padding=0,
        count_include_pad=True,
    )
    sizes, axes = _shape(node.args[0])[2:], zip(*map(pair, (kernel, stride or kernel, padding)), strict=True)
    inside = all((size + 2 * pad - taps) % step == 0 for size, (taps, step, pad) in zip(sizes, axes, strict=True))
    return divisor is None and (counted or not any(pair(padding))) and (inside or not ceil)


def _starts_at_zero(node: Node) -> bool:
    """Whether a node is a two-sided clamp from 0."""
    return node.target is aten.hardtanh.default and arguments(node, "input min_val", min_val=-1.0)[1] == 0


def _is_padding(node: Node) -> bool:
    """Whether a node pads the pixels of a map for windows alone, which then pad themselves.

    Zeros for convolutions and averages that count them, -inf for maxima.
    """
    if node.target is not PAD:
        return False
    _, pads, mode, value = arguments(node, "input pad mode value", mode="constant")
    edges = len(pads) in (2, 4) and all(isinstance(pad, int) and pad >= 0 for pad in pads)
    if not edges or mode != "constant":
        return False
    if value == -math.inf:
        return all(_is_max_pool(user) for user in node.users)
    users = all((user.target in CONVOLUTION or _is_avg_pool(user)) and user.args[0] is node for user in node.users)
    return value in (None, 0) and users


class RowcastQuantizer(Quantizer):  # type: ignore[misc]
    """Annotates what the accelerator's output stage writes as int8, and nothing in between.

    * Convolution or linear, alone or with ReLU / ReLU6 / hardtanh, h-swish or h-sigmoid behind it: input, weight and
      the last result.  The convolution's own result has no quantisation of its own.
    * A convolution without such an activation whose result goes only into an addition of two tensors of one shape: the
      addition (and an activation that alone follows it) joins, and its result is quantised.  The other operand is an
      int8 tensor.  If both operands are such operations, the later one joins, the earlier one is quantised by itself.
      This is ``q = clamp(round(conv * M + (r - z_r) * m) + z)`` of :mod:`hw.spec.numerics`.
    * Channel gates (squeeze-and-excite), alone or with h-swish or a clamp from 0 behind them: both inputs and the last
      result.  Behind a clamp that result's range starts at 0, so that saturation is the clamp.
    * Other additions, clamps, h-swish, h-sigmoid and average pooling: inputs and result, each with its own range.
    * Zeros around the input of convolutions (``nn.ZeroPad2d``) and average pooling, -inf around that of max pooling:
      the input alone, in front of them, because they become the windows' padding.  0 is always representable (the zero
      point).
    * Max pooling: input and result share one range.
    * Concatenation: all inputs and the result share one range.  Slices, chunks, splits and reshapes share their
      input's.  So none of them requantises: the producers write straight into the concatenated tensor.

    Activations are int8 with a per-tensor scale and zero point; weights int8, symmetric (-127..127), per output
    channel; biases stay floating point (the compiler makes them int32).

    Parameters
    ----------
    observer
        How ranges come from calibration: ``"histogram"`` minimises the squared error and cuts outliers off;
        ``"percentile"`` leaves out the same share of the values at either end, see
        :class:`~sw.quant.observers.PercentileObserver`; ``"minmax"`` takes the extremes.  The network's results always
        take the extremes and some room, see :class:`~sw.quant.observers.ResultObserver`.
    training
        Whether to insert fake quantisation for training (:mod:`sw.quant.qat`) instead of observers.

    Raises
    ------
    ValueError
        If the observer is unknown.
    """

    def __init__(self, observer: ObserverKind = DEFAULT_OBSERVER, *, training: bool = False) -> None:
        super().__init__()
        if observer not in OBSERVERS:
            raise ValueError(f"observer {observer!r} is unknown; use one of {', '.join(OBSERVERS)}")
        self.activation = activation_spec(observer, training=training)
        self.result = activation_spec(None, training=training)
        self.weight = weight_spec(training=training)

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        """Write synonyms one way, drop operations without effect, move activations ahead of concatenations."""
        normalise_operators(model)
        normalise_pools(model)
        free_batch(model)
        recognise_curves(model)
        remove_dropout(model)
        remove_whole_slices(model)
        hoist_activations(model, CLAMP, CURVES, CONCAT, MATMUL)
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
            alone = node.target in CLAMP or node.target in CURVES or _is_tensor_add(node)
            if _is_gate(node):
                self._gate(node)
            elif alone or _is_global_pool(node) or _is_avg_pool(node):
                padded = [source for source in node.all_input_nodes if _is_padding(source)]
                inputs = [source for source in node.all_input_nodes if source not in padded]
                _annotate(node, dict.fromkeys(inputs, self.activation), self.activation)
            elif _is_max_pool(node):
                self._max_pool(node)
            elif node.target in CONCAT:
                self._concat(node)
            elif node.target in LISTS or _is_padding(node):
                _annotate(node, {node.all_input_nodes[0]: self.activation}, None)
            elif node.target in VIEWS:
                self._view(node)
        self._results(model)
        return model

    def _results(self, model: GraphModule) -> None:
        """Give the network's outputs ranges of their own kind, where they do not share another tensor's."""
        (output,) = (node for node in model.graph.nodes if node.op == "output")
        for node in output.all_input_nodes:
            if _annotated(node) and node.meta[Q_ANNOTATION_KEY].output_qspec is self.activation:
                node.meta[Q_ANNOTATION_KEY].output_qspec = self.result

    def _matmul(self, node: Node) -> None:
        source, weight = node.args[:2]
        assert isinstance(source, Node) and isinstance(weight, Node)
        inputs = {weight: self.weight} if _is_padding(source) else {source: self.activation, weight: self.weight}
        _annotate(node, inputs, None)
        last = node
        user = _only_user(last)
        joins = user is not None and node.target in CONVOLUTION and not _annotated(user)
        if joins and _is_tensor_add(user) and user.args[0] is not user.args[1]:
            other = next(operand for operand in user.all_input_nodes if operand is not node)
            _annotate(user, {other: self.activation}, None)
            last, user = user, _only_user(user)
        if user is not None and not _annotated(user) and (user.target in CLAMP or user.target in CURVES):
            _annotate(user, {}, None)
            last = user
        last.meta[Q_ANNOTATION_KEY].output_qspec = self.activation

    def _gate(self, node: Node) -> None:
        _annotate(node, dict.fromkeys(node.all_input_nodes, self.activation), None)
        user = _only_user(node)
        joins = (aten.relu.default, aten.hardswish.default)
        if user is not None and (user.target in joins or _starts_at_zero(user)):
            _annotate(user, {}, None)
            node = user
        node.meta[Q_ANNOTATION_KEY].output_qspec = self.activation

    def _max_pool(self, node: Node) -> None:
        source = node.args[0]
        assert isinstance(source, Node)
        if _is_padding(source):
            # padding has no result of its own: share with the edge into it
            _annotate(node, {}, SharedQuantizationSpec((source.args[0], source)))
        else:
            _annotate(node, {source: self.activation}, SharedQuantizationSpec((source, node)))

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
