"""Post-training quantisation of a network: export, calibrate, convert, save, load."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from hw.spec.program import write_atomic
from sw.defaults import DEFAULT_OBSERVER, ObserverKind
from sw.quant.bias_correction import correct_biases
from sw.quant.bias_range import fit_biases
from sw.quant.quantizer import RowcastQuantizer
from sw.quant.rewrite import copied

__all__ = ["QuantisationError", "calibrate", "export_program", "load", "prepare", "quantise", "save"]

Progress = Callable[[int, int | None], None]
"""Called with batches done and, if it is known, their number."""

CORRECTION_PICTURES = 64
"""How many calibration pictures at most the biases are corrected with: all their activations are held in memory."""


class QuantisationError(ValueError):
    """A network or calibration data that cannot be quantised, or an unreadable quantised network."""


def prepare(
    model: nn.Module,
    example_inputs: tuple[Tensor, ...],
    *,
    observer: ObserverKind = DEFAULT_OBSERVER,
    training: bool = False,
) -> GraphModule:
    """Export a network with a free batch size, fold batch normalisation and insert observers.

    Parameters
    ----------
    model
        Network in evaluation mode, with floating-point weights.
    example_inputs
        Inputs with a batch axis first; only shapes and types matter.
    observer, training
        See :class:`~sw.quant.quantizer.RowcastQuantizer`.

    Raises
    ------
    QuantisationError
        If the network is in training mode or torch.export cannot take it.
    UnsupportedOperatorError
        If it has an operator the accelerator does not execute.
    """
    if model.training:
        raise QuantisationError("the network is in training mode; call .eval() first")
    # a size of 1 would be taken for a constant
    batched = tuple(torch.zeros(2, *value.shape[1:], dtype=value.dtype) for value in example_inputs)
    shapes = tuple({0: Dim.AUTO} for _ in batched)
    try:
        graph = torch.export.export(model, batched, dynamic_shapes=shapes).module(check_guards=False)
    except Exception as error:  # torch.export runs the network's code and raises many types
        raise QuantisationError(f"torch.export cannot take {type(model).__name__}: {error}") from error
    prepared: GraphModule = prepare_pt2e(graph, RowcastQuantizer(observer, training=training))
    return prepared


def calibrate(prepared: GraphModule, batches: Iterable[Tensor], *, progress: Progress | None = None) -> None:
    """Run pictures through a prepared network, whose observers note the ranges.

    Parameters
    ----------
    prepared
        Of :func:`prepare`.
    batches
        Tensors (N, C, H, W), preprocessed as for inference; N may vary.
    progress
        Called after each batch.

    Raises
    ------
    QuantisationError
        If there is no batch, or one holds values that are not finite.
    """
    total = len(batches) if isinstance(batches, Sequence) else None
    done = 0
    with torch.no_grad():
        for batch in batches:
            if not batch.isfinite().all():
                raise QuantisationError(f"calibration batch {done} (from 0) holds values that are not finite")
            prepared(batch)
            done += 1
            if progress is not None:
                progress(done, total)
    if not done:
        raise QuantisationError("no calibration pictures were given; 32 or more make good ranges")


def quantise(
    model: nn.Module,
    example_inputs: tuple[Tensor, ...],
    batches: Iterable[Tensor],
    *,
    observer: ObserverKind = DEFAULT_OBSERVER,
    bias_correction: bool = True,
    progress: Progress | None = None,
) -> GraphModule:
    """Return a network's int8 q/dq graph (see :mod:`sw.quant`), which runs with any batch size.

    Parameters
    ----------
    bias_correction
        Whether biases take back the shifts that quantisation causes, see :mod:`sw.quant.bias_correction`.
    others
        Those of :func:`prepare` and :func:`calibrate`, and their errors.

    PyTorch's sums depend on the number of threads, so this uses one: the same inputs give the same program.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        prepared = prepare(model, example_inputs, observer=observer)
        batches = list(batches)
        calibrate(prepared, batches, progress=progress)
        converted: GraphModule = convert_pt2e(copied(prepared))
        if bias_correction:
            pictures = torch.cat(batches)
            correct_biases(converted, prepared, pictures[:: math.ceil(len(pictures) / CORRECTION_PICTURES)])
        fit_biases(converted)
        return converted
    finally:
        torch.set_num_threads(threads)


def export_program(graph: GraphModule, example_inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """Return a q/dq graph as an exported program of the fixed shapes of `example_inputs` (batch 1 for the compiler)."""
    with torch.no_grad():
        return torch.export.export(graph, example_inputs)


def save(program: ExportedProgram, path: str | Path, *, meta: dict[str, str] | None = None) -> None:
    """Write a ``.pt2`` file, whole or not at all; `meta` travels as extra files under the given names."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=dict(meta) if meta else None)
    write_atomic(path, buffer.getvalue())


def load(path: str | Path) -> ExportedProgram:
    """Read a ``.pt2`` file (importing this module has registered the quantisation operators it needs).

    Raises
    ------
    QuantisationError
        If the file is missing or is no exported program.
    """
    if not Path(path).is_file():
        raise QuantisationError(f"{path}: no such file; write one with torch.export.save or sw.quant.save")
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.ERROR)  # torch logs the traceback of a first attempt, and says less than the last error
    try:
        return torch.export.load(str(path))
    except Exception as error:  # zip, pickle and schema errors of many types
        reason = str(error).partition(" Please check")[0]  # "the warnings above", which are held back
        raise QuantisationError(
            f"{path}: not a readable .pt2 of torch.export ({reason}); write one with torch.export.save or sw.quant.save"
        ) from error
    finally:
        logger.setLevel(level)
