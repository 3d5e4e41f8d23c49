from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from sw.frontends.calibration import PictureInput
from sw.preprocessing import Preprocessing
from sw.train.checkpoint import CheckpointError, read_checkpoint
from sw.train.data import Share, open_pictures
from sw.train.distributed import ProcessError, Processes, compute_deterministically, processes
from sw.train.logs import read_log
from sw.train.loop import TrainingError, fit, measure
from sw.train.objective import Labels
from sw.train.recipe import Recipe
from tests.sw.training_pictures import save_archive

ALONE = Processes(Share(), torch.device("cpu"))
RECIPE = Recipe(
    epochs=3,
    batch=8,
    optimiser="sgd",
    lr=1.0,
    schedule="cosine",
    ema=0.9,
    bn_momentum=0.1,
    bn_eps=1e-5,
    augmentation="shift",
    resolution=16,
)
ABOUT = PictureInput((3, 16, 16), Preprocessing(crop=1.0))


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, 2),
    )


@pytest.fixture
def pictures(tmp_path):
    return open_pictures(save_archive(tmp_path / "bars.npz"), ABOUT, augmentation="shift")


def run(pictures, folder: Path, recipe: Recipe = RECIPE, **more):
    folder.mkdir(exist_ok=True)
    options = {"facts": {"network": "small"}, "processes": ALONE, **more}
    return fit(network(), pictures, recipe, Labels(0.1), folder, **options)


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_it_learns_and_logs(pictures, tmp_path):
    result = run(pictures, tmp_path / "run", RECIPE.changed({"epochs": 12}))
    assert result.lines[-1]["top1"] >= 90
    assert result.lines[-1]["loss"] < result.lines[0]["loss"]
    assert read_log(tmp_path / "run" / "log.csv") == result.lines
    assert measure(result.model, pictures.test, ALONE) == result.lines[-1]["top1"]
    assert not result.model.training


