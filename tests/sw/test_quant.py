"""The PT2E quantizer: what is annotated, what comes out, what it costs in accuracy."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule

from hw.spec.config import PRESETS
from sw.compiler import compile_graph
from sw.frontends.torch_export import import_program
from sw.nn.digits import digits_calibration, digits_data, load_digits_network
from sw.nn.evaluate import accuracy
from sw.quant import (
    QuantisationError,
    RowcastQuantizer,
    UnsupportedOperatorError,
    calibrate,
    export_program,
    load,
    prepare,
    quantise,
    save,
)
from tests.sw.quant_graphs import (
    DQ,
    DQ_WEIGHT,
    MATMUL,
    Block,
    Q,
    aten,
    convert_graph,
    find,
    only,
    parameters,
    quantiser_of,
)

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["half", "depthwise"])
def digits(request) -> tuple[nn.Module, GraphModule]:
    network = load_digits_network(request.param)
    batches = digits_calibration()
    return network, quantise(network, (batches[0][:1],), batches)


# --- accuracy ----------------------------------------------------------------------------------------------------


def test_int8_accuracy(digits) -> None:
    network, graph = digits
    _, _, test_x, test_y = digits_data()
    assert abs(accuracy(network, test_x, test_y) - accuracy(graph, test_x, test_y)) <= 0.5


def test_int8_logits_are_close(digits) -> None:
    network, graph = digits
    x = torch.from_numpy(digits_data()[2][:100])
    with torch.no_grad():
        exact, rounded = network(x), graph(x)
    assert float((exact - rounded).norm() / exact.norm()) < 0.05
    assert not torch.equal(exact, rounded)


def test_exported_program_round_trip(digits, tmp_path) -> None:
    _, graph = digits
    x = torch.from_numpy(digits_data()[2][:1])
    save(export_program(graph, (x,)), tmp_path / "net.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt2"]
    program = load(tmp_path / "net.pt2")
    assert torch.equal(program.module()(x), graph(x))


# --- what the graph looks like -----------------------------------------------------------------------------------


def test_everything_computes_between_dequantise_and_quantise(digits) -> None:
    _, graph = digits
    for node in graph.graph.nodes:
        if node.op != "call_function" or node.target in (Q, DQ, DQ_WEIGHT):
            continue
        fused = (*MATMUL, aten.add.Tensor, aten.hardtanh.default)
        for source in node.all_input_nodes:
            inside = source.target in fused and node.target in (aten.add.Tensor, aten.hardtanh.default)
            constant = source.op == "get_attr"  # bias
            assert inside or constant or source.target in (DQ, DQ_WEIGHT), f"{source} -> {node}"


def test_no_batch_norm_is_left_and_bias_is_float(digits) -> None:
    _, graph = digits
    assert not find(graph, aten.batch_norm.default)
    for node in find(graph, aten.conv2d.default):
        bias = node.args[2]
        assert bias.op == "get_attr" and dict(graph.named_parameters())[bias.target].dtype == torch.float32


def test_weights_are_symmetric_int8_per_output_channel(digits) -> None:
    _, graph = digits
    nodes = find(graph, DQ_WEIGHT)
    assert len(nodes) == sum(len(find(graph, target)) for target in MATMUL)
    constants = {**dict(graph.named_buffers()), **dict(graph.named_parameters())}
    for node in nodes:
        value, scales, zeros = (constants[argument.target] for argument in node.args[:3])
        assert tuple(node.args[3:6]) == (0, -127, 127)
        assert value.dtype == torch.int8 and len(scales) == len(value)
        assert int(value.abs().amax()) == 127 and int(value.min()) >= -127
        assert not zeros.any()


def test_relu6_ranges(digits) -> None:
    _, graph = digits
    clamps = find(graph, aten.hardtanh.default)
    assert len(clamps) >= 10
    for node in clamps:
        scale, zero = parameters(quantiser_of(node))
        assert zero == -128
        assert 0 < scale <= 6 / 255 * 1.0001


def test_fuse_block_has_one_scale_from_branches_to_pointwise() -> None:
    graph = convert_graph(Block(), 3, 8, 8)
    cat = only(graph, aten.cat.default)
    expected = parameters(quantiser_of(cat))
    for source in cat.args[0]:
        assert source.target is DQ and parameters(source) == expected
        assert source.args[0].args[0].target is aten.hardtanh.default  # written by a branch, not requantised
        assert parameters(source.args[0]) == expected


def test_slices_share_their_inputs_scale_and_whole_slices_vanish() -> None:
    graph = convert_graph(Block(), 3, 8, 8)
    slices = find(graph, aten.slice.Tensor)
    assert [tuple(node.args[1:]) for node in slices] == [(1, 0, 2), (1, 2, 2**63 - 1)]
    for node in slices:
        assert parameters(node.args[0]) == parameters(quantiser_of(node))


@pytest.mark.parametrize(
    "split", [lambda x: torch.chunk(x, 2, 1), lambda x: torch.split(x, [2, 2], 1), lambda x: torch.split(x, 2, 1)]
)
def test_chunk_and_split_share_the_producers_scale(split) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 2, (1, 3), padding=(0, 1)), nn.Conv2d(2, 2, (3, 1), padding=(1, 0))

        def forward(self, x: Tensor) -> Tensor:
            left, right = split(F.relu(x))
            return torch.cat([self.a(left), self.b(right)], 1)

    graph = convert_graph(Net(), 4, 6, 6)
    source = parameters(quantiser_of(only(graph, aten.relu.default)))
    for conv in find(graph, aten.conv2d.default):
        assert parameters(conv.args[0]) == source


@pytest.mark.parametrize("relu_after", [False, True])
def test_shortcut_joins_the_convolution(relu_after) -> None:
    graph = convert_graph(Block(relu_after=relu_after), 3, 8, 8)
    add = only(graph, aten.add.Tensor)
    other, conv = add.args
    assert conv.target is aten.conv2d.default and list(conv.users) == [add]
    assert other.target is DQ
    last = only(graph, aten.relu.default) if relu_after else add
    if relu_after:
        assert list(add.users) == [last]
    scale, zero = parameters(quantiser_of(last))
    assert scale > 0 and (zero == -128) == relu_after


def test_of_two_convolutions_the_later_joins_the_addition() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            left = self.first(x)
            return self.second(x) + left

    graph = convert_graph(Net(), 3, 6, 6)
    first, second = find(graph, aten.conv2d.default)
    add = only(graph, aten.add.Tensor)
    assert list(second.users) == [add] and add.args[0] is second
    assert add.args[1].target is DQ and add.args[1].args[0] is quantiser_of(first)


def test_a_clamped_or_shared_convolution_does_not_join() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clamped, self.shared = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = x + F.relu(self.clamped(x))
            z = self.shared(y)
            return (z + z) + y

    graph = convert_graph(Net(), 3, 6, 6)
    adds = find(graph, aten.add.Tensor)
    assert len(adds) == 3
    for add in adds:
        assert all(source.target is DQ for source in add.all_input_nodes)
        quantiser_of(add)


def test_in_place_on_a_view_is_refused() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x + x
            x[:, :1].relu_()
            return x

    with pytest.raises(UnsupportedOperatorError, match="relu_"):
        prepare(Net().eval(), (torch.zeros(1, 3, 4, 4),))


def test_histogram_cuts_outliers_off_and_minmax_does_not() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()).eval()
    torch.manual_seed(0)
    batch = torch.randn(4, 1, 256, 256)
    batch[0, 0, 0, 0] = 8
    scales = {}
    for observer in ("histogram", "minmax"):
        graph = quantise(model, (batch[:1],), [batch], observer=observer)
        scales[observer], _ = parameters(find(graph, Q)[0])
    span = 8 - float(batch.min())
    assert scales["minmax"] == pytest.approx(span / 255, rel=1e-3)
    assert scales["histogram"] < 0.9 * scales["minmax"]


def test_quantisation_is_reproducible() -> None:
    torch.manual_seed(1)
    model = Block()
    graphs = [convert_graph(model, 3, 8, 8) for _ in range(2)]
    first, second = ([node.format_node() for node in graph.graph.nodes] for graph in graphs)
    assert first == second
    states = [graph.state_dict() for graph in graphs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_calibration_reports_progress() -> None:
    prepared = prepare(Block().eval(), (torch.zeros(1, 3, 8, 8),))
    seen: list[tuple[int, int | None]] = []
    calibrate(prepared, [torch.randn(n, 3, 8, 8) for n in (1, 3)], progress=lambda *done: seen.append(done))
    assert seen == [(1, 2), (2, 2)]


# --- errors ------------------------------------------------------------------------------------------------------


def test_unsupported_operators_are_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Softmax(1)).eval()
    with pytest.raises(UnsupportedOperatorError, match=r"layer '1': operator aten.softmax.int .*: .* on the host"):
        quantise(model, (torch.zeros(1, 3, 4, 4),), [torch.zeros(1, 3, 4, 4)])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.mean(1),
        lambda x: F.adaptive_avg_pool2d(x, 3),
        lambda x: F.max_pool2d(x, 2, dilation=2),
        lambda x: F.max_pool2d(F.pad(x, (1, 1)), 2),
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
        lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True),
        lambda x: x * F.relu6(x + 2) / 6,
        lambda x: x * x,
        lambda x: x + 1,
        lambda x: x + x.mean((2, 3), keepdim=True),
        lambda x: F.pad(x, (1, 1)) + 0,
        lambda x: F.relu(F.pad(x, (1, 1))),
        lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)),
    ],
)
def test_what_only_looks_supported_is_refused(function) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    with pytest.raises(UnsupportedOperatorError, match="is not supported by the accelerator"):
        prepare(Net().eval(), (torch.zeros(1, 3, 4, 4),))


@pytest.mark.parametrize(
    "pad",
    [
        nn.ZeroPad2d((0, -1, 0, 0)),
        nn.ConstantPad2d(1, 1.0),
        nn.ReflectionPad2d(1),
        nn.ConstantPad3d((0, 0, 0, 0, 1, 0), 0),
        nn.Sequential(nn.ZeroPad2d(1), nn.ZeroPad2d(1)),
    ],
)
def test_other_padding_in_front_of_a_convolution_is_refused(pad) -> None:
    example = torch.zeros(1, 3, 6, 6)
    channels = pad(example).shape[1]
    with pytest.raises(UnsupportedOperatorError, match=r"layer 'pad.*only zeros around lines and pixels are padded"):
        prepare(nn.Sequential(OrderedDict(pad=pad, conv=nn.Conv2d(channels, 4, 3))).eval(), (example,))


def test_zero_padding_has_no_range_of_its_own() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pad = nn.ZeroPad2d((0, 1, 0, 1))
            self.first, self.second = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(3, 4, 3, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.pad(x)
            return torch.cat([self.first(y), self.second(y)], 1)

    graph = convert_graph(Net(), 3, 6, 6)
    pad = only(graph, aten.pad.default)
    assert pad.args[0].target is DQ and {user.target for user in pad.users} == {aten.conv2d.default}


def test_training_mode_is_refused() -> None:
    with pytest.raises(QuantisationError, match="training mode"):
        prepare(Block(), (torch.zeros(1, 3, 8, 8),))


@pytest.mark.parametrize("padded", [False, True])
def test_a_channel_of_almost_no_weight_keeps_its_bias_and_others_their_weights(padded: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        conv.weight[2] = 1e-7 * torch.randn(3, 3, 3)
        conv.bias[2] = 7.0
    model = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)) if padded else nn.Identity(), conv).eval()
    data = torch.randn(8, 3, 6, 6)
    graph = quantise(model, (data[:1],), [data])
    (node,) = find(graph, DQ_WEIGHT)
    weights, scales = (getattr(graph, operand.target) for operand in node.args[:2])
    entry = only(graph, aten.pad.default if padded else aten.conv2d.default)
    source = entry.args[0]
    units = conv.bias.detach() / (source.args[1] * scales)
    assert 2**29 < units[2] <= 2**30 + 64 and units.abs().max() == units[2]
    plain = conv.weight.detach().abs().amax((1, 2, 3)) / 127
    torch.testing.assert_close(scales[[0, 1, 3]].float(), plain[[0, 1, 3]])
    assert weights[[0, 1, 3]].abs().amax((1, 2, 3)).tolist() == [127] * 3 and weights[2].abs().max() < 127
    with torch.no_grad():
        error = (graph(data) - model(data)).abs()
    assert error[:, 2].max() < 0.05
    program = compile_graph(import_program(export_program(graph, (data[:1],))), PRESETS["tiny"])
    assert program.macs


def test_missing_calibration_is_refused() -> None:
    with pytest.raises(QuantisationError, match="no calibration pictures"):
        quantise(Block().eval(), (torch.zeros(1, 3, 8, 8),), [])


def test_calibration_with_nan_is_refused() -> None:
    good, bad = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), torch.nan)
    with pytest.raises(QuantisationError, match="batch 1 .* not finite"):
        quantise(Block().eval(), (good[:1],), [good, bad])


def test_networks_that_do_not_export_are_refused() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(QuantisationError, match=r"torch\.export cannot take Branching"):
        prepare(Branching().eval(), (torch.zeros(1, 3),))


def test_unreadable_files_are_refused(tmp_path, caplog) -> None:
    (tmp_path / "text.pt2").write_text("not a program")
    torch.save({}, tmp_path / "state.pt2")
    for name in ("text.pt2", "state.pt2"):
        with pytest.raises(QuantisationError, match=rf"{name}: not a readable .pt2 .*; write one with torch.export"):
            load(tmp_path / name)
    assert "Traceback" not in caplog.text
    with pytest.raises(QuantisationError, match="no such file"):
        load(tmp_path / "absent.pt2")


def test_unknown_observer_is_refused() -> None:
    with pytest.raises(ValueError, match="observer 'best' is unknown; use one of histogram, percentile, minmax"):
        RowcastQuantizer("best")


def test_the_number_of_threads_changes_nothing() -> None:
    network = load_digits_network("half")
    batches = digits_calibration()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            results.append(quantise(network, (batches[0][:1],), batches).state_dict())
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(1)
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
