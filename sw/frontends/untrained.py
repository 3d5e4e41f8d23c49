"""Graphs of untrained networks, by the shortest way through the real front end: for sizes and cycles."""

from __future__ import annotations

import torch

from sw.compiler.ir import Graph
from sw.frontends.networks import float_network
from sw.frontends.torch_export import import_program
from sw.quant import export_program, quantise

__all__ = ["untrained_graph"]


def untrained_graph(name: str) -> Graph:
    """Return a network of the zoo with random weights, quantised with a single picture of noise.

    Instructions, and so cycles, depend neither on weights nor on ranges.

    Raises
    ------
    sw.frontends.files.UnknownNetworkError
        If the zoo has no such network.
    """
    network = float_network(name, random_weights=True)
    noise = torch.randn(1, *network.shape, generator=torch.Generator().manual_seed(0))
    module = quantise(network.module, (noise,), [noise], observer="minmax", bias_correction=False)
    return import_program(export_program(module, (noise,)), name=network.name, meta=network.meta)
