"""Bias correction: it takes back shifts where they matter, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from sw.quant import quantise

torch.set_num_threads(1)


class Depthwise(nn.Module):
    """Few weights per channel, of one sign: their rounding errors shift the output, as do clipped inputs."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 24, 1), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, groups=24), activation)
        self.project = nn.Conv2d(24, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.project(self.depthwise(self.expand(x)))
        return result


def network(activation: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    model = Depthwise(activation).eval()
    with torch.no_grad():
        # the large weight makes the channel's scale 0.01, and all others round down to it
        model.depthwise[0].weight.fill_(0.0149)
        model.depthwise[0].weight[:, 0, 1, 1] = 1.27
        model.depthwise[0].bias.zero_()
    return model


def pictures(seed: int) -> Tensor:
    return torch.randn(16, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


def quantised(model: nn.Module, *, bias_correction: bool) -> GraphModule:
    return quantise(model, (pictures(0)[:1],), list(pictures(0).split(5)), bias_correction=bias_correction)


@torch.no_grad()
def error(model: nn.Module, graph: GraphModule) -> float:
    x = pictures(1)
    wanted = model(x)
    return float((graph(x) - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("activation", [nn.ReLU6(), nn.ReLU(), nn.Hardswish(), nn.Hardtanh(-2.0, 2.0), nn.Identity()])
def test_the_error_on_other_pictures_falls(activation: nn.Module) -> None:
    model = network(activation)
    plain, corrected = (error(model, quantised(model, bias_correction=correct)) for correct in (False, True))
    print(f"{type(activation).__name__}: {plain:.4f} -> {corrected:.4f}")
    assert corrected < 0.9 * plain


@torch.no_grad()
def test_a_known_shift_is_taken_back_where_the_activation_lets_it_through() -> None:
    """Weights that int8 represents exactly leave no shift: the biases stay; one channel never matters."""
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU6(), nn.Conv2d(3, 2, 1)).eval()
    model[0].weight.copy_(torch.ones(3, 1, 1, 1))
    model[0].bias.copy_(torch.tensor([0.0, -100.0, 100.0]))  # live, always 0, always 6
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 4
    graph = quantise(model, (x[:1],), [x])
    biases = {name: value for name, value in graph.named_parameters() if "bias" in name}
    first = next(value for value in biases.values() if len(value) == 3)
    assert first[1] == -100 and first[2] == 100
    assert abs(float(first[0])) < 4 / 255  # within the input's resolution


def test_layers_without_bias_are_left_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    graph = quantised(model, bias_correction=True)
    assert error(model, graph) < 0.05


def test_it_is_reproducible_and_can_be_left_out() -> None:
    model = network(nn.ReLU6())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second, plain = (quantised(model, bias_correction=correct) for correct in (True, True, False))
    states = [graph.state_dict() for graph in (first, second, plain)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    differing = {name for name in states[0] if not torch.equal(states[0][name], states[2][name])}
    assert differing and all("bias" in name for name in differing)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_users_do_not_see_the_libraries_own_warnings(recwarn: pytest.WarningsRecorder) -> None:
    quantised(network(nn.ReLU()), bias_correction=True)
    assert [str(warning.message) for warning in recwarn] == []
