"""ONNX files all the way: quantised, compiled, and refused with the names of their nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hw.spec.program import Program
from sw import compile as tool
from sw.compiler.ir import AvgPool, MaxPool
from sw.frontends.networks import UnknownNetworkError, quantised_network
from sw.frontends.onnx_reader import read_onnx
from sw.frontends.torch_export import import_program
from sw.quant import QuantisationError, UnsupportedOperatorError
from tests.sw.onnx_models import Model, reference

torch.set_num_threads(1)


def block(hswish: bool = False) -> tuple[Model, str]:
    """Return an inverted residual with unfused batch normalisation, for any size."""
    model = Model("n", 3, "h", "w", opset=14, seed=3)
    x = model.add("Clip", model.norm(model.conv("x", 3, 8, 3, strides=(2, 1), pads=(1, 1, 1, 1)), 8), 0, 6)
    y = model.norm(model.conv(x, 8, 8, 3, groups=8, pads=(1, 1, 1, 1), bias=False), 8)
    y = model.add("HardSwish", y, name="/act/Mul.1") if hswish else model.add("Relu", y)
    y = model.add("Add", x, model.conv(y, 8, 8))
    y = model.add("Flatten", model.add("GlobalAveragePool", y))
    return model, model.add("Softmax", model.add("Gemm", y, model.rng.normal(size=(8, 4))))


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(20, 3, 10, 9)).astype(np.float32)


def test_a_file_becomes_a_program(tmp_path: Path, inputs: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    model, output = block()
    path = model.save(tmp_path, output)
    calibration = tmp_path / "calib"
    calibration.mkdir()
    np.save(calibration / "many.npy", inputs[1:])
    np.save(calibration / "one.npy", inputs[0].astype(np.float64))
    out = tmp_path / "prog"
    options = ["--calib", str(calibration), "--input-shape", "3x10x9", "--preset", "tiny", "--out", str(out)]
    assert tool.main([str(path), *options]) == 0
    program = Program.load(out)
    assert program.macs == read_onnx(path, input_shape=(3, 10, 9)).meta["macs"]
    assert program.meta["onnx"]["host"] == {output: [model.nodes[-1].name]}
    table = capsys.readouterr().out
    assert all(name in table for name in ("conv_0", "conv_3", "conv_6", "gemm_10"))


def test_the_quantised_network_is_close_to_onnxruntime(tmp_path: Path, inputs: np.ndarray) -> None:
    model, output = block()
    path = model.save(tmp_path, output)
    np.save(tmp_path / "calib.npy", inputs)
    network = quantised_network(str(path), calibration=tmp_path / "calib.npy", input_shape=(3, 10, 9))
    with torch.no_grad():
        results = torch.softmax(network.module(torch.from_numpy(inputs)), 1).numpy()
    expected = reference(path, inputs)[0]
    assert np.abs(results - expected).max() < 0.03 < np.ptp(expected)


def test_hswish_joins_its_convolution(tmp_path: Path, inputs: np.ndarray) -> None:
    model, output = block(hswish=True)
    np.save(tmp_path / "calib.npy", inputs)
    path = model.save(tmp_path, output)
    network = quantised_network(str(path), calibration=tmp_path / "calib.npy", input_shape=(3, 10, 9))
    graph = import_program(network.exported, name=network.name, meta=network.meta)
    assert [op.name for op in graph.ops if getattr(op, "curve", None) == "hswish"] == ["conv_3"]


def test_pooling_windows_of_any_padding(tmp_path: Path, inputs: np.ndarray) -> None:
    model = Model(1, 3, 10, 9)
    x = model.add("MaxPool", model.conv("x", 3, 4), kernel_shape=(2, 2), auto_pad="SAME_UPPER", name="pool/max@1")
    x = model.add("AveragePool", x, kernel_shape=(2, 2), strides=(2, 2), pads=(0, 1, 0, 0), count_include_pad=1)
    path = model.save(tmp_path, model.conv(x, 4, 2))
    np.save(tmp_path / "calib.npy", inputs)
    network = quantised_network(str(path), calibration=tmp_path / "calib.npy")
    graph = import_program(network.exported)
    first, second = (op for op in graph.ops if isinstance(op, MaxPool | AvgPool))
    assert (first.name, first.padding, graph[first.output].shape) == ("pool/max@1", (0, 0, 1, 1), (4, 10, 9))
    assert (second.padding, graph[second.output].shape) == ((0, 1, 0, 0), (4, 5, 5))
    expected = reference(path, inputs[:1])[0]
    with torch.no_grad():
        assert np.abs(network.module(torch.from_numpy(inputs[:1])).numpy() - expected).max() < 0.05 * np.ptp(expected)


def test_an_average_that_does_not_count_its_padding_is_refused_by_its_node(tmp_path: Path, inputs: np.ndarray) -> None:
    model = Model(1, 3, 10, 9)
    x = model.add("AveragePool", "x", kernel_shape=(3, 3), pads=(1, 1, 1, 1), name="pool/mean@1")
    path = model.save(tmp_path, model.conv(x, 3, 2))
    np.save(tmp_path / "calib.npy", inputs)
    with pytest.raises(UnsupportedOperatorError, match="layer 'pool/mean@1': .*use count_include_pad=True"):
        quantised_network(str(path), calibration=tmp_path / "calib.npy")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 9, 9), np.float32), "shape (2, 3, 9, 9); the network takes (3, 10, 9)"),
        (np.zeros((2, 3, 10, 9), np.uint8), "type uint8; floating-point inputs"),
        (np.zeros((0, 3, 10, 9), np.float32), "holds no inputs"),
        (np.full((2, 3, 10, 9), np.nan, np.float32), "not finite"),
    ],
)
def test_wrong_calibration(array: np.ndarray, message: str, tmp_path: Path) -> None:
    model, output = block()
    np.save(tmp_path / "calib.npy", array)
    with pytest.raises(QuantisationError) as caught:
        quantised_network(str(model.save(tmp_path, output)), calibration=tmp_path / "calib.npy", input_shape=(3, 10, 9))
    assert message in str(caught.value)


def test_the_command_line_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, output = block()
    path = str(model.save(tmp_path, output))
    out, empty, text = tmp_path / "prog", tmp_path / "empty", tmp_path / "text.npy"
    empty.mkdir()
    text.write_text("no array")
    shape = ["--input-shape", "3,10,9"]
    for arguments, message in [
        ([path], "axis 2 (H) is dynamic ('h'); fix it with --input-shape"),
        ([path, *shape], "must be calibrated; give --calib with a .npy of preprocessed inputs (N, 3, 10, 9)"),
        ([path, *shape, "--calib", str(tmp_path / "nowhere")], "nowhere: no such calibration file or folder"),
        ([path, *shape, "--calib", str(empty)], "empty: holds no pictures"),
        ([path, *shape, "--calib", str(text)], "text.npy: not a readable .npy"),
        ([path, *shape, "--weights", "w.npz"], "holds its own weights"),
        (["nowhere.onnx"], "nowhere.onnx: no such file"),
        (["digits", "--calib", str(empty)], "--calib is for files and networks of the zoo; digits brings"),
        (["net.pt2", *shape], "--input-shape is for .onnx files"),
    ]:
        assert tool.main([*arguments, "--out", str(out)]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and message in captured.err and not captured.out
    with pytest.raises(SystemExit) as stopped:
        tool.main([path, "--input-shape", "3xHxW"])
    assert stopped.value.code == 2 and "'3xHxW' is no shape; write it as 3x224x224" in capsys.readouterr().err
    assert not out.exists()


def test_two_inputs_are_not_calibrated(tmp_path: Path) -> None:
    model = Model(1, 3, 4, 4)
    model.inputs.append(type(model.inputs[0]).FromString(model.inputs[0].SerializeToString()))
    model.inputs[1].name = "z"
    path = model.save(tmp_path, model.add("Add", "x", "z"))
    assert read_onnx(path).input_names == ("x", "z")
    with pytest.raises(UnknownNetworkError, match="has 2 inputs"):
        quantised_network(str(path), calibration=tmp_path)
