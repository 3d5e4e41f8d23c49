"""The network of a command line as the compiler's graph, for tools to which its weights make no difference."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sw.options import network_arguments, quantisation_arguments

if TYPE_CHECKING:
    from sw.compiler.ir import Graph

__all__ = ["is_file", "network_graph", "untrained_arguments", "untrained_network_graph"]


def is_file(name: str) -> bool:
    """Whether a network is given as a file, not by name."""
    return name.endswith((".pt2", ".onnx"))


def untrained_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return :func:`sw.options.network_arguments`, with random weights for a network of the zoo without any."""
    arguments = network_arguments(options)
    name = arguments["name"]
    if arguments["weights"] is None and not is_file(name) and name.partition(":")[0] != "digits":
        arguments["random_weights"] = True
    return arguments


def network_graph(arguments: dict[str, Any], options: argparse.Namespace) -> Graph:
    """Export and quantise a network, calibrated as the options say."""
    # torch takes seconds to import, which --help and wrong options need not wait for
    from sw.frontends.networks import quantised_network
    from sw.frontends.torch_export import import_program

    found = quantised_network(**arguments, **quantisation_arguments(options))
    return import_program(found.exported, name=found.name, meta=found.meta)


def untrained_network_graph(name: str) -> Graph:
    """Return a network of the zoo with random weights, or a digits network, quantised: the same every time."""
    from sw.frontends.networks import quantised_network
    from sw.frontends.torch_export import import_program

    found = quantised_network(name, random_weights=name.partition(":")[0] != "digits")
    return import_program(found.exported, name=found.name, meta=found.meta)
