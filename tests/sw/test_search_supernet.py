"""A slice of the supernet computes what the network by itself does; smaller kernels come from larger ones."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from sw.nos.recalibrate import recalibrate
from sw.search.space import OPERATORS, Architecture
from sw.search.supernet import ElasticBlock
from tests.sw.search_spaces import SPACE, supernet


@pytest.mark.parametrize("training", [False, True])
def test_slices_equal_networks_by_themselves(training: bool) -> None:
    model = supernet().train(training)
    x = torch.randn(3, 3, 16, 16)
    rng = random.Random(1)
    seen = set()
    for architecture in (SPACE.largest, SPACE.smallest, *(SPACE.draw(rng.randrange) for _ in range(12))):
        alone = model.subnet(architecture)
        assert alone.training == training
        model.activate([architecture])
        torch.testing.assert_close(model(x), alone(x), rtol=0, atol=1e-5)
        seen |= set(architecture.blocks)
    assert {block.operator for block in seen} == set(OPERATORS) and {block.kernel for block in seen} == {3, 5, 7}


def test_networks_differ() -> None:
    """Every choice matters: no two networks that differ in one of them compute the same."""
    model, x = supernet(), torch.randn(1, 3, 16, 16)
    outputs = []
    first, _, last = SPACE.largest.stages
    for text in ("2d3", "2d5", "3d3", "2f3"):
        (block,) = Architecture.parse(text).blocks
        model.activate([Architecture((first, (block,), last))])
        outputs.append(model(x))
    for index, one in enumerate(outputs):
        assert not any(torch.allclose(one, other) for other in outputs[:index])


def test_initial_kernels_are_middles() -> None:
    block = ElasticBlock(SPACE.places[1][0], SPACE.kernels, SPACE.expansions)
    assert torch.equal(block.depthwise_kernel(4, 7), block.kernel[:4])
    assert torch.equal(block.depthwise_kernel(4, 3), block.kernel[:4, :, 2:5, 2:5])
    row, column = block.fuse_filters(5, 5)
    assert torch.equal(row, block.kernel[:2, :, 3:4, 1:6])
    assert torch.equal(column, block.kernel[2:5, :, 1:6, 3:4])


def test_transforms_chain() -> None:
    """The 3x3 kernel is made from the 5x5 one, not from the 7x7 one."""
    block = ElasticBlock(SPACE.places[1][0], SPACE.kernels, SPACE.expansions)
    with torch.no_grad():
        block.transforms["5"].mul_(2)
        block.transforms["3"].mul_(3)
    torch.testing.assert_close(block.depthwise_kernel(4, 3), 6 * block.kernel[:4, :, 2:5, 2:5])
    torch.testing.assert_close(block.depthwise_kernel(4, 5), 2 * block.kernel[:4, :, 1:6, 1:6])


def test_training_runs_all_active_networks() -> None:
    model, x = supernet().train(), torch.randn(4, 3, 16, 16)
    model.activate([SPACE.largest, SPACE.smallest])
    both = model(x)
    assert both.shape == (8, 2)
    for index, architecture in enumerate((SPACE.largest, SPACE.smallest)):
        torch.testing.assert_close(both[4 * index : 4 * index + 4], model.subnet(architecture)(x))


def test_recalibration_of_the_supernet_and_of_the_network_agree() -> None:
    model = supernet()
    batches = [torch.randn(8, 3, 16, 16) for _ in range(3)]
    alone = model.subnet(SPACE.smallest)
    model.activate([SPACE.smallest])
    recalibrate(model, batches)
    recalibrate(alone, batches)
    torch.testing.assert_close(model(batches[0]), alone(batches[0]), rtol=0, atol=1e-5)
    assert not model.training and not any(module.training for module in model.modules())


def test_fuse_normalisations_start_with_the_depthwise_ones() -> None:
    model = supernet()
    model.share_normalisation()
    for module in model.modules():
        if isinstance(module, ElasticBlock):
            one, other = module.bn_operators["depthwise"], module.bn_operators["fuse_half"]
            assert isinstance(one, nn.BatchNorm2d) and isinstance(other, nn.BatchNorm2d)
            assert torch.equal(one.weight, other.weight) and torch.equal(one.running_var, other.running_var)
