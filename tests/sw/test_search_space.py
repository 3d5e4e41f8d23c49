"""Spaces of networks: descriptions come back, counts are right, and others' networks are refused."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random

import pytest

from sw.nn.zoo.mobilenet_v2 import BLOCKS, MobileNetV2
from sw.search.space import Architecture, Space, SpaceError, Stage
from tests.sw.search_spaces import SPACE


def test_texts_and_choices_describe_a_network() -> None:
    rng = random.Random(0)
    for architecture in (SPACE.largest, SPACE.smallest, *(SPACE.draw(rng.randrange) for _ in range(20))):
        assert Architecture.parse(str(architecture)) == architecture
        assert SPACE.architecture(SPACE.chosen(architecture)) == architecture
    assert str(SPACE.largest) == "1d7|3d7,3d7|3d7,3d7"
    assert str(SPACE.smallest) == "1f3|2f3|2f3"
    assert str(SPACE.baseline) == "1d3|3d3,3d3|3d3,3d3"
    assert Space.from_dict(json.loads(json.dumps(SPACE.to_dict()))) == SPACE


def test_size_counts_different_networks() -> None:
    space = Space(kernels=(3,), expansions=(2, 3), stages=(Stage(8, 1, 1, expand=False), Stage(16, 2, 2)))
    names = list(space.choices)
    every = {
        space.architecture(dict(zip(names, values, strict=True)))
        for values in itertools.product(*space.choices.values())
    }
    assert space.size == len(every) == 2 * (4 + 16)


def test_the_default_space_is_around_the_zoos_network() -> None:
    """Its baseline has the channels of MobileNetV2, block by block."""
    space = Space(width=0.35)
    places = [place for stage in space.places for place in stage]
    assert len(places) == BLOCKS
    zoo = MobileNetV2(0.35, 10).features
    for place, block in zip(places, list(zoo)[1:-1], strict=True):
        convs = [module for module in block.modules() if hasattr(module, "groups")]
        assert (convs[0].in_channels, convs[-1].out_channels) == (place.cin, place.cout)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1d3|3x3|3d3", "'3x3' is no block"),
        ("1d3|3d3", "has 2 stages, not 3"),
        ("1d3|3d3,3d3,3d3|3d3", "stage 1 has 3 blocks, not 1 to 2"),
        ("1d3|4d3|3d3", r"stage 1 cannot have 4d3; .*expansions \(2, 3\)"),
        ("2d3|3d3|3d3", r"stage 0 cannot have 2d3; .*expansions \(1,\)"),
        ("1d9|3d3|3d3", "stage 0 cannot have 1d9"),
    ],
)
def test_a_network_of_another_space(text: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        list(SPACE.blocks(Architecture.parse(text)))


@pytest.mark.parametrize(
    ("field", "value"),
    [("kernels", (2, 3)), ("kernels", ()), ("expansions", (3, 2)), ("expansions", (0,)), ("width", 0), ("stages", ())],
)
def test_an_impossible_space(field: str, value: object) -> None:
    with pytest.raises(SpaceError, match=field):
        dataclasses.replace(SPACE, **{field: value})
    with pytest.raises(SpaceError, match="no description of a space"):
        Space.from_dict({"stages": [], "colour": 3})
