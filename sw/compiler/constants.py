"""Weights and parameters: how they are packed, and where on chip they go and when they are loaded."""

from __future__ import annotations

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Target
from hw.spec.program import PARAM_DTYPE
from sw.compiler.lower import Kernel
from sw.compiler.tiling import Tiling, param_ring, spans, weight_ring

__all__ = ["ConstantStore", "Constants", "pack_params", "pack_weights"]

Group = tuple[int, int]


def pack_weights(kernel: Kernel, start: int, stop: int, config: AcceleratorConfig) -> bytes:
    """Return the weight words of output channels `start` to `stop` - 1 in the order of the ISA's EXEC section.

    Lane n-1-i of a word belongs to channel i of its block of n; taps of a depthwise line come last first.
    """
    assert kernel.weights is not None
    blocks = []
    size = kernel.block(stop - start, config)
    for first in range(start, stop, size):
        weights = kernel.weights[first : min(first + size, stop)]
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


class ConstantStore:
    """The rings that constants are loaded into, over a whole program, and the constants themselves."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.weights, self.params = weight_ring(config), param_ring(config)
        self.blobs: list[bytes] = []

    def add(self, data: bytes, size: int) -> int:
        """Keep a constant, padded to `size` bytes; return its index."""
        self.blobs.append(data.ljust(size, b"\0"))
        return len(self.blobs) - 1


class Constants:
    """Constants of one kernel's channel groups: loaded when first needed, kept as long as the tiling says."""

    def __init__(self, store: ConstantStore, kernel: Kernel, tiling: Tiling) -> None:
        self._store, self._kernel, self._once = store, kernel, tiling.weights_once
        self._blobs: dict[Group, list[tuple[Target, int]]] = {}
        self._places: dict[Group, tuple[int, int]] = {}
        self._free = (0, 0)
        if self._once:
            sizes = [self._sizes(group) for group in spans(kernel.map_shape[0], tiling.channels)]
            self._free = (
                store.weights.allocate(sum(size for size, _ in sizes)),
                store.params.allocate(sum(size for _, size in sizes)),
            )

    def place(self, group: Group) -> tuple[int, int, list[tuple[Target, int, int]]]:
        """Return a group's first weight word and parameter entry, and what must be loaded: (memory, blob, address)."""
        loads = []
        if group not in self._places:
            weights, params = self._places[group] = self._allocate(group)
            base = {Target.WEIGHT: weights, Target.PARAM: params}
            loads = [(target, blob, base[target]) for target, blob in self._pack(group)]
        weights, params = self._places[group]
        return weights // self._store.config.weight_word_bytes, params // PARAM_DTYPE.itemsize, loads

    def _sizes(self, group: Group) -> tuple[int, int]:
        config, cout = self._store.config, group[1] - group[0]
        words = self._kernel.words(cout, config.rows) * config.weight_word_bytes
        return self._store.weights.room(words), self._store.params.room(cout * PARAM_DTYPE.itemsize)

    def _allocate(self, group: Group) -> tuple[int, int]:
        weight_size, param_size = self._sizes(group)
        if not self._once:
            self._places.clear()
            return self._store.weights.allocate(weight_size), self._store.params.allocate(param_size)
        weights, params = self._free
        self._free = weights + weight_size, params + param_size
        return weights, params

    def _pack(self, group: Group) -> list[tuple[Target, int]]:
        if group not in self._blobs:
            weight_size, param_size = self._sizes(group)
            blobs = [(Target.PARAM, self._store.add(pack_params(self._kernel, *group), param_size))]
            if self._kernel.weights is not None:
                data = pack_weights(self._kernel, *group, self._store.config)
                blobs.append((Target.WEIGHT, self._store.add(data, weight_size)))
            self._blobs[group] = blobs
        return self._blobs[group]
