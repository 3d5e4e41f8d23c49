"""Joint FuSe layers: the plain ones' function, gradients and statistics, and back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sw.nn import zoo
from sw.nn.fuse import FuSeConv2d
from sw.train.joint import JointFuSe2d, joined, separated

torch.set_num_threads(1)


def trained(model: nn.Module, images: torch.Tensor, steps: int) -> nn.Module:
    """Return a copy after some steps of training."""
    model = copy.deepcopy(model).train()
    optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for _ in range(steps):
        optimiser.zero_grad()
        (model(images) ** 2).mean().backward()
        optimiser.step()
    return model


@pytest.mark.parametrize("variant", ["half", "full"])
@pytest.mark.parametrize(("channels", "kernel", "stride"), [(7, 3, 1), (6, 5, 2), (4, 3, (2, 1))])
def test_a_joint_layer_trains_as_the_plain_one(variant, channels, kernel, stride):
    torch.manual_seed(0)
    plain = FuSeConv2d(channels, kernel, stride=stride, variant=variant, activation=nn.ReLU6()).double()
    for norm in (plain.row.bn, plain.column.bn):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
    images = torch.randn(3, channels, 9, 6, dtype=torch.float64)
    network = nn.Sequential(plain)
    joint = joined(network)
    assert isinstance(joint[0], JointFuSe2d) and isinstance(network[0], FuSeConv2d)
    expected, found = trained(network, images, 5), separated(trained(joint, images, 5))
    assert isinstance(found[0], FuSeConv2d)
    assert expected.state_dict().keys() == found.state_dict().keys()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-9, atol=1e-9)
        assert value.dtype == torch.int64 or not torch.equal(value, network.state_dict()[name])  # it did train
    with torch.no_grad():
        torch.testing.assert_close(found.eval()(images), expected.eval()(images))


def test_no_parameter_is_held_twice():
    plain = zoo.create("mobilenet_v2_cifar:fuse_full", width=0.1)
    joint = joined(plain)
    assert sum(p.numel() for p in joint.parameters()) == sum(p.numel() for p in plain.parameters())
    assert not any(isinstance(module, FuSeConv2d) for module in joint.modules())


@pytest.mark.parametrize("name", ["mobilenet_v2_cifar:fuse_half[2,9]", "mobilenet_v3_small:fuse_full", "resnet50"])
def test_there_and_back(name):
    torch.manual_seed(1)
    plain = zoo.create(name, width=0.25, resolution=32, classes=3).eval()
    images = torch.randn(2, 3, 32, 32)
    joint = joined(plain)
    back = separated(joint)
    with torch.no_grad():
        expected = plain(images)
        torch.testing.assert_close(joint(images), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(back(images), expected)
    assert list(back.state_dict()) == list(plain.state_dict())
