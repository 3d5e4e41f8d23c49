from __future__ import annotations

import json

import pytest
import torch

from sw.nn import zoo
from sw.nn.weights import read_provenance
from sw.nos.__main__ import main as nos
from sw.train.__main__ import main as train
from sw.train.data import Share, open_pictures
from sw.train.distributed import Processes
from sw.train.logs import read_log
from sw.train.loop import measure
from tests.sw.training_pictures import save_archive, save_folder

SMALL = ["--width", "0.1", "--recipe", "cifar10", "--epochs", "2", "--batch", "16", "--set", "resolution=16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with pictures and a trained depthwise network."""
    folder = tmp_path_factory.mktemp("training")
    data = save_archive(folder / "bars.npz")
    threads = torch.get_num_threads()
    assert train(["mobilenet_v2_cifar", "--data", str(data), "--out", str(folder / "base"), *SMALL]) == 0
    yield folder
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def accuracy_of(name: str, folder, out: str) -> float:
    model = zoo.create(name, width=0.1, resolution=16, classes=2, weights=folder / out / "weights.npz")
    pictures = open_pictures(folder / "bars.npz", zoo.metadata(name, resolution=16))
    return measure(model, pictures.test, Processes(Share(), torch.device("cpu")))


def test_trained_weights_are_the_zoos(run):
    lines = read_log(run / "base" / "log.csv")
    assert [line["epoch"] for line in lines] == [1, 2]
    assert accuracy_of("mobilenet_v2_cifar", run, "base") == lines[-1]["top1"]
    facts = read_provenance(run / "base" / "weights.npz")
    assert (facts["network"], facts["epochs"], facts["train"], facts["test"]) == ("mobilenet_v2_cifar", 2, 48, 16)


def test_the_recipes_epsilon_is_folded_into_the_weights(run, tmp_path, capsys):
    """Published networks have another epsilon than the paper's recipe, and weights alone do not say it."""
    arguments = ["mobilenet_v2_cifar", "--data", str(run / "bars.npz"), "--out", str(run / "eps"), *SMALL]
    assert train([*arguments, "bn_eps=0.05", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert accuracy_of("mobilenet_v2_cifar", run, "eps") == found["top1"]


def test_distillation_and_scaffolding(run, capsys):
    data, weights = str(run / "bars.npz"), str(run / "base" / "weights.npz")
    name = "mobilenet_v2_cifar:fuse_half"
    teacher = ["--teacher", "mobilenet_v2_cifar", "--teacher-weights", weights]
    assert train([name, "--data", data, "--out", str(run / "taught"), *teacher, *SMALL]) == 0
    assert accuracy_of(name, run, "taught") == read_log(run / "taught" / "log.csv")[-1]["top1"]
    # a run does not go on with another teacher, even one in the file of the first
    assert train(["mobilenet_v2_cifar", "--data", data, "--out", str(run / "other"), *SMALL, "--seed", "1"]) == 0
    capsys.readouterr()
    other = ["--teacher", "mobilenet_v2_cifar", "--teacher-weights", str(run / "other" / "weights.npz")]
    assert train([name, "--data", data, "--out", str(run / "taught"), *other, *SMALL]) == 1
    assert "a run whose teacher_weights is '" in capsys.readouterr().err
    for variant in ("fuse_half", "fuse_full", "fuse_half[1,3]"):
        name = f"mobilenet_v2_cifar:{variant}"
        capsys.readouterr()
        assert (
            nos([name, "--data", data, "--out", str(run / variant), "--teacher-weights", weights, "--json", *SMALL])
            == 0
        )
        found = json.loads(capsys.readouterr().out)
        assert (found["method"], found["network"]) == ("nos", name)
        assert accuracy_of(name, run, variant) == found["top1"]


def test_a_folder_of_pictures_at_the_networks_size(tmp_path):
    data = save_folder(tmp_path / "bars")
    options = ["--width", "0.1", "--epochs", "1", "--batch", "8", "--set", "resolution=16", "--threads", "1"]
    assert train(["mnasnet_b1:fuse_half", "--data", str(data), "--out", str(tmp_path / "run"), *options]) == 0
    assert (tmp_path / "run" / "weights.npz").is_file()


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (["--data", "absent.npz"], 2, "absent.npz"),
        (["--teacher", "mobilenet_v2_cifar"], 2, "--teacher and --teacher-weights belong together"),
        (["--classes", "1"], 2, "--classes 1: the pictures have 2"),
        (["--lr", "-1"], 2, "lr -1.0 must be at least 0"),
        (["--epochs", "7"], 1, "a run whose epochs is 2, not 7"),
        (["--lr", "1e9"], 1, "and start again in another folder"),
    ],
)
def test_errors_name_what_is_wrong(run, tmp_path, capsys, change, status, message):
    out = run / "base" if "--epochs" in change else tmp_path / "run"
    arguments = ["mobilenet_v2_cifar", "--data", str(run / "bars.npz"), "--out", str(out), *SMALL]
    assert train([*arguments, *change]) == status
    text = capsys.readouterr().err
    assert message in text
    assert "Traceback" not in text


def test_scaffolding_needs_something_to_scaffold(run, tmp_path, capsys):
    arguments = ["--data", str(run / "bars.npz"), "--out", str(tmp_path), *SMALL, "--teacher-weights"]
    assert nos(["mobilenet_v2_cifar", *arguments, str(run / "base" / "weights.npz")]) == 2
    assert "name a FuSe network, mobilenet_v2_cifar:fuse_half" in capsys.readouterr().err
    assert nos(["mobilenet_v2_cifar:fuse_half", *arguments, str(run / "bars.npz")]) == 2
    assert "bars.npz" in capsys.readouterr().err


def test_wrong_fields_are_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        train(["mobilenet_v2_cifar", "--data", "x", "--out", "y", "--set", "speed=1"])
    assert stopped.value.code == 2
    assert "no field 'speed'; there are epochs, batch" in capsys.readouterr().err
