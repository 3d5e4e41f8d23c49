"""Shapes of a floating-point network's layers, without weights, memory or arithmetic."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sw.model.shapes import LayerShape

__all__ = ["module_shapes"]


@torch.no_grad()
def module_shapes(model: nn.Module, input_shape: tuple[int, ...]) -> list[LayerShape]:
    """Return the shapes of every convolution and linear layer, in order of execution.

    Parameters
    ----------
    model
        On any device; on ``meta`` nothing is computed.  Run once in evaluation mode.
    input_shape
        Of one picture, without the batch axis.
    """
    found: list[LayerShape] = []

    def hook(name: str) -> Any:
        def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, nn.Linear):
                shape = LayerShape(name, module.in_features, 1, 1, module.out_features, 1, 1, linear=True)
            else:
                assert isinstance(module, nn.Conv2d)
                shape = LayerShape(
                    name,
                    *inputs[0].shape[1:],
                    *output.shape[1:],
                    kernel=(module.kernel_size[0], module.kernel_size[1]),
                    stride=(module.stride[0], module.stride[1]),
                    groups=module.groups,
                )
            found.append(shape)

        return record

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    training = model.training
    try:
        model.eval()(torch.zeros(1, *input_shape, device=next(model.parameters()).device))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return found
