"""Networks by name (trained ones of this project, the zoo with weights from a file), ``.pt2`` and ``.onnx`` files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from sw.frontends.calibration import calibration_batches, picture_batches
from sw.nn import zoo
from sw.nn.digits import CLASSES, INPUT_SHAPE, DigitsVariant, digits_calibration, load_digits_network
from sw.nn.weights import WeightsError
from sw.quant import QuantisationError, export_program, load, quantise

__all__ = [
    "CALIBRATION_PICTURES",
    "META_FILE",
    "FloatNetwork",
    "QuantisedNetwork",
    "UnknownNetworkError",
    "float_network",
    "quantised_network",
]

META_FILE = "meta.json"
"""Extra file of a ``.pt2`` whose JSON object becomes the program's `meta`."""

_DIGITS: dict[str, DigitsVariant] = {
    "digits": "depthwise",
    "digits:fuse_half": "half",
    "digits:fuse_full": "full",
}
_ZOO = tuple(name for name in zoo.names() if ":" not in name)

CALIBRATION_PICTURES = 64
"""How many pictures a network of the zoo is calibrated with, if not told otherwise."""

_SIZE = (1.0, 1000)  # width and classes of the networks of the zoo, as published

_NOISE = (2, 8)  # batches and inputs of each, which calibrate untrained networks

Progress = Callable[[int, int | None], None]
"""Called with calibration batches done and in all."""


class UnknownNetworkError(ValueError):
    """A network name that is neither in the zoo nor a file."""


