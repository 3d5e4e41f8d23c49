"""The digits task: data, networks, committed weights, training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sw.nn.count import count, parameters
from sw.nn.digits import (
    INPUT_SHAPE,
    VARIANTS,
    digits_calibration,
    digits_data,
    digits_network,
    load_digits_network,
    weights_path,
)
from sw.nn.evaluate import accuracy
from sw.nn.fuse import FuSeConv2d
from sw.nn.train_digits import augment, main, train
from sw.nn.weights import WeightsError, load_weights, read_provenance, save_weights

torch.set_num_threads(1)


def test_data_split() -> None:
    train_x, train_y, test_x, test_y = digits_data()
    assert train_x.shape == (1297, 1, 32, 32) and test_x.shape == (500, 1, 32, 32)
    assert train_x.dtype == np.float32 and train_y.dtype == np.int64
    assert test_x.min() == 0 and test_x.max() == 1
    assert np.bincount(test_y).min() >= 48 and np.bincount(test_y).max() <= 51  # stratified: 1797 pictures, 10 classes
    seen = {picture.tobytes() for picture in train_x}
    assert not any(picture.tobytes() in seen for picture in test_x)


def test_calibration_pictures_are_training_pictures() -> None:
    batches = digits_calibration(80, batch=32)
    assert [len(batch) for batch in batches] == [32, 32, 16]
    train_x, train_y, _, _ = digits_data()
    places = {picture.tobytes(): index for index, picture in enumerate(train_x)}
    chosen = [places[picture.tobytes()] for picture in torch.cat(batches).numpy()]
    assert len(set(chosen)) == 80 and max(chosen) > 0.9 * len(train_x)
    assert set(train_y[chosen]) == set(range(10))


def test_upsampling_keeps_brightness() -> None:
    from sklearn.datasets import load_digits

    train_x, _, test_x, _ = digits_data()
    means = load_digits().images.mean((1, 2)) / 16
    # a bilinear upsampling by 4 weighs the border pixels a little differently, no more
    assert abs(np.concatenate([train_x, test_x]).mean() - means.mean()) < 0.01


@pytest.mark.parametrize("variant", ["half", "depthwise"])
def test_committed_weights(variant) -> None:
    network = load_digits_network(variant)
    assert not network.training
    _, _, test_x, test_y = digits_data()
    result = accuracy(network, test_x, test_y)
    assert result >= 97.5
    record = read_provenance(weights_path(variant))
    assert record["test_accuracy_percent"] == pytest.approx(result, abs=0.21)  # one picture either way
    assert f"--variant {variant}" in record["command"]
    assert record["parameters"] == parameters(network)


@pytest.mark.parametrize("variant", VARIANTS)
def test_sizes(variant) -> None:
    network = digits_network(variant)
    macs = sum(layer.macs for layer in count(network, INPUT_SHAPE))
    assert parameters(network) < 100_000
    assert 1e6 < macs < 6e6
    fused = [module for module in network.modules() if isinstance(module, FuSeConv2d)]
    assert len(fused) == (0 if variant == "depthwise" else 4)
    assert {module.kernel_size for module in fused} <= {3, 5}


def test_half_and_depthwise_differ_only_in_the_spatial_operator() -> None:
    half, depthwise = (digits_network(variant).state_dict() for variant in ("half", "depthwise"))
    shared = half.keys() & depthwise.keys()
    assert all(half[name].shape == depthwise[name].shape for name in shared)
    assert all(".spatial." in name for name in half.keys() ^ depthwise.keys())


def test_augmentation_is_light_and_seeded() -> None:
    images = torch.from_numpy(digits_data()[2][:50])
    first, second = (augment(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, images)
    assert abs(float(first.mean() - images.mean())) < 0.05
    assert float((first - images).abs().mean()) < 0.25


def test_training_is_deterministic_and_learns() -> None:
    train_x, train_y, _, _ = digits_data()
    images, labels = train_x[:256], train_y[:256]
    losses: list[float] = []
    runs = [
        train("half", seed=5, epochs=3, images=images, labels=labels, report=lambda _, loss: losses.append(loss))
        for _ in range(2)
    ]
    states = [run.state_dict() for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert losses[:3] == losses[3:]
    assert losses[2] < 0.9 * losses[0]
    other = train("half", seed=6, epochs=1, images=images[:64], labels=labels[:64]).state_dict()
    assert not torch.equal(other["stem.0.weight"], states[0]["stem.0.weight"])


def test_command_line_writes_loadable_weights(tmp_path, monkeypatch, capsys) -> None:
    train_x, train_y, test_x, test_y = digits_data()
    monkeypatch.setattr(
        "sw.nn.train_digits.digits_data", lambda: (train_x[:128], train_y[:128], test_x[:50], test_y[:50])
    )
    out = tmp_path / "w.npz"
    assert main(["--variant", "full", "--epochs", "1", "--threads", "1", "--out", str(out)]) == 0
    torch.use_deterministic_algorithms(False)
    assert [path.name for path in tmp_path.iterdir()] == ["w.npz"]
    network = load_digits_network("full", out)
    assert accuracy(network, test_x[:50], test_y[:50]) == read_provenance(out)["test_accuracy_percent"]
    assert "4.18 M MACs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0", "--out", "w.npz"], "--epochs 0: must be at least 1"),
        (["--variant", "third", "--out", "w.npz"], "invalid choice: 'third'"),
        (["--out", "."], "--out .: is a folder"),
        (["--out", "no/such/folder/w.npz"], "the folder no/such/folder does not exist"),
        ([], "--out"),
    ],
)
def test_command_line_refuses(arguments, message, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"the (file lacks|network has no) 'blocks.0.spatial"):
        load_weights(digits_network("depthwise"), weights_path("half"))


def test_wrong_shape_is_refused(tmp_path) -> None:
    save_weights(torch.nn.Linear(3, 2), tmp_path / "a.npz", {})
    with pytest.raises(WeightsError, match=r"'weight' has shape \(2, 3\), not \(2, 4\)"):
        load_weights(torch.nn.Linear(4, 2), tmp_path / "a.npz")


def test_damaged_files_are_refused(tmp_path) -> None:
    whole = weights_path("half").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("not an archive")
    np.savez(tmp_path / "bare.npz", weight=np.zeros(2))
    np.save(tmp_path / "array.npy", np.zeros(2))
    for name in ("cut.npz", "text.npz", "array.npy"):
        with pytest.raises(WeightsError, match=f"{name}: not a readable .npz archive"):
            load_digits_network("half", tmp_path / name)
    with pytest.raises(WeightsError, match="no entry 'provenance'"):
        read_provenance(tmp_path / "bare.npz")
    with pytest.raises(WeightsError, match="no such weights file"):
        load_digits_network("half", tmp_path / "absent.npz")


def test_unknown_variants_are_refused() -> None:
    with pytest.raises(ValueError, match="variant 'third' is unknown"):
        digits_network("third")
    with pytest.raises(ValueError, match="no trained weights for variant 'full'"):
        load_digits_network("full")