@pytest.mark.parametrize("optimiser", ["rmsprop", "adamw", "sgd"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_an_interrupted_run_ends_like_one_that_was_not(pictures, tmp_path, optimiser, ema):
    recipe = RECIPE.changed({"optimiser": optimiser, "ema": ema, "lr": 0.1})
    whole = run(pictures, tmp_path / "whole", recipe)

    def stop(epoch: int, done: int, total: int, loss: float) -> None:
        if (epoch, done) == (2, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(pictures, tmp_path / "cut", recipe, progress=stop)
    assert len(read_checkpoint(tmp_path / "cut" / "last.pt")["lines"]) == 1
    cut = run(pictures, tmp_path / "cut", recipe)
    assert same(whole.model, cut.model)
    assert [line["loss"] for line in whole.lines] == [line["loss"] for line in cut.lines]
    again = run(pictures, tmp_path / "cut", recipe)  # nothing is left to do
    assert same(whole.model, again.model)


_KILLED = """
import sys
sys.path.insert(0, {root!r})
from tests.sw import test_train_loop as t
from pathlib import Path
from sw.train.data import open_pictures
pictures = open_pictures({data!r}, t.ABOUT, augmentation="shift")
t.run(pictures, Path({folder!r}), progress=lambda epoch, done, total, loss: print(epoch, done, flush=True))
"""


def test_a_killed_process_loses_one_epoch_at_most(pictures, tmp_path):
    code = _KILLED.format(
        root=str(Path(__file__).parents[2]), data=str(tmp_path / "bars.npz"), folder=str(tmp_path / "cut")
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.split() == ["2", "2"]:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    assert len(read_checkpoint(tmp_path / "cut" / "last.pt")["lines"]) >= 1
    assert same(run(pictures, tmp_path / "cut").model, run(pictures, tmp_path / "whole").model)


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(pictures, tmp_path):
    class Broken(Labels):
        steps = 0

        def loss(self, logits, images, labels):
            self.steps += 1
            factor = float("nan") if self.steps == 8 else 1.0
            return factor * super().loss(logits, images, labels)

    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(TrainingError, match=r"epoch 2, step 2 of 6: the loss is nan .* checkpoint of epoch 1 is kept"):
        fit(network(), pictures, RECIPE, Broken(0.1), folder, facts={}, processes=ALONE)
    state = read_checkpoint(folder / "last.pt")
    assert len(state["lines"]) == 1
    assert all(torch.isfinite(value).all() for value in state["state"]["model"].values())


@pytest.mark.parametrize("clip", [0.0, 5.0])
def test_weights_that_are_no_number_keep_the_last_checkpoint(pictures, tmp_path, clip):
    """The last loss of an epoch is finite, its gradient is not: the next loss would tell too late."""

    class Broken(Labels):
        steps = 0

        def loss(self, logits, images, labels):
            self.steps += 1
            edge = (logits - logits.detach()).abs().sqrt().sum() if self.steps == 12 else 0.0
            return super().loss(logits, images, labels) + edge

    folder = tmp_path / "run"
    folder.mkdir()
    recipe = RECIPE.changed({"clip": clip})
    with pytest.raises(TrainingError, match=r"epoch 2: 0\.weight holds .* no number .* checkpoint of epoch 1 is kept"):
        fit(network(), pictures, recipe, Broken(0.1), folder, facts={}, processes=ALONE)
    state = read_checkpoint(folder / "last.pt")
    assert len(state["lines"]) == 1
    for kept in ("model", "average"):
        assert all(torch.isfinite(value).all() for value in state["state"][kept].values())


def test_a_first_epoch_has_no_checkpoint_to_keep(pictures, tmp_path):
    with pytest.raises(TrainingError, match=r"epoch 1.* there is no checkpoint yet: lower --lr"):
        run(pictures, tmp_path / "run", RECIPE.changed({"optimiser": "rmsprop", "lr": 1e30}))


def test_another_runs_folder_is_refused(pictures, tmp_path):
    run(pictures, tmp_path / "run", RECIPE.changed({"epochs": 1}))
    with pytest.raises(CheckpointError, match="a run whose epochs is 1, not 3"):
        run(pictures, tmp_path / "run")
    with pytest.raises(CheckpointError, match="a run whose seed is 0, not 7"):
        run(pictures, tmp_path / "run", RECIPE.changed({"epochs": 1}), seed=7)


def test_a_batch_larger_than_the_set_is_refused(pictures, tmp_path):
    with pytest.raises(TrainingError, match="batch 64: 48 training pictures and 1 processes"):
        run(pictures, tmp_path / "run", RECIPE.changed({"batch": 64}))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains(pictures, tmp_path, precision):
    result = run(pictures, tmp_path / "run", RECIPE.changed({"epochs": 12}), precision=precision)
    assert result.lines[-1]["top1"] >= 80
    scale = read_checkpoint(tmp_path / "run" / "last.pt")["state"]["scaler"]
    assert bool(scale) == (precision == "fp16")  # only its gradients need scaling


def test_an_interrupted_run_has_every_event_once(pictures, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def stop(epoch: int, done: int, total: int, loss: float) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(pictures, tmp_path / "cut", tensorboard=True, progress=stop)
    result = run(pictures, tmp_path / "cut", tensorboard=True)
    events = EventAccumulator(str(tmp_path / "cut")).Reload()
    for name in ("loss", "top1", "learning_rate"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(line["epoch"], pytest.approx(line[name])) for line in result.lines]


def test_missing_tensorboard_is_said(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--tensorboard needs .*'rowcast\[tensorboard\]'"):
        run(pictures, tmp_path / "run", tensorboard=True)


def test_processes_that_do_not_find_each_other(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        facts = {"WORLD_SIZE": 2, "RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": taken.getsockname()[1]}
        for name, value in facts.items():
            monkeypatch.setenv(name, str(value))
        with (
            pytest.raises(ProcessError, match=r"process 0 of 2 .* did not find them \(.*address already in use"),
            processes("cpu"),
        ):
            pytest.fail("began alone")


def test_computing_is_deterministic(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        for device, warns in (("cpu", False), ("cuda", True)):
            compute_deterministically(torch.device(device))
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.is_deterministic_algorithms_warn_only_enabled() == warns
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)


_MANY = """
import sys
sys.path.insert(0, {root!r})
from tests.sw import test_train_loop as t
from pathlib import Path
from sw.train.data import open_pictures
from sw.train.distributed import processes
with processes("cpu") as together:
    pictures = open_pictures({data!r}, t.ABOUT, augmentation="shift")
    result = t.run(pictures, Path({folder!r}), processes=together)
    import torch
    from sw.train.loop import TrainingError, measure
    right = measure(result.model, pictures.test, t.ALONE) == result.lines[-1]["top1"]
    state = {{"right": torch.tensor(right), **result.model.state_dict()}}
    torch.save(state, Path({folder!r}) / f"rank{{together.share.rank}}.pt")
    try:  # as on two machines without a common disk
        t.run(pictures, Path({folder!r} + "b" * together.share.rank), processes=together)
    except TrainingError as error:
        assert "epochs 3, 0; all machines of a run need the same folder" in str(error), error
    else:
        raise SystemExit("went on")
"""


@pytest.mark.slow
def test_two_processes_train_one_network(pictures, tmp_path):
    script = tmp_path / "many.py"
    script.write_text(
        _MANY.format(root=str(Path(__file__).parents[2]), data=str(tmp_path / "bars.npz"), folder=str(tmp_path / "run"))
    )
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    subprocess.run([sys.executable, *command], check=True, env=env, cwd=tmp_path, capture_output=True, timeout=300)
    first, second = (torch.load(tmp_path / "run" / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["right"] and second["right"]  # also the statistics are one network's, whose accuracy is logged
    lines = read_log(tmp_path / "run" / "log.csv")
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    # the mean gradient of the halves of a batch is the batch's, but for normalisation within each half
    alone = run(pictures, tmp_path / "alone")
    assert lines[0]["loss"] == pytest.approx(alone.lines[0]["loss"], rel=0.1)