@dataclass(frozen=True)
class FloatNetwork:
    """A network before quantisation.

    Parameters
    ----------
    name
        As given; the stem of a file's.
    module
        In evaluation mode, for any batch size.
    shape
        (C, H, W) of an input.
    meta
        Of :class:`QuantisedNetwork`.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    meta: dict[str, Any]


@dataclass(frozen=True)
class QuantisedNetwork:
    """A quantised network.

    Parameters
    ----------
    name
        As given.
    exported
        q/dq graph for batch size 1, which :func:`sw.frontends.torch_export.import_program` reads.
    meta
        Classes and preprocessing: ``input`` has the shape, the range of a picture's values, mean and std.
    module
        The same graph for any batch size; None for a ``.pt2`` file.
    reference
        The network it was made of; None for a ``.pt2`` file.
    """

    name: str
    exported: ExportedProgram
    meta: dict[str, Any]
    module: GraphModule | None = None
    reference: FloatNetwork | None = None


def float_network(
    name: str,
    *,
    weights: str | Path | None = None,
    input_shape: Sequence[int] | None = None,
    width: float = 1.0,
    classes: int = 1000,
    random_weights: bool = False,
) -> FloatNetwork:
    """Return a network by name (digits, or one of :func:`sw.nn.zoo.names`) or the one in an ``.onnx`` file.

    Parameters and errors are those of :func:`quantised_network`.
    """
    _check_arguments(name, weights, input_shape, (width, classes), random_weights)
    if _from_zoo(name):
        about = zoo.metadata(name, resolution=_resolution(name, input_shape))
        return _zoo(about, weights, width, classes, random_weights)
    if name in _DIGITS:
        return _digits(name, weights)
    if name.endswith(".pt2"):
        raise UnknownNetworkError(f"{name}: holds a quantised network, no floating-point one")
    return _onnx(name, input_shape)


def _from_zoo(name: str) -> bool:
    return name.partition(":")[0] in _ZOO


def _check_arguments(
    name: str,
    weights: str | Path | None,
    input_shape: Sequence[int] | None,
    size: tuple[float, int],
    random_weights: bool,
) -> None:
    """Refuse an unknown name, and arguments that a network does not take."""
    from_zoo = _from_zoo(name)
    if random_weights and not from_zoo:
        raise UnknownNetworkError(f"--random-weights is for networks of the zoo; {name} brings its own")
    if size != _SIZE and not from_zoo:
        raise UnknownNetworkError(f"--width and --classes are for networks of the zoo; {name} has its own")
    if input_shape is not None and not from_zoo and not name.endswith(".onnx"):
        raise UnknownNetworkError(f"--input-shape is for .onnx files and networks of the zoo; {name} has its own")
    if not from_zoo and name not in _DIGITS:
        if not name.endswith((".pt2", ".onnx")):
            raise UnknownNetworkError(
                f"no network {name!r}; there are {', '.join((*_DIGITS, *_ZOO))} (and variants such as "
                f"mobilenet_v2:fuse_half), .pt2 files of sw.quant.save, and .onnx files"
            )
        if weights is not None:
            raise UnknownNetworkError(f"{name} holds its own weights; --weights is for networks by name")


def quantised_network(
    name: str,
    *,
    weights: str | Path | None = None,
    calibration: str | Path | None = None,
    input_shape: Sequence[int] | None = None,
    width: float = 1.0,
    classes: int = 1000,
    pictures: int = CALIBRATION_PICTURES,
    random_weights: bool = False,
    progress: Progress | None = None,
) -> QuantisedNetwork:
    """Return a network by name (digits, or one of :func:`sw.nn.zoo.names`), or the one in a file (.pt2, .onnx).

    Parameters
    ----------
    weights
        Weights file (networks by name only); the digits networks have committed weights, which it replaces.
    calibration
        Pictures, see :func:`sw.frontends.calibration.picture_batches`, for a network of the zoo; inputs, see
        :func:`sw.frontends.calibration.calibration_batches`, for an ``.onnx`` file.  Both need it.
    input_shape
        (C, H, W), where an ``.onnx`` file leaves axes open; (3, R, R) with the resolution R of a network of the zoo.
    width, classes
        Of a network of the zoo, see :func:`sw.nn.zoo.create`.
    pictures
        How many pictures at most to calibrate a network of the zoo with.
    random_weights
        Whether a network of the zoo may be untrained, for sizes and cycles; without `calibration`, noise calibrates it.
    progress
        Called with calibration batches done and in all.

    Raises
    ------
    UnknownNetworkError, QuantisationError, ValueError
        If there is no such network, its weights or file cannot be read, or an argument is not for it.
    """
    _check_arguments(name, weights, input_shape, (width, classes), random_weights)
    if calibration is not None and not _from_zoo(name) and not name.endswith(".onnx"):
        raise UnknownNetworkError(f"--calib is for .onnx files and networks of the zoo; {name} brings its own")
    if name.endswith(".pt2"):
        return QuantisedNetwork(Path(name).stem, load(name), _file_meta(Path(name)))
    network = float_network(
        name, weights=weights, input_shape=input_shape, width=width, classes=classes, random_weights=random_weights
    )
    if _from_zoo(name):
        about = zoo.metadata(name, resolution=network.shape[1])
        batches = _zoo_batches(about, calibration, pictures, random_weights)
    elif name in _DIGITS:
        batches = digits_calibration()
    else:
        batches = _onnx_batches(name, calibration, network.shape)
    example = (batches[0][:1],)
    module = quantise(network.module, example, batches, progress=progress)
    return QuantisedNetwork(network.name, export_program(module, example), network.meta, module, network)


def _resolution(name: str, input_shape: Sequence[int] | None) -> int:
    if input_shape is None:
        return 224
    if len(input_shape) != 3 or input_shape[0] != 3 or input_shape[1] != input_shape[2]:
        shape = "x".join(map(str, input_shape))
        raise UnknownNetworkError(f"--input-shape {shape}: {name} takes square colour pictures, such as 3x160x160")
    return input_shape[1]


def _zoo(
    about: zoo.Metadata, weights: str | Path | None, width: float, classes: int, random_weights: bool
) -> FloatNetwork:
    if random_weights and weights is not None:
        raise WeightsError(f"{about.name}: --weights and --random-weights exclude each other")
    if weights is None and not random_weights:
        raise WeightsError(
            f"{about.name}: no trained weights come with it; give a checkpoint with --weights (parameter names of "
            f"{about.naming}) or --pretrained, or take it untrained, for its size and cycles, with --random-weights"
        )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = zoo.create(
            about.name, width=width, resolution=about.input_shape[1], classes=classes, weights=weights
        ).eval()
    meta = {"input": about.to_json(), "weights": "random" if weights is None else Path(weights).name}
    return FloatNetwork(about.name, network, about.input_shape, meta)


def _zoo_batches(
    about: zoo.Metadata, calibration: str | Path | None, pictures: int, random_weights: bool
) -> list[Tensor]:
    if calibration is not None:
        return picture_batches(calibration, about, pictures)
    if not random_weights:
        raise QuantisationError(
            f"{about.name}: must be calibrated; give --calib with a folder of pictures, or a tar with labels.csv"
        )
    generator = torch.Generator().manual_seed(0)
    return list(torch.randn(_NOISE[0], _NOISE[1], *about.input_shape, generator=generator))


def _onnx(path: str, input_shape: Sequence[int] | None) -> FloatNetwork:
    try:
        # onnx is an extra of its own
        from sw.frontends.onnx_reader import read_onnx
    except ImportError as error:
        raise UnknownNetworkError(f"{path}: reading .onnx files needs {error.name}; install rowcast[onnx]") from None
    network = read_onnx(path, input_shape=input_shape)
    if len(network.shapes) != 1:
        raise UnknownNetworkError(f"{path}: has {len(network.shapes)} inputs; calibration takes networks of one")
    ((_, *shape),) = network.shapes.values()
    meta = {"onnx": {key: network.meta[key] for key in ("opset", "producer", "recognised", "host")}}
    return FloatNetwork(Path(path).stem, network.module, tuple(shape), meta)


def _onnx_batches(path: str, calibration: str | Path | None, shape: Sequence[int]) -> list[Tensor]:
    if calibration is None:
        raise QuantisationError(
            f"{path}: a floating-point network must be calibrated; give --calib with a .npy of preprocessed inputs "
            f"(N, {', '.join(map(str, shape))}), or a folder of such files"
        )
    return calibration_batches(calibration, shape)


def _digits(name: str, weights: str | Path | None) -> FloatNetwork:
    meta = {
        "classes": [str(digit) for digit in range(CLASSES)],
        "input": {"shape": list(INPUT_SHAPE), "range": [0.0, 1.0], "mean": [0.0], "std": [1.0]},
    }
    return FloatNetwork(name, load_digits_network(_DIGITS[name], weights), INPUT_SHAPE, meta)


def _file_meta(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        names = [entry for entry in archive.namelist() if entry.endswith(f"extra/{META_FILE}")]
        if not names:
            return {}
        try:
            meta = json.loads(archive.read(names[0]))
        except ValueError as error:
            raise QuantisationError(f"{path}: {META_FILE} is no JSON ({error})") from None
    if not isinstance(meta, dict):
        raise QuantisationError(f"{path}: {META_FILE} holds {type(meta).__name__}, not an object")
    return meta
