"""Floating-point networks in .pt2 files, and pictures that calibrate networks in files."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from hw.spec.program import Program
from sim import run
from sw import compile as tool
from sw.frontends.networks import META_FILE, UnknownNetworkError, float_network, quantised_network
from sw.quant import QuantisationError, UnsupportedOperatorError, save
from tests.sw.onnx_models import Model

torch.set_num_threads(1)

SHAPE = (3, 12, 10)
HOW = ["--mean", "0.5", "--std", "0.25,0.25,0.5"]


class Net(nn.Module):
    """Reshapes by the batch size, as user code does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardswish())
        self.head = nn.Linear(8 * 6 * 5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x), 2)
        return self.head(F.dropout(x.view(x.size(0), -1), training=self.training))


def network() -> Net:
    torch.manual_seed(0)
    model = Net()
    nn.init.uniform_(model.stem[1].running_mean, -0.3, 0.3)
    return model.eval()


def write(path: Path, model: nn.Module, batch: int = 1, *, free: int | None = None, meta: object = None) -> Path:
    example = (torch.randn(batch, *SHAPE),)
    shapes = None if free is None else ({free: torch.export.Dim.AUTO},)
    files = None if meta is None else {META_FILE: json.dumps(meta)}
    torch.export.save(torch.export.export(model, example, dynamic_shapes=shapes), path, extra_files=files)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "net.pt2", network())


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    inputs = np.random.default_rng(0).normal(size=(16, *SHAPE)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    return tmp_path / "inputs.npy"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for index in range(4):
        Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize((30, 20)).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize(("batch", "free"), [(1, None), (3, None), (2, 0)])
def test_a_network_of_any_batch_size(batch: int, free: int | None, tmp_path: Path, arrays: Path) -> None:
    model = network()
    path = write(tmp_path / "net.pt2", model, batch, free=free)
    read = float_network(str(path))
    inputs = torch.from_numpy(np.load(arrays))
    with torch.no_grad():
        expected = model(inputs)
        torch.testing.assert_close(read.module(inputs), expected)
        quantised = quantised_network(str(path), calibration=arrays)
        assert quantised.module is not None and read.shape == SHAPE
        error = (quantised.module(inputs) - expected).abs().max()
    assert float(error) < 0.05 * float(expected.max() - expected.min())


def test_pictures_calibrate_and_run(
    file: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a b\nc\n\nd\ne\n")
    out = tmp_path / "prog"
    options = ["--calib", str(pictures), *HOW, "--class-names", str(names), "--preset", "tiny", "--out", str(out)]
    assert tool.main([str(file), *options]) == 0
    program = Program.load(out)
    assert program.meta["classes"] == ["a b", "c", "d", "e"]
    facts = {"shape": list(SHAPE), "range": [0.0, 1.0], "mean": [0.5], "std": [0.25, 0.25, 0.5]}
    assert program.meta["input"] == {**facts, "crop": 1.0, "interpolation": "bilinear"}
    capsys.readouterr()
    assert run.main([str(out), "--input", str(pictures / "2.png"), "--json"]) == 0
    (output,) = json.loads(capsys.readouterr().out)["outputs"].values()
    picture = np.asarray(Image.open(pictures / "2.png").resize((18, 12), Image.Resampling.BILINEAR))[:, 4:14]
    x = (picture.transpose(2, 0, 1) / 255 - 0.5) / np.array([0.25, 0.25, 0.5])[:, None, None]
    with torch.no_grad():
        expected = network()(torch.from_numpy(x.astype(np.float32))[None])[0].numpy()
    scores = {place["name"]: place["score"] for place in output["top"]}
    found = np.array([scores[name] for name in program.meta["classes"]])
    assert np.abs(found - expected).max() < 0.1 * np.ptp(expected)


def test_a_tar_calibrates_an_onnx_file_like_its_folder(pictures: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for picture in sorted(pictures.iterdir()):
            archive.add(picture, picture.name)
    model = Model(1, *SHAPE)
    path = str(
        model.save(
            tmp_path, model.add("HardSwish", model.conv("x", 3, 4)) if model.opset >= 14 else model.conv("x", 3, 4)
        )
    )
    how = {"mean": [0.5], "std": [0.5], "range": [0.0, 1.0], "crop": 0.8}
    first, second = (
        quantised_network(path, calibration=source, preprocessing=how) for source in (pictures, tmp_path / "set.tar")
    )
    assert first.meta["input"]["crop"] == 0.8 and first.meta == second.meta
    assert str(first.exported.graph) == str(second.exported.graph)


def test_a_file_may_say_itself_how_it_takes_pictures(pictures: Path, tmp_path: Path) -> None:
    meta = {"input": {"shape": list(SHAPE), "range": [0, 1], "mean": [0.5], "std": [0.5]}, "classes": list("abcd")}
    path = str(write(tmp_path / "net.pt2", network(), meta=meta))
    assert quantised_network(path, calibration=pictures).meta == meta
    other = quantised_network(path, calibration=pictures, preprocessing={"mean": [0.1], "std": [0.2]})
    assert other.meta["input"]["mean"] == [0.1] and other.meta["classes"] == list("abcd")


def test_refused_calibration(file: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, nothing, none, wrong, corrupt = (tmp_path / name for name in ("empty", "e.tar", "0.npy", "w.npy", "corrupt"))
    empty.mkdir()
    corrupt.mkdir()
    (corrupt / "a.png").write_bytes((pictures / "0.png").read_bytes()[:100])
    tarfile.open(nothing, "w").close()
    np.save(none, np.zeros((0, *SHAPE), np.float32))
    np.save(wrong, np.zeros((2, 3, 10, 12), np.float32))
    names, quantised = tmp_path / "names.txt", tmp_path / "quantised.pt2"
    names.write_text("a\nb\n")
    out = tmp_path / "prog"
    for arguments, message in [
        ([], "must be calibrated; give --calib with a .npy of preprocessed inputs (N, 3, 12, 10)"),
        (["--calib", str(pictures)], "how pictures become its inputs is not known; give --mean and --std"),
        (["--calib", str(pictures), "--mean", "0.5"], "--std must hold 1 or 3 numbers, not None"),
        (["--calib", str(pictures), "--mean", "0,0", "--std", "1"], "--mean must hold 1 or 3 numbers"),
        (["--calib", str(pictures), *HOW, "--crop", "2"], "--crop 2.0 must be above 0"),
        (["--calib", str(pictures), *HOW, "--interpolation", "area"], "--interpolation 'area' must be"),
        (["--calib", str(empty), *HOW], "empty: holds no pictures"),
        (["--calib", str(nothing), *HOW], "e.tar: holds no pictures"),
        (["--calib", str(none)], "0.npy: holds no inputs"),
        (["--calib", str(wrong)], "w.npy: shape (2, 3, 10, 12); the network takes (3, 12, 10)"),
        (["--calib", str(corrupt), *HOW], "a.png cannot be decoded"),
        (["--calib", str(tmp_path / "nowhere"), *HOW], "nowhere: no such calibration file or folder"),
        (["--calib", str(pictures), *HOW, "--class-names", str(names)], "has 4 classes, but 2 class names"),
        (["--calib", str(pictures), *HOW, "--class-names", "nowhere.txt"], "nowhere.txt: not a readable text file"),
        (["--input-shape", "3x9x9"], "--input-shape is for .onnx files"),
        (["--weights", "w.npz"], "holds its own weights"),
    ]:
        assert tool.main([str(file), *arguments, "--out", str(out)]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and message in captured.err, captured.err
        assert not captured.out and not out.exists()
    assert tool.main(["digits", *HOW, "--out", str(out)]) == 2
    assert "digits has its own preprocessing" in capsys.readouterr().err

    save(
        quantised_network(str(file), calibration=pictures, preprocessing={"mean": [0], "std": [1]}).exported, quantised
    )
    assert tool.main([str(quantised), "--calib", str(pictures), "--out", str(out)]) == 2
    assert "is quantised already; --calib is for floating-point networks" in capsys.readouterr().err
    with pytest.raises(UnknownNetworkError, match="holds a quantised network, no floating-point one"):
        float_network(str(quantised))


class Pair(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def test_refused_files(file: Path, arrays: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.pt2"

    def message(error: type[Exception] = UnknownNetworkError) -> str:
        with pytest.raises(error) as caught:
            quantised_network(str(path), calibration=arrays)
        return str(caught.value)

    x = torch.zeros(1, *SHAPE)
    torch.export.save(torch.export.export(Pair(), (x, x)), path)
    assert "other.pt2: has 2 inputs" in message()
    torch.export.save(torch.export.export(network().double(), (x.double(),)), path)
    assert "its input is torch.float64 of 4 axes; export it with float32" in message()
    write(path, nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval(), free=2)
    assert "axis 2 of its input is free" in message()
    write(path, nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.5)))
    assert "layer '1': operator aten.dropout.default is not supported" in message(UnsupportedOperatorError)
    write(path, nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU()).eval())
    assert "layer '1': operator aten.silu.default is not supported" in message(UnsupportedOperatorError)
    torch.save(network().state_dict(), path)
    assert "not a readable .pt2" in message(QuantisationError)
    path.write_bytes(file.read_bytes()[:2000])
    assert "not a readable .pt2" in message(QuantisationError)
    write(path, network(), meta=["no", "object"])
    assert "meta.json holds list, not an object" in message(QuantisationError)
