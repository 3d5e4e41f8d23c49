"""Figures of an evaluation, with networks whose logits are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from sw.compiler.ir import Conv, Graph, Tensor
from sw.evaluation import Record, Setup, evaluate, graph_digest, metrics, topk
from sw.nn.samples import SampleError, Samples, array_samples, read_samples

LOGITS = Tensor("y", (3, 1, 1), 0.5, 0)


def samples(logits: list[list[float]], labels: list[int]) -> Samples:
    """Return inputs that networks below take for logits."""
    return array_samples(np.array(logits, np.float32)[:, :, None, None], np.array(labels))


def test_figures() -> None:
    data = samples([[3, 1, 2], [0, 5, 1], [1, 0, 0.4], [0, 0, 9]], [0, 2, 2, 2])

    def rounded(x: torch.Tensor) -> torch.Tensor:
        """Exchange the logits of the last."""
        return torch.where(x.sum((1, 2, 3), keepdim=True) == 9, x.flip(1), x)

    found = evaluate(data, Setup(lambda x: x, rounded, None, LOGITS, LOGITS, batch=1))
    assert [(record.best, record.rank) for record in found] == [(0, 0), (1, 1), (0, 1), (0, 2)]
    report = metrics(found)
    assert report.pop("images_per_s") > 0
    assert report == {"top1": 25, "top5": 100, "fp32_top1": 50, "agreement": 75, "max_lsb": 0, "n": 4}
    assert [topk(found, k) for k in (1, 2, 3)] == [(25, 50), (75, 100), (100, 100)]


def test_equal_logits_count_for_the_first_class() -> None:
    # top-1 is what the best class says, so that no class wins by a draw
    found = evaluate(samples([[1, 1, 1]] * 3, [0, 1, 2]), Setup(lambda x: x))
    assert [(record.best, record.rank) for record in found] == [(0, 0), (0, 1), (0, 2)]


def test_a_backend_is_compared_with_pytorch_in_lsb() -> None:
    class Off:
        def run(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
            return [(value.reshape(-1) + np.array([0, -3, 0])).astype(np.int8) for value in inputs]

    setup = Setup(None, lambda x: x, Off(), LOGITS, LOGITS)
    report = metrics(evaluate(samples([[60, 60, 0], [0, 60, 0]], [0, 1]), setup))
    assert report["max_lsb"] == 3 and report["top1"] == 100
    assert report["fp32_top1"] is None and report["agreement"] is None


def test_pictures_that_cannot_be_read_do_not_count() -> None:
    good = Record(0, 1, 1, 0, 1, 0, 2, 0.5)
    assert metrics([good, Record(1, bad="x")])["n"] == 1
    with pytest.raises(SampleError, match="none of the 1 pictures can be read; the first: x"):
        metrics([Record(0, bad="x")])


def test_networks_of_several_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="has 2 outputs; one, of logits"):
        evaluate(samples([[1, 2, 3]], [0]), Setup(lambda x: (x, x)))


def test_the_digest_sees_weights_and_scales() -> None:
    tensors = {"x": Tensor("x", (1, 1, 1), 1.0, 0), "y": Tensor("y", (1, 1, 1), 0.25, 0)}

    def graph(weight: int, scale: float) -> Graph:
        op = Conv(
            name="c", output="y", input="x", weight=np.full((1, 1, 1, 1), weight, np.int8),
            weight_scale=np.array([1.0]), bias=None,
        )  # fmt: skip
        changed = {**tensors, "y": dataclasses.replace(tensors["y"], scale=scale)}
        return Graph("g", changed, (op,), ("x",), ("y",))

    assert graph_digest(graph(1, 0.25)) == graph_digest(graph(1, 0.25))
    assert len({graph_digest(graph(*values)) for values in [(1, 0.25), (2, 0.25), (1, 0.5)]}) == 3


def test_a_limit_spreads_over_the_set() -> None:
    labels = np.arange(10)
    data = array_samples(labels[:, None, None, None].astype(np.float32), labels, limit=4)
    assert [data.label(index) for index in range(4)] == [0, 2, 5, 7]
    assert [float(data.read(index).item()) for index in range(4)] == [0, 2, 5, 7]
    assert len(array_samples(labels[:, None, None, None], labels, limit=99)) == 10


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": np.zeros((2, 3, 4, 4), np.float32)}, "must hold a whole number in labels"),
        ({"inputs": np.zeros((2, 3, 4, 4)), "labels": np.zeros(3, int)}, "must hold a whole number in labels"),
        ({"inputs": np.zeros((2, 3, 4, 4)), "labels": np.zeros(2)}, "must hold a whole number in labels"),
        ({"inputs": np.zeros((2, 3, 4, 5)), "labels": np.zeros(2, int)}, "takes (3, 4, 4)"),
        ({"inputs": np.zeros((2, 3, 4, 4), np.uint8), "labels": np.zeros(2, int)}, "floating-point numbers"),
        ({"inputs": np.full((2, 3, 4, 4), np.inf), "labels": np.zeros(2, int)}, "finite"),
    ],
)
def test_wrong_arrays(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(SampleError) as caught:
        read_samples(tmp_path / "set.npz", (3, 4, 4), {})
    assert message in str(caught.value)
