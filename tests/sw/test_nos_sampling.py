from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sw.frontends.calibration import PictureInput
from sw.nn import zoo
from sw.nn.fuse import FuSeConv2d
from sw.nos.recalibrate import recalibrate
from sw.nos.sampling import Scaffolding, fuse_probability
from sw.nos.scaffold import scaffold, scaffold_layers
from sw.preprocessing import Preprocessing
from sw.train.data import Share, open_pictures
from sw.train.distributed import Processes
from sw.train.loop import fit, measure
from sw.train.objective import Distillation, distillation_loss
from sw.train.recipe import Recipe
from tests.sw.training_pictures import save_archive

ALONE = Processes(Share(), torch.device("cpu"))


def network() -> nn.Module:
    torch.manual_seed(0)
    return zoo.create("mobilenet_v2_cifar", width=0.1, resolution=16, classes=2)


def test_the_chance_of_fuse_rises_to_one():
    assert [fuse_probability(at, 0.5, 0.5) for at in (0, 0.25, 0.5, 0.9)] == [0.5, 0.75, 1, 1]
    assert fuse_probability(0, 0.3, 0) == 1


def test_layers_are_drawn_one_by_one_as_often_as_they_should():
    model = scaffold(network(), "half")
    objective = Scaffolding(0.1, network(), start=0.25, full_at=1.0)
    generator = torch.Generator().manual_seed(0)
    drawn = []
    for _ in range(200):
        objective.begin(model, 0.0, generator)
        drawn.append([layer.operator == "fuse" for layer in scaffold_layers(model)])
    shares = torch.tensor(drawn).float().mean(0)
    assert len(shares) == 17
    assert ((shares > 0.1) & (shares < 0.4)).all()
    assert sum(len(set(step)) > 1 for step in drawn) > 0  # a step mixes both
    objective.begin(model, 1.0, generator)
    assert all(layer.operator == "fuse" for layer in scaffold_layers(model))


@pytest.mark.parametrize("change", [{"start": 1.5}, {"full_at": -0.1}, {"weight": 2.0}, {"temperature": 0.0}])
def test_wrong_numbers_are_named(change):
    with pytest.raises(ValueError, match=str(next(iter(change.values())))):
        Scaffolding(0.1, network(), **change)


def test_the_distance_to_the_teacher():
    logits, taught = torch.randn(6, 4), torch.randn(6, 4)
    assert distillation_loss(taught, taught, 3.0).item() == pytest.approx(0, abs=1e-6)
    p, q = torch.softmax(taught / 3, 1), torch.softmax(logits / 3, 1)
    expected = 9 * (p * (p / q).log()).sum(1).mean()
    assert distillation_loss(logits, taught, 3.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_teacher_does_not_learn():
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    objective = Distillation(0.0, teacher, 1.0)
    logits = torch.randn(2, 3, requires_grad=True)
    objective.loss(logits, torch.randn(2, 3, 2, 2), torch.tensor([0, 1])).backward()
    assert logits.grad is not None
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_recalibrated_statistics_are_the_means_over_batches():
    model = nn.Sequential(nn.BatchNorm2d(2, momentum=0.3), nn.Dropout(0.5)).train()
    batches = [torch.randn(8, 2, 3, 3) * scale + scale for scale in (1.0, 2.0, 4.0)]
    recalibrate(model, iter(batches))
    norm = model[0]
    torch.testing.assert_close(norm.running_mean, torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([b.var((0, 2, 3)) for b in batches]).mean(0))
    assert (norm.momentum, norm.training, model[1].training) == (0.3, True, True)
    with pytest.raises(ValueError, match="at least one batch"):
        recalibrate(model, [])


def test_a_scaffold_trains_and_gives_a_plain_network(tmp_path: Path):
    about = PictureInput((3, 16, 16), Preprocessing(crop=1.0))
    pictures = open_pictures(save_archive(tmp_path / "bars.npz"), about, augmentation="shift")
    recipe = Recipe(
        epochs=4, batch=16, optimiser="sgd", lr=0.8, schedule="cosine", ema=0.0, bn_momentum=0.1, augmentation="shift"
    )
    teacher = network()
    objective = Scaffolding(0.0, teacher, 0.2, full_at=0.5)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    result = fit(scaffold(network(), "half"), pictures, recipe, objective, tmp_path, facts={}, processes=ALONE)
    assert sum(isinstance(module, FuSeConv2d) for module in result.model.modules()) == 17
    assert measure(result.model, pictures.test, ALONE) == result.lines[-1]["top1"]
    assert result.lines[-1]["loss"] < result.lines[0]["loss"]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
