"""python -m sw.evaluate: figures, backends, resumption, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hw.spec.numerics import quantise as to_int8
from sim.iss import IssBackend
from sw import evaluate as tool
from sw.backends import BackendError, find_backend
from sw.frontends.torch_export import import_program
from sw.nn import zoo
from sw.nn.fuse import FuSeConv2d
from sw.nn.pictures import Pictures
from sw.preprocessing import Preprocessing, preprocess
from sw.quant import export_program, load, quantise, save

torch.set_num_threads(1)

ROOT = Path(__file__).parents[2]
KEYS = ["top1", "top5", "fp32_top1", "agreement", "max_lsb", "n", "images_per_s"]
SHAPE = (3, 12, 10)
CLASSES = 7
HOW = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.3, 0.3, 0.3))
PICTURES = 21  # more than one chunk


def backbone(*outputs: int) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU6(), FuSeConv2d(8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, CLASSES)) if outputs == () else nn.Sequential(*layers[: outputs[0]])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, data = backbone().eval(), torch.randn(16, *SHAPE)
    exported = export_program(quantise(model, (data[:1],), [data], observer="minmax"), (data[:1],))
    path = tmp_path_factory.mktemp("net") / "small.pt2"
    meta = {"input": {"shape": list(SHAPE), **HOW.to_json()}}
    save(exported, path, meta={"meta.json": json.dumps(meta)})
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return pictures of the network's classes, three of each, in folders."""
    path, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for index in range(PICTURES):
        folder = path / f"class{index % CLASSES}"
        folder.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (3, 3, 3), np.uint8)
        Image.fromarray(pixels).resize((14, 13)).save(folder / f"{index}.png")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert tool.main([*map(str, arguments), "--preset", "tiny", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report) == KEYS
    return report


def figures(report: dict) -> dict:
    return {key: value for key, value in report.items() if key != "images_per_s"}


def test_figures_are_those_of_the_quantised_network(
    network: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = load(network)
    graph = import_program(exported)
    sink = graph[graph.outputs[0]]
    first = five = 0
    pictures = Pictures(data)
    for entry in pictures.entries:
        image = torch.from_numpy(preprocess(pictures.image(entry), SHAPE, HOW))[None]
        with torch.no_grad():
            real = exported.module()(image).numpy()[0]
        order = np.argsort(-to_int8(real, sink.scale, sink.zero_point).astype(int), kind="stable").tolist()
        first += order[0] == entry.label
        five += entry.label in order[:5]
    assert 0 < first < five < PICTURES
    report = run(capsys, network, "--data", data, "--backend", "torch_int8")
    expected = {"top1": 100 * first / PICTURES, "top5": 100 * five / PICTURES, "fp32_top1": None, "agreement": None}
    assert figures(report) == {**expected, "max_lsb": 0, "n": PICTURES} and report["images_per_s"] > 0
    # the integer arithmetic rounds some values otherwise than PyTorch's
    simulated = run(capsys, network, "--data", data, "--backend", "iss")
    assert simulated["n"] == PICTURES and simulated["max_lsb"] <= 3
    assert abs(simulated["top1"] - report["top1"]) <= 100 / PICTURES
    parallel = run(capsys, network, "--data", data, "--backend", "iss", "--jobs", 2)
    assert figures(parallel) == figures(simulated)


@pytest.mark.slow
def test_rtl_gives_what_the_simulator_gives(network: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [run(capsys, network, "--data", data, "--limit", 9, "--backend", name) for name in ("iss", "rtl")]
    assert found[0]["n"] == 9 and figures(found[0]) == figures(found[1])


def test_table(network: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(network), "--data", str(data), "--backend", "torch_int8", "--topk", "7"]
    assert tool.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("small.pt2 on torch_int8, 21 pictures")
    assert lines[1].split() == ["fp32", "torch_int8"] and lines[8].split() == ["top-7", "-", "100.00", "%"]
    assert "0 LSB" in lines[10] and lines[11].endswith("images/s")


def test_an_interrupted_run_continues(
    network: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(capsys, network, "--data", data)
    state, runs, original = tmp_path / "state.jsonl", [], IssBackend.run

    def interrupted(self: IssBackend, *arguments: object) -> object:
        runs.append(1)
        if len(runs) == 19:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(IssBackend, "run", interrupted)
    arguments = [network, "--data", data, "--resume", state]
    assert tool.main([*map(str, arguments), "--preset", "tiny"]) == 130
    assert f"the same command continues from {state}" in capsys.readouterr().err
    assert len(state.read_text().splitlines()) == 19  # the run's facts, and 18 pictures
    with state.open("a") as file:
        file.write('{"index": 18, "la')  # killed while writing
    assert figures(run(capsys, *arguments)) == figures(whole)
    assert len(runs) == 19 + PICTURES - 18
    again = run(capsys, *arguments)
    assert figures(again) == figures(whole) and len(runs) == 19 + PICTURES - 18 and again["images_per_s"] > 0


def test_results_of_another_run_are_refused(
    network: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state.jsonl"
    common = [str(network), "--data", str(data), "--resume", str(state)]
    run(capsys, *common, "--limit", 3)
    before = state.read_bytes()
    for options, fact in [
        (["--limit", "4", "--preset", "tiny"], "limit is 3, not 4"),
        (["--limit", "3", "--preset", "tiny", "--backend", "torch_int8"], "backend is 'iss', not 'torch_int8'"),
        (["--limit", "3", "--preset", "edge8"], "configuration is '"),
    ]:
        assert tool.main([*common, *options]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {state}: results of another run, whose ") and fact in error
    (data / "class0" / "0.png").rename(data / "class0" / "00.png")
    try:
        assert tool.main([*common, "--limit", "3", "--preset", "tiny"]) == 2
        assert "whose data is" in capsys.readouterr().err
    finally:
        (data / "class0" / "00.png").rename(data / "class0" / "0.png")
    assert state.read_bytes() == before


def test_corrupt_pictures(network: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    whole = (data / "class0" / "0.png").read_bytes()
    (tmp_path / "set" / "a" / "good.png").write_bytes(whole)
    (tmp_path / "set" / "b" / "half.png").write_bytes(whole[:60])
    state = tmp_path / "state.jsonl"
    arguments = [network, "--data", tmp_path / "set", "--resume", state]
    assert tool.main([*map(str, arguments), "--preset", "tiny"]) == 2
    captured = capsys.readouterr()
    assert "b/half.png cannot be decoded" in captured.err and not captured.out
    assert tool.main([*map(str, arguments), "--preset", "tiny", "--skip-bad", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["n"] == 1
    assert "left out 1 of 2 pictures that cannot be read; the first" in captured.err and "half.png" in captured.err
    # what was left out is an error again, unless told otherwise
    assert tool.main([*map(str, arguments), "--preset", "tiny"]) == 2
    (tmp_path / "set" / "a" / "good.png").write_bytes(b"")
    assert tool.main([str(network), "--data", str(tmp_path / "set"), "--preset", "tiny", "--skip-bad"]) == 2
    assert "none of the 2 pictures can be read" in capsys.readouterr().err


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return weights of a small network of the zoo."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "v2.pth"
    model = zoo.create("mobilenet_v2", width=0.25, resolution=32, classes=CLASSES)
    torch.save(model.state_dict(), path)
    return path


SMALL = ["--width", "0.25", "--classes", str(CLASSES), "--input-shape", "3x32x32"]


def test_floating_point_needs_no_calibration(weights: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(capsys, "mobilenet_v2", *SMALL, "--weights", weights, "--data", data, "--backend", "torch")
    assert report["top1"] == report["fp32_top1"] and report["agreement"] == 100 and report["max_lsb"] is None


@pytest.mark.slow
def test_a_network_of_the_zoo_agrees_with_floating_point(
    weights: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["mobilenet_v2", *SMALL, "--weights", str(weights), "--data", str(data), "--calib", str(data)]
    assert tool.main([*options, "--backend", "iss", "--preset", "edge8", "--json", "--limit", "8"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["n"] == 8 and report["fp32_top1"] is not None and 0 <= report["agreement"] <= 100
    assert report["max_lsb"] < 40  # LSB of 52 layers of untrained weights


def test_refusals(network: Path, weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    flat = data / "class0"
    named, net = ["mobilenet_v2", *SMALL, "--weights", str(weights)], str(network)
    shaped = ["--data", str(data)]
    for arguments, message in [
        ([net], "give --data with a tar with labels.csv"),
        ([net, "--data", str(tmp_path / "nowhere")], "no such folder or tar of pictures"),
        ([net, "--data", str(flat)], "0.png has no label; accuracy needs a tar with labels.csv, or a folder"),
        ([net, *shaped, "--pretrained"], "small.pt2: there are no trained weights for it, only for"),
        ([net, *shaped, "--calib", str(data)], "is quantised already; --calib is for floating-point networks"),
        ([net, *shaped, "--backend", "torch"], "holds a quantised network, no floating-point one"),
        ([net, *shaped, "--backend", "torch_int8", "--jobs", "2"], "--jobs is for --backend iss and rtl"),
        ([net, *shaped, "--resume", str(tmp_path / "no" / "f")], "its directory does not exist"),
        ([*named, *shaped, "--resume", str(tmp_path / "no" / "f")], "no/f: its directory does not exist"),
        ([*named, *shaped], "must be calibrated; give --calib with pictures: a folder, a tar or an .npz"),
        ([*named, *shaped, "--calib", str(tmp_path / "empty")], "empty: holds no pictures"),
        (["efficientnet_lite0", *named[1:], *shaped], "does not fit efficientnet_lite0: the file lacks"),
        (["mobilenet_v2", *named[1:], "--pretrained", *shaped], "--pretrained and --weights exclude each other"),
        (["mobilenet_v2:fuse_half", "--pretrained", *shaped], "there are no trained weights for it, only for"),
        (["mobilenet_v9", *shaped], "no network 'mobilenet_v9'"),
        (["digits", "--classes", "3"], "--width and --classes are for networks of the zoo"),
    ]:
        assert tool.main(arguments) == 2, arguments
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and message in captured.err, captured.err
        assert not captured.out


@pytest.mark.parametrize(("method", "status"), [("__init__", 2), ("run", 1)])
def test_a_backend_that_fails(
    method: str,
    status: int,
    network: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no compiler" if method == "__init__" else "instruction 3: BAD_FIELD")

    monkeypatch.setattr(IssBackend, method, fail)
    assert tool.main([str(network), "--data", str(data), "--preset", "tiny"]) == status
    messages = {1: "error: the accelerator did not finish: instruction 3: BAD_FIELD\n", 2: "error: iss: no compiler\n"}
    assert capsys.readouterr().err == messages[status]


def test_labels_beyond_the_networks_classes_are_refused(
    network: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(CLASSES + 1):
        (tmp_path / f"{index}").mkdir()
        (tmp_path / f"{index}" / "a.png").write_bytes((data / "class0" / "0.png").read_bytes())
    assert tool.main([str(network), "--data", str(tmp_path), "--preset", "tiny"]) == 2
    assert "7/a.png has class 7; the network has logits of classes 0 to 6" in capsys.readouterr().err


def test_a_network_without_logits_is_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, inputs = backbone(4).eval(), torch.randn(4, *SHAPE)
    save(export_program(quantise(model, (inputs[:1],), [inputs]), (inputs[:1],)), tmp_path / "map.pt2")
    assert tool.main([str(tmp_path / "map.pt2"), "--data", str(data)]) == 2
    assert "outputs of shape 8x6x5; accuracy needs one of each, the output of logits" in capsys.readouterr().err


def test_arrays_where_the_network_says_nothing_of_pictures(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, inputs = backbone().eval(), torch.randn(16, *SHAPE)
    save(export_program(quantise(model, (inputs[:1],), [inputs]), (inputs[:1],)), tmp_path / "bare.pt2")
    with torch.no_grad():
        labels = model(inputs).argmax(1)
    np.savez(tmp_path / "set.npz", inputs=inputs.numpy(), labels=labels.numpy())
    assert run(capsys, tmp_path / "bare.pt2", "--data", tmp_path / "set.npz")["top1"] > 80
    assert tool.main([str(tmp_path / "bare.pt2"), "--data", str(data)]) == 2
    assert (
        "say it with --mean and --std, or give an .npz with preprocessed inputs (N, 3, 12, 10)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("backend", ["torch", "iss"])
def test_floating_point_files(backend: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.export.save(torch.export.export(backbone().eval(), (torch.randn(1, *SHAPE),)), tmp_path / "float.pt2")
    state, calib = tmp_path / "state.jsonl", [] if backend == "torch" else ["--calib", data]
    options = [tmp_path / "float.pt2", *calib, "--data", data, "--backend", backend, "--std", "0.3", "--resume", state]
    report = run(capsys, *options, "--mean", "0.5,0.4,0.3")
    assert report["n"] == PICTURES and 0 < report["fp32_top1"] < 100 and report["agreement"] > 60
    assert tool.main([*map(str, options), "--preset", "tiny", "--mean", "0.1"]) == 2
    assert "whose preprocessing is {" in capsys.readouterr().err


def test_backends_are_found_by_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    # of the installation: if this fails, the entry points of pyproject.toml are newer than it
    assert find_backend("iss") is IssBackend
    assert callable(find_backend("verilator"))
    monkeypatch.setattr("sw.backends.distributions", list)
    with pytest.raises(BackendError, match=r"no backend 'iss' .*\(none\).*reinstall with pip install"):
        find_backend("iss")


def test_help_is_quick_and_names_the_keys() -> None:
    shown = subprocess.run([sys.executable, "-m", "sw.evaluate", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0 and all(key in shown.stdout for key in KEYS) and "percent" in shown.stdout
    code = "import sys, sw.evaluate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
