"""Constants of a group of output channels, as the weight scratchpad and parameter memory hold them."""

from __future__ import annotations

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.program import PARAM_DTYPE
from sw.compiler.lower import Kernel

__all__ = ["pack_params", "pack_weights"]


def pack_weights(kernel: Kernel, start: int, stop: int, config: AcceleratorConfig) -> bytes:
    """Return the weight words of output channels `start` to `stop` - 1 in the order of the ISA's EXEC section.

    Lane n-1-i of a word belongs to channel i of its block of n; taps of a depthwise line come last first.
    """
    assert kernel.weights is not None
    blocks = []
    for first in range(start, stop, config.rows):
        weights = kernel.weights[first : min(first + config.rows, stop)]
        if not kernel.dense:
            weights = weights[:, :, :, ::-1]
        lanes = weights[::-1].reshape(len(weights), -1).T
        words = np.zeros((lanes.shape[0], config.weight_word_bytes), np.int8)
        words[:, : len(weights)] = lanes
        blocks.append(words)
    return np.concatenate(blocks).tobytes()


def pack_params(kernel: Kernel, start: int, stop: int) -> bytes:
    """Return the parameter entries of output channels `start` to `stop` - 1."""
    entries = np.zeros(stop - start, PARAM_DTYPE)
    entries["bias"] = kernel.stage.bias[start:stop]
    entries["mult"] = kernel.stage.mult[start:stop]
    entries["shift"] = kernel.stage.shift[start:stop]
    return entries.tobytes()
