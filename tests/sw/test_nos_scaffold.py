from __future__ import annotations

import pytest
import torch
from torch import nn

from sw.nn import zoo
from sw.nn.convert import ConvertError, convert
from sw.nn.fuse import FuSeConv2d
from sw.nn.zoo.layers import initialise
from sw.nos.scaffold import ScaffoldConv2d, collapse, scaffold, scaffold_layers

NETWORKS = [
    ("mobilenet_v1_cifar", 32),
    ("mobilenet_v2_cifar", 32),
    ("mobilenet_v3_small", 48),
    ("mnasnet_b1", 32),
    ("efficientnet_lite0", 40),
]


def network(name: str, resolution: int) -> nn.Module:
    """A network, with activations where its FuSe form has them, and normalisations that are no identities."""
    torch.manual_seed(0)
    model = zoo.unfused(f"{name}:fuse_half", width=0.25, resolution=resolution, classes=5).eval()
    initialise(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def set_operators(model: nn.Module, operator: str) -> None:
    for layer in scaffold_layers(model):
        layer.operator = operator


def scramble(model: nn.Module) -> None:
    """Give a scaffold what training would: matrices and statistics that are nobody's."""
    torch.manual_seed(1)
    for layer in scaffold_layers(model):
        nn.init.normal_(layer.adapter_row, 0, 0.5)
        nn.init.normal_(layer.adapter_column, 0, 0.5)
        nn.init.uniform_(layer.bn_fuse.weight, 0.5, 1.5)
        nn.init.normal_(layer.bn_fuse.running_mean, 0, 0.2)


@pytest.mark.parametrize(("name", "resolution"), NETWORKS)
@pytest.mark.parametrize("variant", ["half", "full"])
def test_the_depthwise_form_is_the_depthwise_network(name, resolution, variant):
    model = network(name, resolution)
    lopsided = any(isinstance(module, nn.ZeroPad2d) for module in model.modules())
    built = scaffold(model, variant)
    set_operators(built, "depthwise")
    images = torch.randn(2, 3, resolution, resolution)
    with torch.no_grad():
        expected, found = model(images), built(images)
    if lopsided:  # TensorFlow's padding gives way to a centred one, as for FuSeConv
        assert found.shape == expected.shape
    else:
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "resolution"), NETWORKS)
@pytest.mark.parametrize("variant", ["half", "full"])
def test_the_fuse_form_starts_from_the_middle_of_the_kernels(name, resolution, variant):
    model = network(name, resolution)
    built = scaffold(model, variant)
    images = torch.randn(2, 3, resolution, resolution)
    with torch.no_grad():
        expected = convert(model, variant, init="middle")(images)
        torch.testing.assert_close(built(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "resolution"), NETWORKS)
@pytest.mark.parametrize("variant", ["half", "full"])
def test_the_collapsed_network_is_a_plain_one_and_computes_the_same(name, resolution, variant, tmp_path):
    built = scaffold(network(name, resolution), variant)
    scramble(built)
    plain = collapse(built)
    images = torch.randn(4, 3, resolution, resolution)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), built(images), rtol=1e-5, atol=1e-5)
    assert not scaffold_layers(plain)
    # its parameters are those of the zoo's network of that name
    torch.save(plain.state_dict(), tmp_path / "weights.pth")
    again = zoo.create(
        f"{name}:fuse_{variant}", width=0.25, resolution=resolution, classes=5, weights=tmp_path / "weights.pth"
    )
    with torch.no_grad():
        torch.testing.assert_close(again(images), plain(images), rtol=1e-5, atol=1e-5)


def test_a_list_of_layers_makes_a_hybrid():
    model = network("mobilenet_v2_cifar", 32)
    built = scaffold(model, "half", [1, 3, 16])
    assert len(scaffold_layers(built)) == 3
    plain = collapse(built)
    assert sum(isinstance(module, FuSeConv2d) for module in plain.modules()) == 3
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), built(images), rtol=1e-5, atol=1e-5)
    with pytest.raises(ConvertError):
        scaffold(model, "half", [17])


def test_both_forms_train_the_same_kernel():
    layer = scaffold_layers(scaffold(network("mobilenet_v2_cifar", 32), "half"))[2].train()
    images = torch.randn(4, layer.channels, 8, 8)
    gradients = {}
    for operator in ("depthwise", "fuse"):
        layer.operator = operator
        layer.zero_grad()
        (layer(images) ** 3).mean().backward()
        gradients[operator] = {name for name, value in layer.named_parameters() if value.grad is not None}
    assert gradients["depthwise"] == {"kernel", "bn_depthwise.weight", "bn_depthwise.bias"}
    assert gradients["fuse"] == {"kernel", "adapter_row", "adapter_column", "bn_fuse.weight", "bn_fuse.bias"}


def test_filters_are_the_matrices_times_the_kernels():
    layer = scaffold_layers(scaffold(network("mnasnet_b1", 32), "half"))[4]  # 5 x 5
    assert layer.kernel_size == 5
    scramble(nn.Sequential(layer))
    row, column = layer.filters()
    split = layer.channels // 2
    for channel in (0, split - 1):
        expected = layer.adapter_row @ layer.kernel[channel, 0].flatten()
        torch.testing.assert_close(row[channel, 0, 0], expected)
        expected = layer.adapter_column @ layer.kernel[split + channel, 0].flatten()
        torch.testing.assert_close(column[channel, 0, :, 0], expected)


def test_the_layer_keeps_stride_and_sizes():
    torch.manual_seed(0)
    conv, bn = nn.Conv2d(5, 5, 5, 2, 2, groups=5, bias=False), nn.BatchNorm2d(5)
    for variant, channels in (("half", 5), ("full", 10)):
        layer = ScaffoldConv2d(conv, bn, variant, nn.ReLU6())
        for operator in ("depthwise", "fuse"):
            layer.operator = operator
            assert layer(torch.randn(2, 5, 9, 7)).shape == (2, channels, 5, 4)
