"""What decides the figures of an exploration besides its settings: the network's shape, and the sources."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

from sw.compiler.ir import Graph, Tensor
from sw.sources import CYCLE_SOURCES, sources_digest

__all__ = ["figure_sources", "shape_digest"]


def shape_digest(graph: Graph) -> str:
    """Return a SHA-256 of a network's operators and shapes, in order.

    Values are left out (weights, scales, clamps): they make no difference to cycles, and calibration on another machine
    may give others.  So are names.
    """
    places = {name: index for index, name in enumerate([*graph.inputs, *(op.output for op in graph.ops)])}
    shapes = {index: graph[name].shape for name, index in places.items()}

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray | Tensor):
            return list(value.shape)
        if isinstance(value, str) and value in places:
            return f"%{places[value]}"
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return value

    ops = [
        [type(op).__name__]
        + [
            [field.name, plain(getattr(op, field.name))]
            for field in dataclasses.fields(op)
            if field.name not in ("name", "clamp")
        ]
        for op in graph.ops
    ]
    facts = [sorted(shapes.items()), ops, [places[name] for name in graph.outputs]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def figure_sources() -> str:
    """Return a hash of the sources that turn a configuration into a point."""
    return sources_digest([*CYCLE_SOURCES, "sw/explore/point.py", "sw/explore/space.py"])
