"""Accuracy of a network on a backend, beside its floating-point and its PyTorch int8 form, picture by picture."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.spec.numerics import quantise
from sw.compiler.ir import Graph, Tensor
from sw.journal import Journal, JournalError
from sw.nn.evaluate import logits
from sw.nn.pictures import PictureError
from sw.nn.samples import SampleError, Samples
from sw.program_runner import ProgramRunner

__all__ = ["Record", "Setup", "evaluate", "graph_digest", "metrics", "topk"]

CHUNK = 16
"""Pictures that PyTorch gets at a time: always the same ones together, so that a resumed run gives the same bits."""

Model = Callable[..., Any]
Scores = npt.NDArray[Any]


@dataclass(frozen=True)
class Record:
    """What is known of one picture.

    Parameters
    ----------
    index
        Among the samples.
    label
        Its class.
    best, rank
        Class of the largest logit, and place of `label` (0: largest) on the backend.
    fp32_best, fp32_rank
        The same in floating point; None if there is no such network.
    lsb
        Largest difference of the int8 logits to PyTorch's; None in floating point.
    seconds
        Time the backend took.
    bad
        Why the picture is left out; the rest is then meaningless.
    """

    index: int
    label: int = -1
    best: int = -1
    rank: int = -1
    fp32_best: int | None = None
    fp32_rank: int | None = None
    lsb: int | None = None
    seconds: float = 0.0
    bad: str | None = None


@dataclass(frozen=True)
class Setup:
    """Forms of one network.

    Parameters
    ----------
    reference
        In floating point; None if there is none.
    quantised
        q/dq graph in PyTorch; None to evaluate `reference`.
    runner
        The compiled program; None to evaluate `quantised`.
    source, sink
        Input and logits of the quantised network, where there is one.
    batch
        Pictures that `quantised` takes at a time.
    """

    reference: Model | None
    quantised: Model | None = None
    runner: ProgramRunner | None = None
    source: Tensor | None = None
    sink: Tensor | None = None
    batch: int = CHUNK


def evaluate(
    samples: Samples,
    setup: Setup,
    *,
    journal: Journal | None = None,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Record]:
    """Evaluate every sample.

    Parameters
    ----------
    journal
        Results of an earlier run, which are taken over, and where new ones go.
    skip_bad
        Whether pictures that cannot be read are left out, instead of an error.
    progress
        Called with samples done and in all.

    Raises
    ------
    sw.nn.pictures.PictureError
        If a picture cannot be read.
    SampleError
        If a label is none of the network's classes.
    sw.backends.RunError, sw.backends.BackendError
        If a run fails, or a backend cannot be built.
    """
    done: dict[int, Record] = {}
    for index, item in journal.records.items() if journal else ():
        record = _record(journal, item)
        if record.bad is None or skip_bad:
            done[index] = record
    if progress is not None:
        progress(len(done), len(samples))
    for start in range(0, len(samples), CHUNK):
        chunk = range(start, min(start + CHUNK, len(samples)))
        if all(index in done for index in chunk):
            continue
        for record in _chunk(samples, chunk, setup, done, skip_bad):
            done[record.index] = record
            if journal is not None:
                journal.append(dataclasses.asdict(record))
            if progress is not None:
                progress(len(done), len(samples))
    return [done[index] for index in range(len(samples))]


def _record(journal: Journal | None, item: dict[str, Any]) -> Record:
    try:
        return Record(**item)
    except TypeError as error:
        path = journal.path if journal else ""
        raise JournalError(
            f"{path}: a record is of another version ({error}); remove the file and start again"
        ) from None


def _chunk(samples: Samples, chunk: range, setup: Setup, done: dict[int, Record], skip_bad: bool) -> Iterator[Record]:
    inputs, chosen = [], []
    for index in chunk:
        try:
            inputs.append(samples.read(index))
            chosen.append(index)
        except PictureError as error:
            if not skip_bad:
                raise
            if index not in done:
                yield Record(index, bad=str(error))
    if not inputs:
        return
    images = np.stack(inputs)
    started = time.perf_counter()
    reference = None if setup.reference is None else logits(setup.reference, images)
    referred = time.perf_counter()
    expected = None
    if setup.quantised is not None:
        assert setup.sink is not None
        expected = _int8(logits(setup.quantised, images, batch=setup.batch), setup.sink)
    stopped = time.perf_counter()
    pending = [row for row, index in enumerate(chosen) if index not in done]
    if setup.runner is None:
        scores = reference if expected is None else expected
        assert scores is not None
        seconds = ((referred - started) if expected is None else (stopped - referred)) / len(chosen)
        found = ((scores[row], seconds) for row in pending)
    else:
        assert setup.source is not None
        found = _timed(setup.runner.run([_int8(images[row], setup.source) for row in pending]))
    for row, (output, seconds) in zip(pending, found, strict=True):
        index = chosen[row]
        label = samples.label(index)
        if not 0 <= label < len(output):
            raise SampleError(
                f"{samples.entries[index].name} has class {label}; the network has logits of classes 0 to "
                f"{len(output) - 1}"
            )
        float_best, float_rank = (None, None) if reference is None else _place(reference[row], label)
        lsb = None if expected is None else int(np.abs(output.astype(int) - expected[row]).max())
        yield Record(index, label, *_place(output, label), float_best, float_rank, lsb, seconds)


def _int8(real: npt.NDArray[np.float32], tensor: Tensor) -> npt.NDArray[np.int8]:
    return quantise(real, tensor.scale, tensor.zero_point)


def _timed(outputs: Iterator[Scores]) -> Iterator[tuple[Scores, float]]:
    started = time.perf_counter()
    for output in outputs:
        now = time.perf_counter()
        yield output, now - started
        started = time.perf_counter()


def _place(scores: Scores, label: int) -> tuple[int, int]:
    """Return the best class and the label's place; among equal scores, which int8 has, the first class is the best."""
    ahead = int((scores > scores[label]).sum() + (scores[:label] == scores[label]).sum())
    return int(scores.argmax()), ahead


