"""Quantisation-aware training: the graph is that of quantise(), it learns, and the accelerator computes it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e import FakeQuantize

from hw.spec.config import preset
from hw.spec.numerics import quantise as to_int8
from sim.iss import IssBackend
from sw.compiler import compile_graph
from sw.frontends.torch_export import import_program
from sw.nn.digits import digits_calibration, digits_data, load_digits_network
from sw.nn.evaluate import accuracy
from sw.nn.fuse import FuSeConv2d
from sw.quant import QuantisationError, UnsupportedOperatorError, export_program, quantise
from sw.quant.qat import convert, freeze_ranges, prepare_qat

torch.set_num_threads(1)


class Net(nn.Module):
    """Convolutions with batch normalisation and ReLU6, h-swish, FuSe, squeeze-and-excite, shortcut, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8, eps=1e-3), nn.ReLU6())
        self.expand = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16, eps=1e-2), nn.Hardswish())
        self.fuse = FuSeConv2d(16, 3, activation=nn.ReLU6())
        self.squeeze = nn.Sequential(nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1), nn.Hardsigmoid())
        self.project = nn.Sequential(nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.fuse(self.expand(x))
        y = y * self.squeeze(F.adaptive_avg_pool2d(y, 1))
        x = x + self.project(y)
        result: Tensor = self.fc(F.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1), training=self.training))
        return result


def net() -> nn.Module:
    """Return a network whose batch normalisation has statistics."""
    torch.manual_seed(0)
    model = Net().train()
    with torch.no_grad():
        for _ in range(20):
            model(pictures(8))
    return model.eval()


def pictures(count: int, seed: int | None = None) -> Tensor:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 16, 16, generator=generator)


