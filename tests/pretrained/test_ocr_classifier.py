"""PP-OCR's text direction classifier, a MobileNetV3-small in ONNX; ``nox -s pretrained`` installs the package with it.

Its h-swish is spread over Add, Clip, Mul and Div, its h-sigmoid has slope 0.2, its batch normalisation is not fused,
and most of its strides are (2, 1).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from sw.frontends.onnx_reader import OnnxError, OnnxNetwork, read_onnx
from sw.nn.pretrained import pretrained

SHAPE = (3, 48, 192)


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
