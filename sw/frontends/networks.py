"""Networks by name (trained ones of this project, the zoo with weights from a file), ``.pt2`` and ``.onnx`` files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

from sw.frontends.calibration import calibration_batches, picture_batches
from sw.nn import zoo
from sw.nn.digits import CLASSES, INPUT_SHAPE, DigitsVariant, digits_calibration, load_digits_network
from sw.nn.weights import WeightsError
from sw.quant import QuantisationError, export_program, load, quantise

__all__ = ["CALIBRATION_PICTURES", "META_FILE", "QuantisedNetwork", "UnknownNetworkError", "quantised_network"]

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

_NOISE = (2, 8)  # batches and inputs of each, which calibrate untrained networks

Progress = Callable[[int, int | None], None]
"""Called with calibration batches done and in all."""


class UnknownNetworkError(ValueError):
    """A network name that is neither in the zoo nor a file."""


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
        The same graph for any batch size; None for a file.
    """

    name: str
    exported: ExportedProgram
    meta: dict[str, Any]
    module: GraphModule | None = None


def quantised_network(
    name: str,
    *,
    weights: str | Path | None = None,
    calibration: str | Path | None = None,
    input_shape: Sequence[int] | None = None,
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
    from_zoo = name.partition(":")[0] in _ZOO
    if random_weights and not from_zoo:
        raise UnknownNetworkError(f"--random-weights is for networks of the zoo; {name} brings its own")
    if from_zoo:
        about = zoo.metadata(name, resolution=_resolution(name, input_shape))
        return _zoo(about, weights, calibration, pictures, random_weights, progress)
    if not name.endswith(".onnx") and (calibration is not None or input_shape is not None):
        option = "--input-shape" if calibration is None else "--calib"
        raise UnknownNetworkError(f"{option} is for .onnx files and networks of the zoo; {name} brings its own")
    if name in _DIGITS:
        return _digits(name, weights, progress)
    if not name.endswith((".pt2", ".onnx")):
        raise UnknownNetworkError(
            f"no network {name!r}; there are {', '.join((*_DIGITS, *_ZOO))} (and variants such as "
            f"mobilenet_v2:fuse_half), .pt2 files of sw.quant.save, and .onnx files"
        )
    if weights is not None:
        raise UnknownNetworkError(f"{name} holds its own weights; --weights is for networks by name")
    if name.endswith(".onnx"):
        return _onnx(name, calibration, input_shape, progress)
    exported = load(name)
    return QuantisedNetwork(Path(name).stem, exported, _file_meta(Path(name)))


def _resolution(name: str, input_shape: Sequence[int] | None) -> int:
    if input_shape is None:
        return 224
    if len(input_shape) != 3 or input_shape[0] != 3 or input_shape[1] != input_shape[2]:
        shape = "x".join(map(str, input_shape))
        raise UnknownNetworkError(f"--input-shape {shape}: {name} takes square colour pictures, such as 3x160x160")
    return input_shape[1]


def _zoo(
    about: zoo.Metadata,
    weights: str | Path | None,
    calibration: str | Path | None,
    pictures: int,
    random_weights: bool,
    progress: Progress | None,
) -> QuantisedNetwork:
    if random_weights and weights is not None:
        raise WeightsError(f"{about.name}: --weights and --random-weights exclude each other")
    if weights is None and not random_weights:
        raise WeightsError(
            f"{about.name}: no trained weights come with it; give a checkpoint with --weights (parameter names of "
            f"{about.naming}), or compile it untrained, for its size and cycles, with --random-weights"
        )
    if calibration is None and not random_weights:
        raise QuantisationError(
            f"{about.name}: must be calibrated; give --calib with a folder of pictures, or a tar with labels.csv"
        )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = zoo.create(about.name, resolution=about.input_shape[1], weights=weights).eval()
        if calibration is not None:
            batches = picture_batches(calibration, about, pictures)
        else:
            batches = list(torch.randn(_NOISE[0], _NOISE[1], *about.input_shape))
    example = (batches[0][:1],)
    module = quantise(network, example, batches, progress=progress)
    meta = {"input": about.to_json(), "weights": "random" if weights is None else Path(weights).name}
    return QuantisedNetwork(about.name, export_program(module, example), meta, module)


def _onnx(
    path: str, calibration: str | Path | None, input_shape: Sequence[int] | None, progress: Progress | None
) -> QuantisedNetwork:
    try:
        # onnx is an extra of its own
        from sw.frontends.onnx_reader import read_onnx
    except ImportError as error:
        raise UnknownNetworkError(f"{path}: reading .onnx files needs {error.name}; install rowcast[onnx]") from None
    network = read_onnx(path, input_shape=input_shape)
    if len(network.shapes) != 1:
        raise UnknownNetworkError(f"{path}: has {len(network.shapes)} inputs; calibration takes networks of one")
    ((_, *shape),) = network.shapes.values()
    if calibration is None:
        raise QuantisationError(
            f"{path}: a floating-point network must be calibrated; give --calib with a .npy of preprocessed inputs "
            f"(N, {', '.join(map(str, shape))}), or a folder of such files"
        )
    batches = calibration_batches(calibration, shape)
    example = (batches[0][:1],)
    module = quantise(network.module, example, batches, progress=progress)
    meta = {"onnx": {key: network.meta[key] for key in ("opset", "producer", "recognised", "host")}}
    return QuantisedNetwork(Path(path).stem, export_program(module, example), meta, module)


def _digits(name: str, weights: str | Path | None, progress: Progress | None) -> QuantisedNetwork:
    network = load_digits_network(_DIGITS[name], weights)
    batches = digits_calibration()
    example = (batches[0][:1],)
    module = quantise(network, example, batches, progress=progress)
    meta = {
        "classes": [str(digit) for digit in range(CLASSES)],
        "input": {"shape": list(INPUT_SHAPE), "range": [0.0, 1.0], "mean": [0.0], "std": [1.0]},
    }
    return QuantisedNetwork(name, export_program(module, example), meta, module)


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
