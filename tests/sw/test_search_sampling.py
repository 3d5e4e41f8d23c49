"""Each step draws networks of the whole space; the largest teaches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sw.search.sampling import Largest, Sampling, drawn
from sw.train.objective import distillation_loss
from tests.sw.search_spaces import SPACE, supernet


def test_all_choices_are_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    networks = [network for _ in range(300) for network in drawn(SPACE, 1, generator)]
    for number, places in enumerate(SPACE.places):
        assert {len(network.stages[number]) for network in networks} == set(range(1, len(places) + 1))
        for place in places:
            found = {n.stages[number][place.index] for n in networks if len(n.stages[number]) > place.index}
            assert found == set(SPACE.options(place))


def test_a_sandwich_has_both_ends() -> None:
    generator = torch.Generator().manual_seed(0)
    networks = drawn(SPACE, 4, generator)
    assert networks[:2] == [SPACE.largest, SPACE.smallest] and len(networks) == 4
    again = drawn(SPACE, 4, torch.Generator().manual_seed(0))
    assert networks == again != drawn(SPACE, 4, generator)


def test_loss_is_the_mean_over_networks() -> None:
    model = supernet().train()
    teacher = model.subnet(SPACE.largest).eval()
    objective = Sampling(0.1, teacher, 0.25, 2.0, paths=3)
    objective.begin(model, 0.0, torch.Generator().manual_seed(3))
    assert len(model.active) == 3
    images, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 1, 0])
    logits = model(images)
    expected = torch.stack(
        [
            0.75 * F.cross_entropy(part, labels, label_smoothing=0.1)
            + 0.25 * distillation_loss(part, teacher(images), 2.0)
            for part in logits.chunk(3)
        ]
    ).mean()
    torch.testing.assert_close(objective.loss(logits, images, labels), expected)


def test_only_the_largest_learns_first() -> None:
    model = supernet().train()
    model.activate([SPACE.smallest])
    objective = Largest(0.0)
    objective.begin(model, 0.5, torch.Generator())
    assert model.active == [SPACE.largest]
    objective.loss(model(torch.randn(4, 3, 16, 16)), torch.empty(0), torch.tensor([0, 1, 0, 1])).backward()
    block = model.stages[1][0]
    assert block.kernel.grad is not None and block.transforms["3"].grad is None and block.rows["3"].grad is None


def test_what_is_measured_is_the_largest_recalibrated() -> None:
    model = supernet()
    model.activate([SPACE.smallest])
    batches = [(torch.randn(8, 3, 16, 16), torch.zeros(8, dtype=torch.int64))]
    found = Largest(0.0).measured(model, batches)
    assert found.active == [SPACE.largest] and model.active == [SPACE.smallest]
    assert not torch.equal(found.first[1].running_mean, model.first[1].running_mean)
    with pytest.raises(ValueError, match="paths 0"):
        Sampling(0.0, model, paths=0)