def _percent(hits: Iterable[bool]) -> float:
    found = list(hits)
    return 100 * sum(found) / len(found)


def metrics(records: Sequence[Record]) -> dict[str, float | int | None]:
    """Return the figures that ``--json`` prints; of the pictures that could be read.

    Raises
    ------
    SampleError
        If there is none.
    """
    good = [record for record in records if record.bad is None]
    if not good:
        raise SampleError(f"none of the {len(records)} pictures can be read; the first: {records[0].bad}")
    known = all(record.fp32_best is not None for record in good)
    measured = [record.lsb for record in good if record.lsb is not None]
    return {
        "top1": topk(good, 1)[0],
        "top5": topk(good, 5)[0],
        "fp32_top1": topk(good, 1)[1],
        "agreement": _percent(record.best == record.fp32_best for record in good) if known else None,
        "max_lsb": max(measured) if measured else None,
        "n": len(good),
        "images_per_s": len(good) / max(sum(record.seconds for record in good), 1e-9),
    }


def topk(records: Sequence[Record], k: int) -> tuple[float, float | None]:
    """Return in percent how often the class is among the `k` best, on the backend and in floating point (or None)."""
    good = [record for record in records if record.bad is None]
    ranks = [record.fp32_rank for record in good if record.fp32_rank is not None]
    return _percent(record.rank < k for record in good), _percent(rank < k for rank in ranks) if ranks else None


def graph_digest(graph: Graph) -> str:
    """Return a SHA-256 of a quantised network: operators, weights, scales."""
    found = hashlib.sha256(repr(sorted(graph.tensors.items())).encode())
    for op in graph.ops:
        found.update(type(op).__name__.encode())
        for field in dataclasses.fields(op):
            value = getattr(op, field.name)
            if isinstance(value, np.ndarray):
                found.update(f"{field.name} {value.dtype} {value.shape}".encode() + value.tobytes())
            else:
                found.update(f"{field.name} {value!r}".encode())
    return found.hexdigest()
