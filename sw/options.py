"""Command-line options that say which network and for which accelerator, shared by the tools."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from hw.spec.config import PRESETS, AcceleratorConfig, preset
from sw.defaults import (
    CALIBRATION_PICTURES,
    DEFAULT_OBSERVER,
    OBSERVERS,
    ZOO_WIDTH,
)

__all__ = [
    "add_compile_options",
    "add_network_options",
    "add_target_options",
    "array_size",
    "count",
    "network_arguments",
    "quantisation_arguments",
    "target",
]


def count(text: str) -> int:
    """Read a number, 1 or more (a type for argparse)."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, 1 or more")
    return int(text)


def array_size(text: str) -> int:
    """Read the side of a square array, 2 or more (a type for argparse)."""
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows and columns, 2 or more")
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
        "--pretrained",
        action="store_true",
        help="trained weights, of the packages that rowcast[pretrained] installs or of this one (docs/zoo.md)",
    )
    parser.add_argument(
        "--random-weights", action="store_true", help="take a network of the zoo untrained, for its size and cycles"
    )
    parser.add_argument(
        "--calib",
        metavar="F",
        help="what to calibrate with: pictures (a folder or a tar of them, labelled or not, or an .npz), and for "
        "a floating-point file also preprocessed inputs (a .npy or a folder of them)",
    )
    parser.add_argument(
        "--calib-pictures",
        metavar="N",
        type=count,
        default=CALIBRATION_PICTURES,
        help="pictures to calibrate with at most, spread over the set (default: %(default)s)",
    )
    parser.add_argument(
        "--observer",
        choices=OBSERVERS,
        default=DEFAULT_OBSERVER,
        help="how calibration sets the ranges of activations: least squared error (histogram), almost all values "
        "(percentile) or all (minmax) (default: %(default)s)",
    )
    parser.add_argument(
        "--bias-correction",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether biases take back the shifts that quantisation causes (default: they do)",
    )
    parser.add_argument(
        "--input-shape",
        metavar="CxHxW",
        type=_sizes,
        help="input shape of an .onnx file that leaves it open, or of a network of the zoo "
        "(default: as published)",
    )
    _add_picture_options(parser)
    parser.add_argument(
        "--width",
        metavar="W",
        type=float,
        default=ZOO_WIDTH,
        help="of a network of the zoo: multiplier of the channels (default: %(default)s)",
    )
    parser.add_argument(
        "--classes", metavar="N", type=int, help="of a network of the zoo (default: as published, ImageNet's 1000)"
    )
    parser.add_argument("--class-names", metavar="F", help="text file with the name of a class in each line")


def _add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Add how pictures become inputs; :func:`_preprocessing` reads it."""
    group = parser.add_argument_group("how pictures become inputs of a network in a file: (x - mean) / std")
    group.add_argument("--mean", metavar="M,M,M", type=_numbers, help="per channel or one for all, in units of --range")
    group.add_argument("--std", metavar="S,S,S", type=_numbers, help="per channel or one for all, in units of --range")
    group.add_argument("--range", metavar="LO,HI", type=_numbers, help="values of black and white (default: 0,1)")
    group.add_argument(
        "--crop", metavar="F", type=float, help="side of the centre crop over the resized picture's (default: 1)"
    )
    group.add_argument("--interpolation", metavar="I", help="of the resizing: bilinear (default) or bicubic")


def _numbers(text: str) -> list[float]:
    try:
        return [float(item) for item in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers; write it as 0.5,0.5,0.5") from None


def _preprocessing(options: argparse.Namespace) -> dict[str, Any] | None:
    keys = ("mean", "std", "range", "crop", "interpolation")
    given = {key: getattr(options, key) for key in keys if getattr(options, key) is not None}
    return given or None


def _class_names(path: str | None) -> list[str] | None:
    if path is None:
        return None
    try:
        return [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--class-names {path}: not a readable text file ({error})") from None


def network_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments, without calibration, of :func:`sw.frontends.networks.float_network`.

    Raises
    ------
    ValueError
        If the published weights are asked for and there are none, or other weights too, or if the class names cannot
        be read.
    """
    name, weights, width = options.network, options.weights, options.width
    class_names = _class_names(options.class_names)
    if options.pretrained:
        if weights is not None or options.random_weights:
            other = "--random-weights" if weights is None else "--weights"
            raise ValueError(f"{name}: --pretrained and {other} exclude each other")
        # torch takes seconds to import, which --help and wrong options need not wait for
        from sw.nn.pretrained import pretrained, pretrained_facts

        weights, facts = pretrained(name), pretrained_facts(name)
        width = facts.get("width", width) if width == ZOO_WIDTH else width
        class_names = facts.get("class_names") if class_names is None else class_names
        if weights.suffix == ".onnx":  # holds the network too
            name, weights = str(weights), None
    return {
        "name": name,
        "weights": weights,
        "input_shape": options.input_shape,
        "width": width,
        "classes": options.classes,
        "random_weights": options.random_weights,
        "preprocessing": _preprocessing(options),
        "class_names": class_names,
    }


def quantisation_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the further arguments of :func:`sw.frontends.networks.quantised_network`: calibration and its use."""
    return {
        "calibration": options.calib,
        "pictures": options.calib_pictures,
        "observer": options.observer,
        "bias_correction": options.bias_correction,
    }


def add_target_options(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Add the accelerator's configuration; :func:`target` reads it.

    Returns the group, for options that exclude it.
    """
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", metavar="F", help="manifest.json of the generated accelerator")
    group.add_argument("--preset", choices=list(PRESETS), default="edge16", help="configuration (default: %(default)s)")
    return group


def add_compile_options(parser: argparse.ArgumentParser) -> None:
    """Add what the compiler may do: `packing`, an argument of :func:`sw.compiler.compile_graph`."""
    parser.add_argument(
        "--packing",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether several lines of a small map may share a line of the array (default: where it saves cycles)",
    )


def target(options: argparse.Namespace) -> AcceleratorConfig:
    """Return the configuration.

    Raises
    ------
    hw.spec.config.ConfigError
        If the manifest is missing or wrong.
    """
    return AcceleratorConfig.from_manifest(options.config) if options.config else preset(options.preset)
