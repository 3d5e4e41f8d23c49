"""Options of the tools that take a network."""

from __future__ import annotations

import argparse
import inspect
import json
from pathlib import Path

import pytest

from hw.spec.config import PRESETS, ConfigError
from sw.defaults import OBSERVERS
from sw.frontends.networks import quantised_network
from sw.nn import pretrained
from sw.options import add_network_options, add_target_options, network_arguments, quantisation_arguments, target


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_network_options(parser)
    add_target_options(parser)
    return parser.parse_args(arguments)


def test_defaults_are_those_of_the_function_they_are_for() -> None:
    options = parse("digits")
    parameters = inspect.signature(quantised_network).parameters
    given = {**network_arguments(options), **quantisation_arguments(options)}
    assert given.pop("name") == "digits" and given.keys() == parameters.keys() - {"name", "progress"}
    assert given == {name: parameters[name].default for name in given}


def test_an_unknown_observer_is_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse("mobilenet_v2", "--observer", "percentil")
    assert left.value.code == 2
    message = capsys.readouterr().err
    assert "--observer: invalid choice: 'percentil'" in message and all(kind in message for kind in OBSERVERS)


def test_published_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {"mobilenet_v2": tmp_path / "v2.pth", "ppocr_classifier": tmp_path / "cls.onnx"}
    monkeypatch.setattr(pretrained, "pretrained", files.__getitem__)
    found = network_arguments(parse("mobilenet_v2", "--pretrained", "--input-shape", "3x96x96"))
    assert (found["name"], found["weights"], found["input_shape"]) == ("mobilenet_v2", tmp_path / "v2.pth", (3, 96, 96))
    found = network_arguments(parse("ppocr_classifier", "--pretrained"))
    assert (found["name"], found["weights"]) == (str(tmp_path / "cls.onnx"), None)


@pytest.mark.parametrize("other", ["--random-weights", "--weights"])
def test_weights_come_from_one_place(other: str) -> None:
    values = ["w.pth"] if other == "--weights" else []
    with pytest.raises(ValueError, match=f"mobilenet_v2: --pretrained and {other} exclude each other"):
        network_arguments(parse("mobilenet_v2", "--pretrained", other, *values))


def test_target(tmp_path: Path) -> None:
    assert target(parse("digits")) == PRESETS["edge16"] and target(parse("digits", "--preset", "tiny")).rows == 4
    config = PRESETS["tiny"].twin(rows=3)
    (tmp_path / "m.json").write_text(json.dumps({"config": config.to_dict(), "config_hash": config.hash_hex}))
    assert target(parse("digits", "--config", str(tmp_path / "m.json"))) == config
    with pytest.raises(ConfigError, match="no such manifest"):
        target(parse("digits", "--config", str(tmp_path / "absent.json")))
    with pytest.raises(SystemExit):
        parse("digits", "--config", "m.json", "--preset", "tiny")
