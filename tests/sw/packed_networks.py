"""Seeded random networks with small maps, and layouts drawn at random, for tests of packed layouts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np

from sw.compiler import driver, packing
from sw.compiler.ir import Graph
from tests.sw.ir_graphs import Builder

__all__ = ["block", "packed_network", "random_layouts"]


def block(
    build: Builder,
    source: str,
    kernel: int,
    *,
    variant: str = "half",
    hidden: int = 24,
    gate: bool = False,
    residual: bool = True,
) -> str:
    """An inverted residual at stride 1."""
    y = build.conv(source, hidden, clamp=(-30, 127))
    if variant == "depthwise":
        y = build.conv(y, 0, (kernel, kernel), depthwise=True, clamp=(-20, 100))
    else:
        y = build.fuse(y, kernel, full=variant == "full")
    y = build.gate(y, 5) if gate else y
    y = build.conv(y, build.tensors[source].shape[0])
    return build.add(source, y) if residual else y


def packed_network(seed: int) -> tuple[Builder, Graph]:
    """Blocks on small maps of odd sizes, and what wants plain lines in between."""
    build, rng = Builder(seed), np.random.default_rng([seed, 5])
    x = build.input((int(rng.integers(2, 24)), int(rng.integers(2, 15)), int(rng.integers(1, 12))))
    outputs = []
    for _ in range(int(rng.integers(1, 5))):
        channels, height, width = build.tensors[x].shape
        kernel = int(rng.choice([3, 5, 7]))
        match rng.choice(["block", "block", "block", "stride", "max", "mean", "row", "curve", "add", "output"]):
            case "block":
                variant = str(rng.choice(["half", "full", "depthwise"]))
                gate, residual = rng.random(2) < 0.5
                x = block(build, x, kernel, variant=variant, hidden=40, gate=bool(gate), residual=bool(residual))
            case "stride":
                x = build.conv(x, 0, (kernel, kernel), (2, 2), depthwise=True)
            case "max" | "mean" as kind:
                x = build.window(x, (3, 3), (1, 1), (1, 1, 1, 1), mean=kind == "mean")
            case "row":
                # an asymmetric window: all of its reach on one side
                x = build.conv(x, 0, (1, kernel), padding=(0, kernel - 1, 0, 0), depthwise=True, curve="hswish")
            case "curve":
                x = build.activation(x, str(rng.choice(["hswish", "hsigmoid"])))
            case "add":
                x = build.add(x, build.conv(x, channels, (1, kernel)))
            case "output":
                outputs.append(x)
                x = build.concat(build.slice(x, 0, 1), build.conv(x, 3, like=x))
    outputs.append(build.pool(x) if rng.random() < 0.5 else build.conv(x, 5))
    return build, build.graph(*(name for name in dict.fromkeys(outputs) if name != "x"))


@contextmanager
def random_layouts(seed: int) -> Iterator[None]:
    """Let the compiler draw layouts instead of choosing them by cost, and keep them even if not all fits on chip."""
    rng = np.random.default_rng(seed)

    def draw(region: packing._Region) -> packing.Labels:
        return {
            name: some[int(rng.integers(len(some)))] if rng.random() < 0.8 else None
            for name, some in region.options.items()
        }

    with patch.object(packing._Region, "best", draw), patch.object(driver, "_spills", lambda packed, placed: False):
        yield
