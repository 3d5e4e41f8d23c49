"""Sizes of the zoo's networks, and the paper's, as Markdown: ``python -m sw.nn.zoo.table [--update docs/zoo.md]``."""

from __future__ import annotations

import argparse
import sys
from functools import cache
from pathlib import Path

import torch
from torch import nn

from hw.spec.program import write_atomic
from sw.nn.authors import PAPER_HIDDEN
from sw.nn.count import count, parameters
from sw.nn.zoo.mobilenet_v3 import MobileNetV3, SqueezeExcitation
from sw.nn.zoo.registry import create, metadata, names

__all__ = ["PAPER", "explained", "main", "paper_table", "sizes_table", "update"]

PAPER: dict[str, float] = {
    "mobilenet_v1": 4.23,
    "mobilenet_v1:fuse_full": 7.36,
    "mobilenet_v1:fuse_half": 4.20,
    "mobilenet_v2": 3.50,
    "mobilenet_v2:fuse_full": 4.46,
    "mobilenet_v2:fuse_half": 3.46,
    "mnasnet_b1": 4.38,
    "mnasnet_b1:fuse_full": 5.66,
    "mnasnet_b1:fuse_half": 4.25,
    "mobilenet_v3_small": 2.93,
    "mobilenet_v3_small:fuse_full": 4.44,
    "mobilenet_v3_small:fuse_half": 2.89,
    "mobilenet_v3_large": 5.47,
    "mobilenet_v3_large:fuse_full": 10.57,
    "mobilenet_v3_large:fuse_half": 5.40,
}
"""Millions of parameters in Selvam, Ganesan and Kumar (DATE 2021, arXiv 2105.13434), cut to two decimals there."""

_BEGIN = "<!-- python -m sw.nn.zoo.table --update docs/zoo.md -->"
_END = "<!-- end -->"


def explained(network: nn.Module) -> dict[str, int]:
    """Return by how many parameters the paper's MobileNetV3 differs from torchvision's, by cause; empty for others."""
    if not isinstance(network, MobileNetV3):
        return {}
    gates = [module for module in network.modules() if isinstance(module, SqueezeExcitation)]
    first, last = network.classifier[0], network.classifier[-1]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    causes = {"no bias in squeeze-and-excite": 0, "its C / 4 channels not rounded to 8": 0}
    for gate in gates:
        for layer in (gate.fc1, gate.fc2):
            assert layer.bias is not None
            channels = gate.fc1.in_channels
            causes["no bias in squeeze-and-excite"] -= layer.bias.numel()
            causes["its C / 4 channels not rounded to 8"] += channels * (channels // 4) - layer.weight.numel()
    wider = (PAPER_HIDDEN - first.out_features) * (first.in_features + 1 + last.out_features)
    return causes | ({f"{PAPER_HIDDEN} instead of {first.out_features} hidden channels": wider} if wider else {})


@cache
def _network(name: str) -> nn.Module:
    with torch.device("meta"):  # sizes only: no memory, no arithmetic
        return create(name)


def sizes_table() -> str:
    """Return parameters and multiply-accumulates of all networks."""
    lines = [
        "| network | replaced blocks | parameters | MACs (M) |",
        "| --- | --- | ---: | ---: |",
    ]
    for name in names():
        about, network = metadata(name), _network(name)
        with torch.device("meta"):
            macs = sum(layer.macs for layer in count(network, about.input_shape))
        replaced = f"{len(about.fused)} of {about.depthwise_blocks}"
        lines.append(f"| `{name}` | {replaced} | {parameters(network):,} | {macs / 1e6:.1f} |")
    return "\n".join(lines)


def paper_table() -> str:
    """Return parameters beside the paper's, with what explains the difference."""
    lines = [
        "| network | parameters | explained difference | sum (M) | paper (M) |",
        "| --- | ---: | --- | ---: | ---: |",
    ]
    for name, published in PAPER.items():
        network = _network(name)
        causes, own = explained(network), parameters(network)
        text = "; ".join(f"{cause} {value:+,}" for cause, value in causes.items())
        total = (own + sum(causes.values())) / 1e6
        lines.append(f"| `{name}` | {own:,} | {text} | {total:.4f} | {published:.2f} |")
    return "\n".join(lines)


def update(text: str) -> str:
    """Return a document with its part between the markers written anew.

    Raises
    ------
    ValueError
        If a marker is missing.
    """
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the document lacks the line {_BEGIN!r} or {_END!r}")
    return f"{before}{_BEGIN}\n\n{sizes_table()}\n\n{paper_table()}\n\n{_END}{after}"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status (2 on a user's error)."""
    parser = argparse.ArgumentParser(
        prog="python -m sw.nn.zoo.table", description="Print parameters and multiply-accumulates of the zoo's networks."
    )
    parser.add_argument("--update", type=Path, metavar="FILE", help="write the tables into this document instead")
    args = parser.parse_args(argv)
    if args.update is None:
        print(f"{sizes_table()}\n\n{paper_table()}")
        return 0
    try:
        write_atomic(args.update, update(args.update.read_text()).encode())
    except (OSError, ValueError) as error:
        parser.error(f"--update {args.update}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
