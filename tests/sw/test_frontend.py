"""Front end: PT2E graphs of small networks and of the trained digits networks, down to the simulator's bytes."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from hw.spec.config import PRESETS
from hw.spec.program import TensorSpec
from sim.iss import IssBackend
from sw.compiler import CompileError, compile_graph
from sw.compiler.ir import (
    Activation,
    Add,
    AvgPool,
    ChannelScale,
    Concat,
    Conv,
    GlobalAvgPool,
    Linear,
    MaxPool,
    Requantise,
    Reshape,
    Slice,
)
from sw.frontends.networks import QuantisedNetwork, quantised_network
from sw.frontends.torch_export import import_program
from sw.nn.digits import digits_data
from sw.nn.fuse import FuSeConv2d
from sw.quant import export_program, quantise
from sw.regions import quantise_input
from tests.sw.qdq import agrees, compare

q_ops = torch.ops.quantized_decomposed
INT8 = (-128, 127, torch.int8)


def quantised(model: nn.Module, *shape: int, seed: int = 0):
    """A small network calibrated with noise, exported for batch size 1."""
    torch.manual_seed(seed)
    model = model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    data = torch.randn(16, *shape)
    module = quantise(model, (data[:1],), [data], observer="minmax")
    return export_program(module, (data[:1],)), data


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(5, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.fuse = FuSeConv2d(8, 3, variant="half", activation=nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(8, 5, 1, bias=False), nn.BatchNorm2d(5))
        self.down = nn.Conv2d(5, 6, 3, (2, 1), 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.project(self.fuse(self.expand(x)))
        return self.head(torch.flatten(self.pool(torch.relu(self.down(x))), 1))


def test_a_block_is_read_layer_by_layer() -> None:
    exported, data = quantised(Block(), 5, 9, 11)
    graph = import_program(exported, name="block", meta={"classes": ["a"]})
    kinds = [type(op) for op in graph.ops]
    assert kinds.count(Conv) == 5 and kinds.count(Slice) == 2 and Add not in kinds and Requantise not in kinds
    assert kinds[-2:] == [GlobalAvgPool, Linear]
    by_name = {op.name: op for op in graph.ops}
    project, row, down = by_name["project.0"], by_name["fuse.row.conv"], by_name["down"]
    assert isinstance(project, Conv) and project.residual == "x" and graph["project.0"].shape == (5, 9, 11)
    assert isinstance(row, Conv) and row.groups == 4 and row.kernel == (1, 3) and row.padding == (0, 1, 0, 1)
    assert isinstance(down, Conv) and down.stride == (2, 1) and graph["down"].shape == (6, 5, 11)
    assert graph.meta["classes"] == ["a"] and graph.inputs == ("x",) and graph.outputs == ("head",)
    for preset in ("tiny", "edge8"):
        worst = compare(exported, graph, preset, data[3])
        assert max(worst.values()) <= 1 and len(worst) >= 7


def test_a_graph_module_with_free_batch_size_is_read_like_its_export() -> None:
    torch.manual_seed(0)
    data = torch.randn(8, 5, 9, 11)
    module = quantise(Block().eval(), (data[:1],), [data], observer="minmax")
    direct, exported = import_program(module), import_program(export_program(module, (data[:1],)))
    config = PRESETS["tiny"]
    assert compile_graph(direct, config).image == compile_graph(exported, config).image


def test_views_splits_and_unfused_sums() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 6, 1), nn.Conv2d(3, 6, 3, padding=1)
            self.fc = nn.Linear(6 * 4 * 5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.a(x))
            left, right = y.chunk(2, 1)
            z = torch.relu(torch.relu(self.b(left)) + y)
            z = z + torch.cat([right, left], 1)
            return self.fc(z.flatten(1))

    exported, data = quantised(Net(), 4, 4, 5)
    graph = import_program(exported)
    kinds = {type(op) for op in graph.ops}
    assert {Slice, Add, Concat, Reshape, Linear} <= kinds
    # ReLU in front of the sum: quantised with zero point -128 it needs no clamp, and still must not be fused
    inner = next(op for op in graph.ops if op.name == "b")
    assert isinstance(inner, Conv) and inner.clamp == (-128, 127) and not inner.linear
    assert max(compare(exported, graph, "tiny", data[0]).values()) <= 1


@pytest.mark.parametrize("pads", [(0, 1, 0, 1), (2, 0, 1, 3), (0, 5, 4, 0)])
@pytest.mark.parametrize("groups", [1, 4])
def test_zero_padding_becomes_the_convolutions(pads: tuple[int, int, int, int], groups: int) -> None:
    conv = nn.Conv2d(4, 4, 3, 2, padding=(0, 1), groups=groups)
    exported, data = quantised(nn.Sequential(nn.ZeroPad2d(pads), conv), 4, 7, 8)
    graph = import_program(exported)
    (op,) = graph.ops
    left, right, top, bottom = pads
    assert isinstance(op, Conv) and op.name == "1" and op.padding == (top, left + 1, bottom, right + 1)
    # the input's zero point is not 0, so padding with bytes of 0 would be seen
    assert graph[graph.inputs[0]].zero_point != 0
    assert max(compare(exported, graph, "tiny", data[0]).values()) <= 1


def test_padding_joins_batch_norm_and_shortcut() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 5, 1)
            self.pad, self.conv, self.bn = nn.ZeroPad2d((1, 0, 0, 1)), nn.Conv2d(5, 5, 2, bias=False), nn.BatchNorm2d(5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.stem(x))
            return torch.relu(x + self.bn(self.conv(self.pad(x))))

    exported, data = quantised(Net(), 3, 6, 7)
    graph = import_program(exported)
    _, op = graph.ops
    assert isinstance(op, Conv) and op.residual is not None and op.padding == (0, 1, 1, 0)
    assert max(compare(exported, graph, "edge8", data[1]).values()) <= 1


def test_relu6_becomes_a_clamp() -> None:
    exported, _ = quantised(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6()), 3, 4, 4)
    graph = import_program(exported)
    conv = graph.ops[0]
    made = graph[conv.output]
    assert isinstance(conv, Conv)
    assert conv.clamp[0] == max(-128, made.zero_point)
    assert conv.clamp[1] == min(127, round(6 / made.scale) + made.zero_point)


class Hand(nn.Module):
    """A hand-written q/dq graph around one operator."""

    def __init__(self, function, *, spec=(0.05, 3), weight: torch.Tensor | None = None, **options) -> None:
        super().__init__()
        self.function, self.spec, self.options = function, spec, options
        self.register_buffer("weight", torch.ones(4, 4, 1, 1, dtype=torch.int8) if weight is None else weight)
        self.register_buffer("scales", torch.full((self.weight.shape[0],), 0.01))
        self.register_buffer("zeros", torch.full((self.weight.shape[0],), options.pop("zero", 0), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = q_ops.dequantize_per_tensor(q_ops.quantize_per_tensor(x, 0.05, 3, *INT8), 0.05, 3, *INT8)
        axis = self.options.get("axis", 0)
        weight = q_ops.dequantize_per_channel(self.weight, self.scales, self.zeros, axis, -127, 127, torch.int8)
        y = self.function(x, weight)
        if self.options.get("plain"):
            return y
        return q_ops.dequantize_per_tensor(q_ops.quantize_per_tensor(y, *self.spec, *INT8), *self.spec, *INT8)


def hand(function, **options):
    return torch.export.export(Hand(function, **options).eval(), (torch.randn(1, 4, 6, 6),))


conv2d, pad = nn.functional.conv2d, nn.functional.pad


def test_a_tensor_quantised_in_another_way_is_requantised() -> None:
    exported = hand(lambda x, w: torch.clamp(x, -1.0, 2.0), spec=(0.1, -9))
    graph = import_program(exported)
    (op,) = graph.ops
    assert isinstance(op, Requantise) and op.clamp == (round(-1 / 0.1) - 9, round(2 / 0.1) - 9)
    assert max(compare(exported, graph, "tiny", torch.randn(4, 6, 6)).values()) <= 1


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (lambda x, w: x * x, {}, "only a product of a map and a .* gate"),
        (lambda x, w: nn.functional.max_pool2d(x, 2, dilation=2), {}, r"only windows of neighbouring"),
        (lambda x, w: nn.functional.max_pool2d(pad(x, (1, 1)), 2), {}, "is padded"),
        (lambda x, w: nn.functional.adaptive_max_pool2d(x, 2), {}, "use max_pool2d with a window"),
        (lambda x, w: nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False), {}, "use count_include_pad=True"),
        (lambda x, w: nn.functional.avg_pool2d(x, 2, divisor_override=3), {}, "divisor_override=3: only windows that"),
        (lambda x, w: nn.functional.avg_pool2d(x, 4, ceil_mode=True, stride=3), {}, "ceil_mode with windows beyond"),
        (lambda x, w: nn.functional.hardswish(torch.relu(conv2d(x, w))), {}, "hswish of this value needs a quantize"),
        (lambda x, w: torch.sigmoid(x), {}, "no exponential"),
        (lambda x, w: torch.tan(x), {}, "operator aten.tan is not supported: supported are convolution"),
        (lambda x, w: conv2d(x, w, dilation=2), {}, "dilation"),
        (lambda x, w: conv2d(x, torch.ones(4, 4, 1, 1)), {}, "no quantised constant"),
        (lambda x, w: conv2d(x, w) + 1.0, {}, "adds a number"),
        (lambda x, w: conv2d(x, w) + conv2d(x, w), {}, "summands must be int8"),
        (lambda x, w: torch.add(x, x, alpha=2), {}, "alpha=2"),
        (lambda x, w: x + x[:, :1], {}, "an operand|summands|broadcasting"),
        (lambda x, w: x.mean([1, 2]), {}, "means over axes"),
        (lambda x, w: nn.functional.adaptive_avg_pool2d(x, 2), {}, r"pools to \[2, 2\]"),
        (lambda x, w: torch.relu(x.mean([2, 3], keepdim=True)), {}, "quantize in front"),
        (lambda x, w: torch.cat([x, x], 2), {}, "concatenates along axis 2"),
        (lambda x, w: x[:, :, 1:], {}, "slices axis 2"),
        (lambda x, w: x[:, ::2], {}, "step 2"),
        (lambda x, w: x.reshape(1, 12, 12), {}, "reshapes to"),
        (lambda x, w: conv2d(x, w), {"plain": True}, "output is not quantised"),
        (lambda x, w: conv2d(x, w), {"zero": 5}, "zero point"),
        (lambda x, w: conv2d(x, w), {"axis": 1}, "axis 1; output channels"),
        (lambda x, w: conv2d(torch.tan(x), w), {}, "operator aten.tan is not supported"),
        (lambda x, w: conv2d(pad(x, (1, 1), value=2.0), w), {}, "pads in mode 'constant' with 2.0; only zeros"),
        (lambda x, w: conv2d(pad(x, (1, 1, 1, 1), mode="reflect"), w), {}, "pads in mode 'reflect'"),
        (lambda x, w: conv2d(pad(x, (-1, 1)), w), {}, r"pads by \[-1, 1\]; only lines and pixels"),
        (lambda x, w: pad(x, (1, 1)).mean([2, 3]), {}, "is padded; only zeros .* in front of convolutions"),
        (lambda x, w: pad(x, (1, 1)), {}, "quantises a padded map: only zeros"),
    ],
)
def test_what_is_not_supported_is_named(function, options: dict, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        import_program(hand(function, **options))


class Excite(nn.Module):
    def __init__(self, output: nn.Module) -> None:
        super().__init__()
        self.squeeze, self.reduce, self.expand = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.gate, self.output = nn.Hardsigmoid(inplace=True), output

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.gate(self.expand(torch.relu(self.reduce(self.squeeze(x))))) * x)


def test_h_swish_and_h_sigmoid_join_what_makes_their_input() -> None:
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Hardswish(inplace=True))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6), nn.Hardswish(), nn.Linear(6, 4))
    exported, data = quantised(nn.Sequential(stem, Excite(nn.Hardswish()), head), 3, 6, 6)
    graph = import_program(exported)
    kinds = [type(op).__name__ for op in graph.ops]
    assert kinds[:6] == ["Conv", "GlobalAvgPool", "Conv", "Conv", "ChannelScale", "GlobalAvgPool"]
    assert [op.curve for op in graph.ops if isinstance(op, Linear)] == ["hswish", None]
    conv, gate, scale = graph.ops[0], graph.ops[3], graph.ops[4]
    assert isinstance(conv, Conv) and conv.curve == "hswish" and not conv.linear and conv.clamp == (-128, 127)
    assert isinstance(gate, Conv) and gate.curve == "hsigmoid"
    assert isinstance(scale, ChannelScale) and (scale.input, scale.gate) == (conv.output, gate.output)
    assert scale.curve == "hswish"
    agrees(exported, graph, data)


def test_h_swish_of_what_is_quantised_stands_alone() -> None:
    exported, data = quantised(nn.Sequential(nn.Conv2d(3, 8, 1), nn.MaxPool2d(2), nn.Hardswish()), 3, 6, 6)
    graph = import_program(exported)
    assert [type(op) for op in graph.ops] == [Conv, MaxPool, Activation] and graph.ops[2].kind == "hswish"
    agrees(exported, graph, data)


def test_a_shortcut_and_a_curve_join_one_convolution() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.Hardswish()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(x + self.conv(x))

    exported, data = quantised(Net(), 4, 5, 6)
    graph = import_program(exported)
    (op,) = graph.ops
    assert isinstance(op, Conv) and op.residual == "x" and op.curve == "hswish" and not op.linear
    agrees(exported, graph, data)


def test_an_addition_behind_a_linear_layer_stands_alone() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.act = nn.Linear(12, 7), nn.Linear(7, 7), nn.Hardswish()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.act(self.a(x))
            return x + self.b(x)

    exported, data = quantised(Net(), 12)
    graph = import_program(exported)
    assert [type(op) for op in graph.ops] == [Linear, Linear, Add]
    for vector in data[:3]:
        assert max(compare(exported, graph, "tiny", vector).values()) <= 1


def test_relu_behind_a_gate_is_the_saturation_of_its_range() -> None:
    exported, data = quantised(nn.Sequential(nn.Conv2d(3, 8, 1), Excite(nn.ReLU())), 3, 6, 6)
    graph = import_program(exported)
    scale = graph.ops[-1]
    assert isinstance(scale, ChannelScale) and graph[scale.output].zero_point == -128
    agrees(exported, graph, data)


Inf = nn.ConstantPad2d


@pytest.mark.parametrize(
    ("pool", "size", "kernel", "stride", "padding"),
    [
        (nn.MaxPool2d(2), (8, 9), (2, 2), (2, 2), (0, 0, 0, 0)),
        (nn.MaxPool2d(3, 2, 1), (8, 9), (3, 3), (2, 2), (1, 1, 0, 1)),
        (nn.MaxPool2d((3, 2), (2, 1), (1, 0)), (7, 5), (3, 2), (2, 1), (1, 0, 1, 0)),
        (nn.MaxPool2d(2, ceil_mode=True), (7, 8), (2, 2), (2, 2), (0, 0, 1, 0)),
        (nn.MaxPool2d(2, (3, 2), 1, ceil_mode=True), (6, 6), (2, 2), (3, 2), (1, 1, 1, 1)),
        (nn.MaxPool2d(3, 2, ceil_mode=True), (8, 10), (3, 3), (2, 2), (0, 0, 1, 1)),
        (nn.Sequential(Inf((0, 1, 0, 1), -math.inf), nn.MaxPool2d(2, 1)), (5, 6), (2, 2), (1, 1), (0, 0, 1, 1)),
        (nn.AvgPool2d(2), (8, 9), (2, 2), (2, 2), (0, 0, 0, 0)),
        (nn.AvgPool2d(3, 2, 1), (8, 9), (3, 3), (2, 2), (1, 1, 0, 1)),
        (nn.AvgPool2d(3, 2, ceil_mode=True), (7, 9), (3, 3), (2, 2), (0, 0, 0, 0)),
        (nn.AvgPool2d((2, 1), count_include_pad=False), (8, 9), (2, 1), (2, 1), (0, 0, 0, 0)),
        (nn.AdaptiveAvgPool2d((2, 3)), (8, 6), (4, 2), (4, 2), (0, 0, 0, 0)),
        (nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.AvgPool2d(2, 1)), (5, 6), (2, 2), (1, 1), (0, 0, 1, 1)),
    ],
)  # fmt: skip
def test_pooling_windows(pool: nn.Module, size: tuple, kernel: tuple, stride: tuple, padding: tuple) -> None:
    exported, data = quantised(nn.Sequential(nn.Conv2d(3, 4, 1), pool), 3, *size)
    graph = import_program(exported)
    conv, op = graph.ops
    assert isinstance(op, MaxPool | AvgPool) and (op.kernel, op.stride, op.padding) == (kernel, stride, padding)
    made, source = graph[op.output], graph[conv.output]
    assert made.shape == tuple(pool(data[:1, :1].expand(1, 4, -1, -1)).shape[1:])
    if isinstance(op, MaxPool):
        assert (made.scale, made.zero_point) == (source.scale, source.zero_point)
    agrees(exported, graph, data)


def test_an_average_over_the_whole_map_is_global() -> None:
    exported, _ = quantised(nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d((5, 6))), 3, 5, 6)
    assert isinstance(import_program(exported).ops[1], GlobalAvgPool)


def test_errors_name_the_layer_of_the_source() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage = nn.Sequential(nn.Identity(), nn.Sigmoid())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = q_ops.dequantize_per_tensor(q_ops.quantize_per_tensor(x, 0.05, 3, *INT8), 0.05, 3, *INT8)
            return self.stage(x)

    with pytest.raises(CompileError) as error:
        import_program(torch.export.export(Net().eval(), (torch.randn(1, 4, 6, 6),)))
    assert error.value.layer == "stage.1"


def test_batches_and_real_networks_are_refused() -> None:
    with pytest.raises(CompileError, match="batch size 3"):
        import_program(torch.export.export(Hand(conv2d).eval(), (torch.randn(3, 4, 6, 6),)))
    with pytest.raises(CompileError, match="is no quantised constant"):
        import_program(torch.export.export(nn.Conv2d(3, 4, 1).eval(), (torch.randn(1, 3, 6, 6),)))


# --- the trained digits networks ------------------------------------------------------------------------------------


@cache
def digits(name: str) -> QuantisedNetwork:
    return quantised_network(name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), [("digits:fuse_half", "edge8"), ("digits", "edge16")])
def test_digits_networks_agree_with_pytorch_within_one_lsb_per_layer(name: str, preset: str) -> None:
    network = digits(name)
    graph = import_program(network.exported, name=name, meta=network.meta)
    _, _, pictures, _ = digits_data()
    for index in (0, 1):
        worst = compare(network.exported, graph, preset, torch.from_numpy(pictures[index]))
        assert max(worst.values()) <= 1
        assert len(worst) >= 16


@pytest.mark.slow
def test_digits_are_recognised_on_the_simulator() -> None:
    network = digits("digits:fuse_half")
    config = PRESETS["edge8"]
    program = compile_graph(import_program(network.exported, meta=network.meta), config)
    _, _, pictures, classes = digits_data()
    backend = IssBackend(config, check_hazards=False)
    (source,), (sink,) = program.inputs, program.outputs
    count = 24
    got = [
        backend.run(program, {source.name: quantise_input(source, picture)}).outputs[sink.name].reshape(-1)
        for picture in pictures[:count]
    ]
    with torch.no_grad():
        real = network.module(torch.from_numpy(pictures[:count])).numpy()
    assert np.mean([int(row.argmax()) == label for row, label in zip(got, classes, strict=False)]) >= 0.95
    # the whole network, errors of all layers added up, in LSB of the logits
    assert np.abs(np.stack(got) - _as_int8(sink, real)).max() <= 6


def _as_int8(spec: TensorSpec, real: np.ndarray) -> np.ndarray:
    assert math.isfinite(spec.scale)
    return np.clip(np.rint(real / spec.scale) + spec.zero_point, -128, 127).astype(int)
