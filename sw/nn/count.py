"""Multiply-accumulates and parameters per layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LayerCount", "count", "parameters"]


@dataclass(frozen=True)
class LayerCount:
    """One convolution or linear layer: multiply-accumulates for one picture, and weights and biases."""

    name: str
    macs: int
    parameters: int
    output_shape: tuple[int, ...]


def parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@torch.no_grad()
def count(model: nn.Module, input_shape: tuple[int, ...]) -> list[LayerCount]:
    """Return the counts of every convolution and linear layer, in order of execution.

    Parameters
    ----------
    model
        The network; run once in evaluation mode on zeros.
    input_shape
        Shape of one picture, without the batch axis.
    """
    found: list[LayerCount] = []

    def hook(name: str) -> Any:
        def record(module: nn.Module, _: Any, output: Tensor) -> None:
            assert isinstance(module, nn.Conv2d | nn.Linear)
            weights = module.weight.numel()
            places = output.numel() // output.shape[1] if isinstance(module, nn.Conv2d) else 1
            size = sum(parameter.numel() for parameter in module.parameters())
            found.append(LayerCount(name, weights * places, size, tuple(output.shape[1:])))

        return record

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    training = model.training
    try:
        model.eval()(torch.zeros(1, *input_shape))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return found
