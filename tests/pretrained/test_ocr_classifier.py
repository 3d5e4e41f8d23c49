"""PP-OCR's text direction classifier, a MobileNetV3-small in ONNX; ``nox -s pretrained`` installs the package with it.

Its h-swish is spread over Add, Clip, Mul and Div, its h-sigmoid has slope 0.2, its batch normalisation is not fused,
and most of its strides are (2, 1).

``nox -s pretrained -- -s tests/pretrained/test_ocr_classifier.py`` prints the figures that docs/onnx.md quotes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from hw.spec.program import Program
from sim.iss import IssBackend
from sw import compile as tool
from sw.frontends.networks import quantised_network
from sw.frontends.onnx_reader import OnnxError, OnnxNetwork, read_onnx
from sw.frontends.torch_export import import_program
from sw.inputs import read_inputs
from sw.nn.pretrained import pretrained
from sw.regions import dequantise, quantise_input
from tests.sw.qdq import agrees

SHAPE = (3, 48, 192)
LETTERS = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ")


def crops(count: int, seed: int) -> list[Image.Image]:
    """Return lines of random text, dark on light, each followed by itself upside down."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(count // 2):
        light, dark = (tuple(int(v) for v in rng.integers(*bounds, 3)) for bounds in ((150, 256), (0, 100)))
        picture = Image.new("RGB", (SHAPE[2], SHAPE[1]), light)
        text = "".join(rng.choice(LETTERS, size=rng.integers(4, 14)))
        place = (int(rng.integers(0, 12)), int(rng.integers(-2, 10)))
        font = ImageFont.load_default(size=int(rng.integers(28, 40)))
        ImageDraw.Draw(picture).text(place, text, fill=dark, font=font)
        made += [picture, picture.transpose(Image.Transpose.ROTATE_180)]
    return made


def normalised(picture: Image.Image) -> np.ndarray:
    return ((np.asarray(picture, np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def path() -> Path:
    return pretrained("ppocr_classifier")


@pytest.fixture(scope="module")
def network(path: Path) -> OnnxNetwork:
    return read_onnx(path, input_shape=SHAPE)


def test_outputs_are_onnxruntime_s(path: Path, network: OnnxNetwork) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        x = rng.uniform(-1, 1, (batch, *SHAPE)).astype(np.float32)
        (expected,) = session.run(None, {"x": x})
        (result,) = network.run(torch.from_numpy(x))
        np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
        assert np.ptp(expected[:, 0]) > 1e-3 or batch == 1


def test_every_pattern_is_recognised(network: OnnxNetwork) -> None:
    found = {name: len(layers) for name, layers in network.meta["recognised"].items()}
    print(found)
    assert found == {"hswish": 18, "hsigmoid": 9, "channel_scale": 9, "squeeze_excite": 9}
    kinds = {type(module) for module in network.module.children()}
    assert nn.BatchNorm2d not in kinds and nn.Hardswish in kinds
    assert network.meta["layers"]["Mul@0"] == ["Add@0", "Clip@0", "Mul@0", "Div@0"]
    assert network.meta["host"] == {"save_infer_model/scale_0.tmp_1": ["Softmax@0"]}


def test_size_and_strides(network: OnnxNetwork) -> None:
    convolutions = [module for module in network.module.children() if isinstance(module, nn.Conv2d)]
    strides = [module.stride for module in convolutions if module.stride != (1, 1)]
    assert strides == [(2, 2), *[(2, 1)] * 4]
    assert len(convolutions) == 53
    assert network.meta["macs"] == 16_315_376


def test_the_open_size_is_named(path: Path) -> None:
    with pytest.raises(OnnxError, match=r"input 'x': axis 2 \(H\) is dynamic .*--input-shape CxHxW"):
        read_onnx(path)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    for index, picture in enumerate(crops(32, seed=1)):
        picture.save(folder / f"{index:02}.png")
    return folder


def test_the_program_answers_like_onnxruntime(path: Path, calibration: Path, tmp_path: Path) -> None:
    out, names = tmp_path / "prog", tmp_path / "names.txt"
    names.write_text("0 degrees\n180 degrees\n")
    arguments = ["ppocr_classifier", "--pretrained", "--input-shape", "3x48x192", "--calib", str(calibration)]
    options = ["--mean", "0.5", "--std", "0.5", "--class-names", str(names), "--preset", "edge16", "--out", str(out)]
    assert tool.main([*arguments, *options]) == 0
    program = Program.load(out)
    (source,), (sink,) = program.inputs, program.outputs
    assert program.meta["onnx"]["host"] == {"save_infer_model/scale_0.tmp_1": ["Softmax@0"]}
    assert program.meta["classes"] == ["0 degrees", "180 degrees"]

    text = crops(64, seed=2)
    text[5].save(tmp_path / "crop.png")
    noise = np.random.default_rng(3).uniform(-1, 1, (16, *SHAPE)).astype(np.float32)
    inputs = np.concatenate([np.stack([normalised(picture) for picture in text]), noise])
    (picture,) = read_inputs(program, [str(tmp_path / "crop.png")]).values()
    np.testing.assert_array_equal(picture, quantise_input(source, inputs[5]))

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": inputs})
    backend = IssBackend(program.config, check_hazards=False)
    runs = [backend.run(program, {source.name: quantise_input(source, x)}) for x in inputs]
    found = softmax(np.stack([dequantise(sink, run.outputs[sink.name]).reshape(-1) for run in runs]))

    error, same = np.abs(found - expected).max(1), found.argmax(1) == expected.argmax(1)
    sure = np.abs(expected[:, 0] - expected[:, 1]) > 0.5
    turned = np.arange(len(text)) % 2
    for part, chosen in (("text", slice(0, len(text))), ("noise", slice(len(text), None))):
        print(
            f"{part}: {len(same[chosen])} inputs, same label {same[chosen].sum()}, probability error at most "
            f"{error[chosen].max():.3f}, mean {error[chosen].mean():.4f}"
        )
    right = [int((scores[: len(text)].argmax(1) == turned).sum()) for scores in (expected, found)]
    print(f"text direction right: onnxruntime {right[0]}, int8 {right[1]} of {len(text)}; sure {sure.sum()}")
    assert same[sure].all() and sure[: len(text)].mean() > 0.8
    assert same[: len(text)].mean() >= 0.95
    assert error[: len(text)].mean() < 0.01 and error[: len(text)].max() < 0.1
    # noise is far from what calibrated the ranges, and the network is unsure of it
    assert error[len(text) :].mean() < 0.15


def test_each_layer_is_pytorch_s_within_one_lsb(path: Path, calibration: Path) -> None:
    how = {"mean": [0.5], "std": [0.5]}
    network = quantised_network(str(path), calibration=calibration, input_shape=SHAPE, preprocessing=how)
    graph = import_program(network.exported)
    data = torch.from_numpy(np.stack([normalised(picture) for picture in crops(2, seed=4)]))
    agrees(network.exported, graph, data, "edge16")
