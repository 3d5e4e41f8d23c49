"""Accuracy of a classifier, in floating point or quantised."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

__all__ = ["accuracy", "logits", "state_digest"]


@torch.no_grad()
def logits(
    model: Callable[[Tensor], Tensor], images: npt.NDArray[np.float32], *, batch: int = 100
) -> npt.NDArray[np.float32]:
    """Return the outputs (N, classes) for pictures (N, C, H, W) of a network in evaluation mode or a q/dq graph.

    Raises
    ------
    ValueError
        If it has several outputs.
    """
    parts = [model(torch.from_numpy(images[start : start + batch])) for start in range(0, len(images), batch)]
    if not all(isinstance(part, Tensor) for part in parts):
        raise ValueError(f"the network has {len(parts[0])} outputs; one, of logits, is expected")
    result: npt.NDArray[np.float32] = torch.cat(parts).flatten(1).numpy()
    return result


def state_digest(model: nn.Module) -> str:
    """Return a SHA-256 of a network's parameters and buffers."""
    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
    return found.hexdigest()


def accuracy(
    model: Callable[[Tensor], Tensor],
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.integer[Any]],
    *,
    batch: int = 100,
) -> float:
    """Return the top-1 accuracy in percent.

    Parameters
    ----------
    model
        Network in evaluation mode, or a q/dq graph of :func:`sw.quant.quantise` (int8 arithmetic in PyTorch).
    images, labels
        Pictures (N, C, H, W), preprocessed, and their classes (N,).
    batch
        Pictures at a time; 1 for a program exported with a fixed batch of 1.
    """
    return 100 * float((logits(model, images, batch=batch).argmax(1) == labels).mean())
