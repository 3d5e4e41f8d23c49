"""Networks of the zoo from name, weights and pictures to a program that takes pictures."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hw.spec.program import Program
from sim import run
from sw import compile as tool
from sw.frontends.calibration import picture_batches
from sw.frontends.networks import quantised_network
from sw.inputs import read_inputs
from sw.nn import zoo
from sw.nn.pictures import Pictures
from sw.preprocessing import preprocess
from sw.regions import quantise_input

torch.set_num_threads(1)

SHAPE = ["--input-shape", "3x32x32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return pictures of one class each in folders 0 to 4, none square."""
    path, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for index in range(5):
        (path / str(index)).mkdir()
        pixels = rng.integers(0, 256, (9, 7, 3), np.uint8)
        Image.fromarray(pixels).resize((50, 40)).save(path / str(index) / "a.png")
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "lite.pth"
    torch.save(zoo.create("efficientnet_lite0", resolution=32).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def program(folder: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "prog"
    options = ["--weights", str(weights), "--calib", str(folder), "--calib-pictures", "3", "--out", str(out)]
    assert tool.main(["efficientnet_lite0", *SHAPE, *options, "--preset", "edge16"]) == 0
    return out


def test_a_program_knows_its_preprocessing(program: Path) -> None:
    meta = Program.load(program).meta
    assert meta["network"] == "efficientnet_lite0" and meta["weights"] == "lite.pth"
    assert meta["input"] == zoo.metadata("efficientnet_lite0", resolution=32).to_json()


def test_a_picture_is_prepared_for_the_program_as_for_calibration(program: Path, folder: Path) -> None:
    loaded, about = Program.load(program), zoo.metadata("efficientnet_lite0", resolution=32)
    pictures = Pictures(folder)
    for entry in pictures.entries:
        (found,) = read_inputs(loaded, [str(folder / entry.name)]).values()
        wanted = preprocess(pictures.image(entry), about.input_shape, about.preprocessing)
        np.testing.assert_array_equal(found, quantise_input(loaded.inputs[0], wanted))


def test_the_simulator_computes_what_the_quantised_network_does(
    program: Path, folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = zoo.metadata("efficientnet_lite0", resolution=32)
    network = quantised_network(
        "efficientnet_lite0", weights=weights, calibration=folder, input_shape=(3, 32, 32), pictures=3
    )
    assert network.module is not None
    picture = folder / "4" / "a.png"
    capsys.readouterr()
    assert run.main([str(program), "--input", str(picture), "--top", "1000", "--json"]) == 0
    (output,) = json.loads(capsys.readouterr().out)["outputs"].values()
    scores = np.empty(1000)
    for place in output["top"]:
        scores[place["class"]] = place["score"]
    batch = torch.from_numpy(preprocess(Image.open(picture), about.input_shape, about.preprocessing))[None]
    with torch.no_grad():
        expected = network.module(batch)[0].numpy()
    # a unit in the last place of some layers; weights of other pictures or another order would give noise
    scale = Program.load(program).outputs[0].scale
    assert np.abs(scores - expected).max() <= 8 * scale < np.ptp(expected)


def test_calibration_takes_pictures_of_all_classes(folder: Path, tmp_path: Path) -> None:
    about = zoo.metadata("mobilenet_v2", resolution=32)
    batches = picture_batches(folder, about, 2)
    pictures = Pictures(folder)
    chosen = [pictures.entries[index] for index in (0, 2)]
    wanted = [preprocess(pictures.image(entry), about.input_shape, about.preprocessing) for entry in chosen]
    np.testing.assert_array_equal(torch.cat(batches).numpy(), np.stack(wanted))
    assert len(torch.cat(picture_batches(folder, about, 64))) == 5
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(folder / "0" / "a.png", "a.png")
        (tmp_path / "labels.csv").write_text("file,class_index\na.png,7\n")
        tar.add(tmp_path / "labels.csv", "labels.csv")
    (batch,) = picture_batches(tmp_path / "set.tar", about, 64)
    np.testing.assert_array_equal(batch[0].numpy(), wanted[0])


@pytest.mark.slow
def test_untrained_networks_only_if_asked(tmp_path: Path) -> None:
    arguments = ["mobilenet_v2:fuse_half", *SHAPE, "--random-weights", "--out", str(tmp_path)]
    assert tool.main([*arguments, "--preset", "edge16"]) == 0
    first = Program.load(tmp_path)
    assert first.meta["weights"] == "random" and first.meta["network"] == "mobilenet_v2:fuse_half"
    assert {"fuse_row", "fuse_col"} <= {layer.kind for layer in first.layers}
    assert "depthwise" not in {layer.kind for layer in first.layers}
    torch.manual_seed(1)
    assert tool.main([*arguments, "--preset", "edge16"]) == 0
    assert Program.load(tmp_path).image == first.image


def test_refusals(folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calib, trained = ["--calib", str(folder)], ["--weights", str(weights)]
    empty, corrupt, out = tmp_path / "empty", tmp_path / "corrupt", tmp_path / "prog"
    empty.mkdir()
    corrupt.mkdir()
    (corrupt / "a.png").write_bytes((folder / "0" / "a.png").read_bytes()[:200])
    lite = ["efficientnet_lite0", *SHAPE]
    for arguments, message in [
        ([*lite, *calib], "no trained weights come with it; give a checkpoint with --weights"),
        ([*lite, *trained], "must be calibrated; give --calib with pictures: a folder, a tar or an .npz"),
        ([*lite, *trained, *calib, "--random-weights"], "exclude each other"),
        ([*lite, *trained, "--calib", str(empty)], "empty: holds no pictures"),
        ([*lite, *trained, "--calib", str(corrupt)], "a.png cannot be decoded"),
        ([*lite, *trained, "--calib", str(tmp_path / "nowhere")], "no such folder or tar of pictures"),
        ([*lite, "--weights", "nowhere.pth", *calib], "nowhere.pth: no such weights file"),
        (["mobilenet_v2", *trained, *calib], "these are weights of 'efficientnet_lite0'"),
        (["mobilenet_v2:fuse_third", *trained, *calib], "variant 'fuse_third' is unknown"),
        (["resnet50:fuse_half", *trained, *calib], "no depthwise convolution"),
        (["mobilenet_v2", "--input-shape", "3x32x40"], "--input-shape 3x32x40: mobilenet_v2 takes square"),
        (["digits", "--random-weights"], "--random-weights is for networks of the zoo"),
    ]:
        assert tool.main([*arguments, "--out", str(out)]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and message in captured.err, captured.err
        assert not captured.out and not out.exists()
    with pytest.raises(SystemExit) as stopped:
        tool.main([*lite, "--calib-pictures", "0"])
    assert stopped.value.code == 2 and "'0' is no number, 1 or more" in capsys.readouterr().err