def train(prepared: GraphModule, x: Tensor, y: Tensor, *, rate: float, epochs: int = 1, seed: int = 0) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(prepared.parameters(), rate)
    losses = []
    for _ in range(epochs):
        for chosen in torch.randperm(len(x), generator=generator).split(32):
            loss = F.cross_entropy(prepared(x[chosen]), y[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    return losses


def iss_outputs(graph: GraphModule, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Compile; return the logits of the ISS and those of the q/dq graph, as integers."""
    read = import_program(export_program(graph, (x[:1],)))
    program = compile_graph(read, preset("edge8"))
    (source,), (sink,) = ([read[name] for name in names] for names in (read.inputs, read.outputs))
    backend = IssBackend(program.config)
    inputs = to_int8(x.numpy(), source.scale, source.zero_point)
    found = [backend.run(program, {source.name: one}).outputs[sink.name] for one in inputs]
    with torch.no_grad():
        wanted = to_int8(graph(x).numpy(), sink.scale, sink.zero_point)
    return np.stack(found).reshape(len(x), -1), wanted


@torch.no_grad()
def test_folding_is_exact_and_leaves_the_network_alone() -> None:
    """Also for batch normalisation with an epsilon that is not 1e-5."""
    model = net()
    before = copy.deepcopy(model.state_dict())
    prepared = prepare_qat(model, (pictures(1),), [pictures(8)])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for module in prepared.modules():
        if isinstance(module, FakeQuantize):
            module.disable_fake_quant()
    x = pictures(4, seed=1)
    torch.testing.assert_close(prepared(x), model(x), rtol=1e-4, atol=1e-5)


def test_untrained_it_is_post_training_quantisation() -> None:
    model, batch = net(), pictures(16, seed=2)
    ptq = quantise(model, (batch[:1],), [batch], observer="minmax", bias_correction=False)
    qat = convert(prepare_qat(model, (batch[:1],), [batch]))
    assert [node.target for node in qat.graph.nodes] == [node.target for node in ptq.graph.nodes]
    states = qat.state_dict(), ptq.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert value.dtype == states[1][name].dtype
        torch.testing.assert_close(value, states[1][name], rtol=1e-5, atol=1e-6)
    x = pictures(8, seed=3)
    torch.testing.assert_close(qat(x), ptq(x), rtol=0, atol=0.01)  # 3 LSB: the scales' last bits differ


def test_what_trains_is_what_converts_and_compiles() -> None:
    y = torch.arange(64) % 5
    x = pictures(64, seed=4) + (y - 2).reshape(-1, 1, 1, 1) * 0.7  # classes differ in brightness
    prepared = prepare_qat(net(), (x[:1],), [x])
    losses = train(prepared, x, y, rate=1e-2, epochs=12)
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    freeze_ranges(prepared)
    with torch.no_grad():
        trained = prepared(x)
    graph = convert(prepared)
    with torch.no_grad():
        # the same but for the order of rounding in float32
        assert float((graph(x) - trained).abs().max()) < 0.05 * float(trained.abs().max())
    found, wanted = iss_outputs(graph, x[:4])
    assert np.abs(found.astype(int) - wanted).max() <= 1 + 2  # one per layer is the contract; few layers add theirs up
    assert wanted.astype(int).std(0).max() > 3  # not one answer to all
    # convert() takes no part of the network away: it trains on
    assert np.isfinite(train(prepared, x[:32], y[:32], rate=1e-3)).all()


def test_frozen_ranges_stay_and_weights_keep_theirs_current() -> None:
    x = pictures(32, seed=5)
    prepared = prepare_qat(net(), (x[:1],), [x])
    freeze_ranges(prepared)
    before = copy.deepcopy(prepared)
    train(prepared, 10 * x, torch.zeros(32, dtype=torch.long), rate=0.1)
    graph = convert(prepared)
    for (name, old), new in zip(before.named_modules(), prepared.modules(), strict=True):
        if isinstance(old, FakeQuantize) and not old.is_per_channel:
            assert torch.equal(old.scale, new.scale) and torch.equal(old.zero_point, new.zero_point), name
    weights = [value for value in graph.state_dict().values() if value.dtype == torch.int8]
    assert len(weights) >= 8
    # the largest weight of each channel is 127: ranges are of the weights after the last step
    assert all(int(value.flatten(1).abs().amax(1).min()) == 127 for value in weights)


def test_digits_train_on_from_post_training_quantisation() -> None:
    train_x, train_y, test_x, test_y = digits_data()
    images, labels = torch.from_numpy(train_x[:320]), torch.from_numpy(train_y[:320])
    network = load_digits_network("half")
    with torch.no_grad():  # harm done to the trained weights, which training must mend
        generator = torch.Generator().manual_seed(0)
        for weight in network.parameters():
            if weight.ndim == 4:
                weight.add_(0.35 * weight.std() * torch.randn(weight.shape, generator=generator))
    batches = digits_calibration()
    example = (batches[0][:1],)
    ptq = accuracy(quantise(network, example, batches), test_x, test_y)
    graphs = []
    for _ in range(2):
        prepared = prepare_qat(network, example, batches)
        train(prepared, images, labels, rate=1e-3)
        freeze_ranges(prepared)
        train(prepared, images, labels, rate=1e-4, seed=1)
        graphs.append(convert(prepared))
    qat = accuracy(graphs[0], test_x, test_y)
    print(f"PTQ {ptq:.1f} %, QAT {qat:.1f} %")
    assert qat > ptq + 30 and qat >= 85
    states = [graph.state_dict() for graph in graphs]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    found, wanted = iss_outputs(graphs[0], torch.from_numpy(test_x[:3]))
    assert np.abs(found.astype(int) - wanted).max() <= 3


def test_errors_are_those_of_quantisation() -> None:
    with pytest.raises(QuantisationError, match="call .eval"):
        prepare_qat(net().train(), (pictures(1),), [pictures(1)])
    with pytest.raises(QuantisationError, match="no calibration pictures"):
        prepare_qat(net(), (pictures(1),), [])
    with pytest.raises(UnsupportedOperatorError, match="softmax"):
        prepare_qat(nn.Sequential(net(), nn.Softmax(1)).eval(), (pictures(1),), [pictures(1)])
