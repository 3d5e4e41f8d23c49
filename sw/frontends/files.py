"""Floating-point networks in files, ``.onnx`` and ``.pt2``: reading, and what calibrates them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule

from sw.frontends.calibration import PictureInput, calibration_batches, has_arrays, picture_batches
from sw.nn.pictures import Pictures
from sw.preprocessing import Preprocessing
from sw.quant import QuantisationError, load
from sw.quant.rewrite import free_batch

__all__ = [
    "META_FILE",
    "FileNetwork",
    "UnknownNetworkError",
    "file_batches",
    "file_meta",
    "is_quantised",
    "picture_facts",
    "read_float_onnx",
    "read_float_pt2",
]

FileNetwork = tuple[GraphModule, tuple[int, ...], dict[str, Any]]
"""A network that takes any batch size, the shape of one input, and what becomes the program's `meta`."""

META_FILE = "meta.json"
"""Extra file of a ``.pt2`` whose JSON object becomes the program's `meta`."""

_OPTIONS = "--mean and --std (and --range, --crop, --interpolation)"


class UnknownNetworkError(ValueError):
    """A network name that is neither in the zoo nor a file, or a file of another kind."""


def is_quantised(exported: ExportedProgram) -> bool:
    """Whether a program quantises anything."""
    return any("quantize_per" in str(node.target) for node in exported.graph.nodes if node.op == "call_function")


def read_float_onnx(path: str, input_shape: Sequence[int] | None) -> FileNetwork:
    """Return the network of an ``.onnx`` file.

    Raises
    ------
    UnknownNetworkError, sw.frontends.onnx_file.OnnxError
        If it has several inputs or cannot be read.
    """
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
    return network.module, tuple(shape), meta


def read_float_pt2(path: str) -> FileNetwork:
    """Return the network of a ``.pt2`` of ``torch.export.save``.

    Raises
    ------
    UnknownNetworkError, QuantisationError
        If it is quantised, its input is no float32 batch of one known shape, or the file cannot be read.
    """
    exported = load(path)
    if is_quantised(exported):
        raise UnknownNetworkError(f"{path}: holds a quantised network, no floating-point one")
    names = exported.graph_signature.user_inputs
    values = [node.meta.get("val") for node in exported.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(names) != 1 or not isinstance(values[0], Tensor):
        raise UnknownNetworkError(f"{path}: has {len(names)} inputs; calibration takes networks of one tensor")
    _, *shape = values[0].shape or (None,)
    if values[0].dtype != torch.float32 or len(shape) not in (1, 3):
        raise UnknownNetworkError(
            f"{path}: its input is {values[0].dtype} of {values[0].ndim} axes; export it with float32 inputs "
            f"(N, C, H, W) or (N, F)"
        )
    for axis, size in enumerate(shape, 1):
        if not isinstance(size, int):
            raise UnknownNetworkError(f"{path}: axis {axis} of its input is free; export it with a fixed one")
    unlifted = exported.module(check_guards=False)
    module = GraphModule(unlifted, unlifted.graph)  # without the exporter's hooks, which check the batch size
    free_batch(module)
    return module.eval(), tuple(shape), file_meta(Path(path))


def file_meta(path: Path) -> dict[str, Any]:
    """Return the object in :data:`META_FILE` of a ``.pt2``; empty if there is none.

    Raises
    ------
    QuantisationError
        If it is no JSON object.
    """
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


def picture_facts(path: str, facts: Mapping[str, Any], shape: Sequence[int]) -> dict[str, Any]:
    """Return the entry ``input`` of the program's `meta`: how pictures become inputs of `shape`.

    Raises
    ------
    UnknownNetworkError
        Naming the option that is missing or wrong.
    """
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise UnknownNetworkError(f"{path}: takes {tuple(shape)}, no pictures; --mean and --std are for pictures")
    try:
        how = Preprocessing.from_json({"range": (0.0, 1.0), **facts}, shape[0])
    except ValueError as error:
        raise UnknownNetworkError(f"{path}: --{error} (how pictures become its inputs)") from None
    return {"shape": list(shape), **how.to_json()}


def file_batches(
    path: str, calibration: str | Path | None, shape: Sequence[int], meta: Mapping[str, Any], pictures: int
) -> list[Tensor]:
    """Return calibration inputs for a network in a file: arrays, or pictures as ``meta["input"]`` takes them.

    Raises
    ------
    QuantisationError, sw.nn.pictures.PictureError
        If there are none, or they cannot be read.
    """
    sizes = ", ".join(map(str, shape))
    if calibration is None:
        raise QuantisationError(
            f"{path}: a floating-point network must be calibrated; give --calib with a .npy of preprocessed inputs "
            f"(N, {sizes}) or a folder of such files, or with a folder, tar or .npz of pictures and {_OPTIONS}"
        )
    calibration = Path(calibration)
    if not calibration.exists():
        raise QuantisationError(f"{calibration}: no such calibration file or folder")
    if has_arrays(calibration):
        return calibration_batches(calibration, shape)
    Pictures(calibration, split="train")  # that there are any comes first
    if "input" not in meta:
        raise QuantisationError(
            f"{path}: how pictures become its inputs is not known; give {_OPTIONS}, or --calib with a .npy of "
            f"preprocessed inputs (N, {sizes})"
        )
    how = Preprocessing.from_json(meta["input"], shape[0])
    return picture_batches(calibration, PictureInput(tuple(shape), how), pictures)
