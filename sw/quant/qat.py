"""Quantisation-aware training: the network trains with the rounding that the accelerator will do.

::

    prepared = prepare_qat(network, (example,), calibration)    # of a trained network, in evaluation mode
    optimiser = torch.optim.AdamW(prepared.parameters(), 1e-4)
    ...                                                         # a usual loop: prepared(x), loss, step
    freeze_ranges(prepared)
    ...                                                         # a last epoch
    graph = convert(prepared)                                   # the same q/dq graph that sw.quant.quantise makes

The graph is that of post-training quantisation, made by the same :class:`~sw.quant.quantizer.RowcastQuantizer`; where
that has observers, this has fake quantisation: values are rounded and clipped to int8 on the way forward, and gradients
pass straight through (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018).

Batch normalisation is folded before training, with the trained statistics, so the weights that train are those that are
quantised.  Jacob et al. fold anew at each step instead; torchao's ``prepare_qat_pt2e`` does so for an epsilon of 1e-5
alone, and silently changes networks with another (EfficientNet-Lite and MobileNetV3 have 1e-3).  There is no dropout.
So this fine-tunes a trained network, for a few epochs with a small learning rate; it does not train one from scratch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import FakeQuantize
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

from sw.quant.bias_range import fit_biases
from sw.quant.constants import constant
from sw.quant.pt2e import Progress, calibrate, prepare
from sw.quant.rewrite import copied

__all__ = ["convert", "freeze_ranges", "prepare_qat"]


def prepare_qat(
    model: nn.Module,
    example_inputs: tuple[Tensor, ...],
    batches: Iterable[Tensor],
    *,
    progress: Progress | None = None,
) -> GraphModule:
    """Return a network to be trained, with fake quantisation and first ranges.

    Its ``parameters()`` are weights and biases, batch normalisation folded.  Ranges of activations follow the batches
    of training, as running averages of their extremes.

    Parameters
    ----------
    model
        Trained network in evaluation mode; it is not changed.
    example_inputs
        See :func:`sw.quant.prepare`.
    batches
        Calibration pictures for the first ranges.
    progress
        Called after each calibration batch.

    Raises
    ------
    sw.quant.QuantisationError, sw.quant.UnsupportedOperatorError
        As :func:`sw.quant.prepare` and :func:`sw.quant.calibrate` do.
    """
    prepared = prepare(copy.deepcopy(model), example_inputs, training=True)
    fakes = [module for module in prepared.modules() if isinstance(module, FakeQuantize)]
    for fake in fakes:
        fake.disable_fake_quant()  # the first ranges are those of the floating-point network
    calibrate(prepared, batches, progress=progress)
    for fake in fakes:
        fake.enable_fake_quant()
    return prepared


def freeze_ranges(prepared: GraphModule) -> None:
    """Keep the ranges of activations as they are from now on, so that the weights settle; weights keep theirs current.

    Parameters
    ----------
    prepared
        Of :func:`prepare_qat`.
    """
    weights = {id(fake) for _, fake in _weights(prepared)}
    for module in prepared.modules():
        if isinstance(module, FakeQuantize) and id(module) not in weights:
            module.disable_observer()


def convert(prepared: GraphModule) -> GraphModule:
    """Return the int8 q/dq graph (see :mod:`sw.quant`) of a trained network, which may be trained on afterwards.

    Parameters
    ----------
    prepared
        Of :func:`prepare_qat`.
    """
    trained = copied(prepared)
    with torch.no_grad():
        for weight, fake in _weights(trained):
            fake(weight)  # their ranges are from before the last step
    converted: GraphModule = convert_pt2e(trained)
    fit_biases(converted)
    return converted


def _weights(prepared: GraphModule) -> Iterator[tuple[Tensor, FakeQuantize]]:
    """Yield weights with their fake quantisation."""
    for node in prepared.graph.nodes:
        if node.op != "call_module":
            continue
        (source,) = node.args
        assert isinstance(source, Node)
        if source.op == "get_attr":
            yield constant(prepared, source), prepared.get_submodule(str(node.target))
