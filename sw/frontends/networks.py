"""Networks by name: trained weights quantised with pictures of the training split, or ``.pt2`` and ``.onnx`` files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram
from torch.fx import GraphModule

from sw.frontends.calibration import calibration_batches
from sw.nn.digits import CLASSES, INPUT_SHAPE, DigitsVariant, digits_calibration, load_digits_network
from sw.quant import QuantisationError, export_program, load, quantise

__all__ = ["META_FILE", "NAMES", "QuantisedNetwork", "UnknownNetworkError", "quantised_network"]

META_FILE = "meta.json"
"""Extra file of a ``.pt2`` whose JSON object becomes the program's `meta`."""

_DIGITS: dict[str, DigitsVariant] = {
    "digits": "depthwise",
    "digits:fuse_half": "half",
    "digits:fuse_full": "full",
}
NAMES = tuple(_DIGITS)
"""Names :func:`quantised_network` knows."""

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
    progress: Progress | None = None,
) -> QuantisedNetwork:
    """Return a network by name (:data:`NAMES`), or the one in a ``.pt2`` or ``.onnx`` file.

    Parameters
    ----------
    weights
        Weights file instead of the committed one (networks by name only).
    calibration
        Inputs for calibration, see :func:`sw.frontends.calibration.calibration_batches` (``.onnx`` only, which needs
        it).
    input_shape
        (C, H, W), where the file leaves axes open (``.onnx`` only).
    progress
        Called with calibration batches done and in all.

    Raises
    ------
    UnknownNetworkError, QuantisationError, ValueError
        If there is no such network, its weights or file cannot be read, or an argument is not for it.
    """
    if not name.endswith(".onnx") and (calibration is not None or input_shape is not None):
        option = "--input-shape" if calibration is None else "--calib"
        raise UnknownNetworkError(f"{option} is for .onnx files; {name} brings its own")
    if name in _DIGITS:
        return _digits(name, weights, progress)
    if not name.endswith((".pt2", ".onnx")):
        raise UnknownNetworkError(
            f"no network {name!r}; there are {', '.join(NAMES)}, .pt2 files of sw.quant.save, and .onnx files"
        )
    if weights is not None:
        raise UnknownNetworkError(f"{name} holds its own weights; --weights is for {', '.join(NAMES)}")
    if name.endswith(".onnx"):
        return _onnx(name, calibration, input_shape, progress)
    exported = load(name)
    return QuantisedNetwork(Path(name).stem, exported, _file_meta(Path(name)))


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
