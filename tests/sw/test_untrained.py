"""Random weights whose signals reach the last layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sw.frontends.calibration import picture_batches
from sw.nn import zoo
from sw.nn.untrained import save_untrained
from sw.nn.weights import read_provenance

NAME = "mobilenet_v3_small:fuse_half"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(2):
        Image.fromarray(rng.integers(0, 256, (60, 70, 3), np.uint8)).save(folder / f"{index}.png")
    return folder


def last_normalised(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the output of the network's last batch normalisation."""
    *_, last = (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    seen = []
    last.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        network(x)
    return seen[0]


def test_signals_do_not_fade(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    save_untrained(NAME, pictures, path, count=2)
    (batch,) = picture_batches(pictures, zoo.metadata(NAME), 2)
    found = last_normalised(zoo.create(NAME, weights=path), batch)
    assert float(found.std()) == pytest.approx(1, abs=0.1)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        initial = zoo.create(NAME).eval()
    assert float(last_normalised(initial, batch).std()) < 0.1
    record = read_provenance(path)
    assert (record["network"], record["weights"], record["count"]) == (NAME, "random", 2)


def test_the_seed_decides(pictures: Path, tmp_path: Path) -> None:
    states = []
    for seed in (3, 3, 4):
        save_untrained(NAME, pictures, tmp_path / "weights.npz", count=1, seed=seed)
        states.append(zoo.create(NAME, weights=tmp_path / "weights.npz").state_dict())
    same, other = ([torch.equal(states[0][key], state[key]) for key in state] for state in states[1:])
    assert all(same) and not all(other)
