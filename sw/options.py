"""Command-line options that say which network and for which accelerator, shared by the tools."""

from __future__ import annotations

import argparse
import re
from typing import Any

from hw.spec.config import PRESETS, AcceleratorConfig, preset

__all__ = ["add_network_options", "add_target_options", "count", "network_arguments", "target"]


def count(text: str) -> int:
    """Read a number of pictures, 1 or more (a type for argparse)."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pictures, 1 or more")
    return int(text)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = re.split("[x,]", text.lower())
    if not all(size.isdecimal() for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; write it as 3x224x224")
    return tuple(map(int, sizes))


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add the network with its weights, size and calibration; :func:`network_arguments` reads them."""
    parser.add_argument(
        "network",
        metavar="NET",
        help="digits, digits:fuse_half, digits:fuse_full, a network of the zoo, a .pt2 or an .onnx file",
    )
    parser.add_argument(
        "--weights", metavar="F", help="weights for a network by name: .npz, or for the zoo also a .pth of torch.save"
    )
    parser.add_argument(
        "--pretrained", action="store_true", help="published weights, of the packages that rowcast[pretrained] installs"
    )
    parser.add_argument(
        "--random-weights", action="store_true", help="take a network of the zoo untrained, for its size and cycles"
    )
    parser.add_argument(
        "--calib",
        metavar="F",
        help="what to calibrate with: for the zoo pictures (a folder, a tar with labels.csv or an .npz), for an .onnx "
        "file preprocessed inputs (a .npy or a folder of them)",
    )
    parser.add_argument(
        "--calib-pictures",
        metavar="N",
        type=count,
        default=64,
        help="pictures to calibrate with at most, spread over the set (default: %(default)s)",
    )
    parser.add_argument(
        "--input-shape",
        metavar="CxHxW",
        type=_sizes,
        help="input shape of an .onnx file that leaves it open, or of a network of the zoo (default 3x224x224)",
    )
    parser.add_argument(
        "--width", metavar="W", type=float, default=1.0, help="of a network of the zoo: multiplier of the channels"
    )
    parser.add_argument(
        "--classes", metavar="N", type=int, default=1000, help="of a network of the zoo (default: %(default)s)"
    )


def network_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments, without calibration, of :func:`sw.frontends.networks.float_network`.

    Raises
    ------
    ValueError
        If the published weights are asked for and there are none, or other weights too.
    """
    name, weights = options.network, options.weights
    if options.pretrained:
        if weights is not None or options.random_weights:
            other = "--random-weights" if weights is None else "--weights"
            raise ValueError(f"{name}: --pretrained and {other} exclude each other")
        # torch takes seconds to import, which --help and wrong options need not wait for
        from sw.nn.pretrained import pretrained

        weights = pretrained(name)
        if weights.suffix == ".onnx":  # holds the network too
            name, weights = str(weights), None
    return {
        "name": name,
        "weights": weights,
        "input_shape": options.input_shape,
        "width": options.width,
        "classes": options.classes,
        "random_weights": options.random_weights,
    }


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Add the accelerator's configuration; :func:`target` reads it."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", metavar="F", help="manifest.json of the generated accelerator")
    group.add_argument("--preset", choices=list(PRESETS), default="edge16", help="configuration (default: %(default)s)")


def target(options: argparse.Namespace) -> AcceleratorConfig:
    """Return the configuration.

    Raises
    ------
    hw.spec.config.ConfigError
        If the manifest is missing or wrong.
    """
    return AcceleratorConfig.from_manifest(options.config) if options.config else preset(options.preset)
