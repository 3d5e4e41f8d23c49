"""Activations and pooling in q/dq graphs: any spelling, fused with what is in front."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.sw.quant_graphs import DQ, DQ_WEIGHT, Q, aten, convert_graph, find, only, parameters, quantiser_of

torch.set_num_threads(1)


def test_activation_behind_a_concatenation_moves_to_the_convolutions() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu6(torch.cat([self.a(x), self.b(x)], 1))

    model = Net()
    graph = convert_graph(model, 3, 6, 6, scale=5)
    clamps = find(graph, aten.hardtanh.default)
    assert [node.args[0].target for node in clamps] == [aten.conv2d.default] * 2
    assert len({parameters(quantiser_of(node)) for node in (*clamps, only(graph, aten.cat.default))}) == 1
    x = torch.randn(2, 3, 6, 6) * 5
    assert float((graph(x) - model(x)).detach().abs().max()) < 0.15


def test_synonyms_and_in_place_operators_are_written_one_way() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(3))
            self.relu, self.relu6 = nn.ReLU(inplace=True), nn.ReLU6(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            y = self.relu6(self.a(x))
            z = self.b(y)
            z += y
            self.relu(z)
            return torch.concat([z, F.relu6(self.c(z)), self.a(z).clamp(-1, 2)], 1)

    model = Net()
    graph = convert_graph(model, 3, 6, 6, scale=5)
    kinds = {node.target for node in graph.graph.nodes if node.op == "call_function"} - {Q, DQ, DQ_WEIGHT}
    assert kinds == {aten.conv2d.default, aten.relu.default, aten.hardtanh.default, aten.add.Tensor, aten.cat.default}
    assert [tuple(node.args[1:]) for node in find(graph, aten.hardtanh.default)] == [(0.0, 6.0), (0.0, 6.0), (-1, 2)]
    x = torch.randn(2, 3, 6, 6) * 5
    assert float((graph(x) - model(x)).detach().abs().max()) < 0.3


SPELLINGS = {
    "hswish": [
        lambda x: x * F.relu6(x + 3) / 6,
        lambda x: x * (F.relu6(x + 3) / 6),
        lambda x: F.relu6(3 + x) * x * (1 / 6),
        lambda x: x / 6 * (x + 3).clamp(0, 6),
        lambda x: x * (x / 6 + 0.5).clamp(0, 1),
        lambda x: F.hardsigmoid(x) * x,
        lambda x: x.mul(F.hardtanh(x.sub(-3), 0.0, 6.0)).div(6),
    ],
    "hsigmoid": [
        lambda x: F.relu6(x + 3) / 6,
        lambda x: F.relu6(x + 3.0, inplace=True) * 0.16666667,
        lambda x: (x / 6 + 0.5).clamp(0, 1),
        lambda x: torch.clamp(x + 3, 0, 6) / 6,
        lambda x: (x + 3).clamp(min=0).clamp(-1, 6) / 6,
    ],
}


@pytest.mark.parametrize(
    ("curve", "index"), [(curve, index) for curve, functions in SPELLINGS.items() for index in range(len(functions))]
)
def test_curves_in_any_spelling_join_the_convolution(curve: str, index: int) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(SPELLINGS[curve][index](self.a(x)))

    model = Net()
    graph = convert_graph(model, 3, 6, 6, scale=4)
    kinds = {node.target for node in graph.graph.nodes if node.op == "call_function"} - {Q, DQ, DQ_WEIGHT}
    target = {"hswish": aten.hardswish.default, "hsigmoid": aten.hardsigmoid.default}[curve]
    assert kinds == {aten.conv2d.default, target}
    assert only(graph, target).args[0].target is aten.conv2d.default
    x = torch.randn(2, 3, 6, 6) * 4
    expected = model(x).detach()
    assert float((graph(x) - expected).detach().abs().max()) < 0.04 * float(expected.max() - expected.min())


def test_a_gate_of_height_6_is_a_gate() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return y * F.relu6(self.b(y.mean((2, 3), keepdim=True)) + 3) / 6

    model = Net()
    graph = convert_graph(model, 3, 6, 6)
    assert only(graph, aten.mul.Tensor) and only(graph, aten.hardsigmoid.default)
    assert not find(graph, aten.div.Tensor)
    x = torch.randn(2, 3, 6, 6)
    assert float((graph(x) - model(x)).detach().abs().max()) < 0.1


def test_a_clamp_behind_max_pooling_moves_to_the_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, padding=1), nn.ReLU())
    graph = convert_graph(model, 3, 8, 8)
    pool, relu = only(graph, aten.max_pool2d.default), only(graph, aten.relu.default)
    assert relu.args[0].target is aten.conv2d.default
    assert parameters(pool.args[0]) == parameters(quantiser_of(pool)) == parameters(quantiser_of(relu))
    x = torch.randn(2, 3, 8, 8)
    assert float((graph(x) - model(x)).detach().abs().max()) < 0.05


@pytest.mark.parametrize(
    "pool", [nn.AdaptiveAvgPool2d(1), lambda x: x.mean((2, 3), keepdim=True), lambda x: x.mean([-1, -2], keepdim=True)]
)
def test_global_pooling_has_ranges_on_both_sides(pool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.dropout(pool(F.relu(self.conv(x))).flatten(1), training=self.training))

    graph = convert_graph(Net(), 3, 8, 8)
    (node,) = find(graph, aten.adaptive_avg_pool2d.default) + find(graph, aten.mean.dim)
    before, after = parameters(node.args[0]), parameters(quantiser_of(node))
    assert before != after  # an average's range is smaller than that of the pixels
    fc = only(graph, aten.linear.default)
    assert parameters(fc.args[0]) == after  # flatten keeps it
