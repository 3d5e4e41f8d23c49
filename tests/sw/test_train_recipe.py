from __future__ import annotations

import math

import pytest

from sw.train.recipe import RECIPES, Recipe, RecipeError, learning_rate


def test_the_papers_recipe():
    recipe = RECIPES["imagenet"]
    assert (recipe.epochs, recipe.resolution, recipe.optimiser) == (350, 224, "rmsprop")
    assert (recipe.alpha, recipe.momentum, recipe.eps) == (0.9, 0.9, 1e-3)
    assert (recipe.weight_decay, recipe.label_smoothing, recipe.ema) == (1e-5, 0.1, 0.9999)
    assert (recipe.bn_momentum, recipe.bn_eps) == (0.01, 1e-3)
    assert learning_rate(recipe, 0) == 0.016  # per 256 pictures
    assert learning_rate(recipe, 2.39) == 0.016
    assert learning_rate(recipe, 2.4) == pytest.approx(0.016 * 0.97)
    assert learning_rate(recipe, 24.01) == pytest.approx(0.016 * 0.97**10)


def test_learning_rate_follows_the_batch_and_warms_up():
    recipe = Recipe(epochs=10, batch=512, lr=0.1, schedule="cosine", warmup_epochs=2, augmentation="none")
    assert learning_rate(recipe, 0) == 0
    assert learning_rate(recipe, 1) == pytest.approx(0.2 * 0.5 * 0.5 * (1 + math.cos(math.pi * 0.1)))
    assert learning_rate(recipe, 5) == pytest.approx(0.1)
    assert learning_rate(recipe, 10) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs 0 must be at least 1"),
        ({"label_smoothing": 1.5}, "label_smoothing 1.5 must be from 0 to 1"),
        ({"optimiser": "adam"}, "optimiser 'adam' must be one of rmsprop, sgd, adamw"),
        ({"warmup_epochs": 400}, "warmup_epochs 400 must be from 0 to 350"),
        ({"lr": float("nan")}, "lr nan must be"),
    ],
)
def test_a_value_out_of_range_is_named(change, message):
    with pytest.raises(RecipeError, match=message):
        Recipe().changed(change)


def test_changes_of_none_are_no_changes():
    assert Recipe().changed({"epochs": None, "batch": 64}) == Recipe(batch=64)
