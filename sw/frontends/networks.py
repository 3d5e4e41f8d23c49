"""Networks by name (trained ones of this project, the zoo with weights from a file), ``.pt2`` and ``.onnx`` files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from sw.defaults import (
    CALIBRATION_PICTURES,
    DEFAULT_OBSERVER,
    ZOO_WIDTH,
    ObserverKind,
)
from sw.frontends.calibration import picture_batches
from sw.frontends.files import (
    META_FILE,
    UnknownNetworkError,
    file_batches,
    file_meta,
    is_quantised,
    picture_facts,
    read_float_onnx,
    read_float_pt2,
)
from sw.nn import zoo
from sw.nn.digits import CLASSES, INPUT_SHAPE, DigitsVariant, digits_calibration, load_digits_network
from sw.nn.weights import WeightsError
from sw.quant import QuantisationError, export_program, load, quantise

__all__ = [
    "META_FILE",
    "FloatNetwork",
    "QuantisedNetwork",
    "UnknownNetworkError",
    "float_network",
    "quantised_network",
]

_DIGITS: dict[str, DigitsVariant] = {
    "digits": "depthwise",
    "digits:fuse_half": "half",
    "digits:fuse_full": "full",
}
_ZOO = tuple(name for name in zoo.names() if ":" not in name)

_NOISE = (2, 8)  # batches and inputs of each, which calibrate untrained networks

Progress = Callable[[int, int | None], None]
"""Called with calibration batches done and in all."""


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
    width: float = ZOO_WIDTH,
    classes: int | None = None,
    random_weights: bool = False,
    preprocessing: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
) -> FloatNetwork:
    """Return a network by name (digits, or one of :func:`sw.nn.zoo.names`) or the one in a file (.pt2, .onnx).

    Parameters and errors are those of :func:`quantised_network`.
    """
    _check_arguments(name, weights, input_shape, (width, classes), random_weights, preprocessing)
    if _from_zoo(name):
        about = zoo.metadata(name, resolution=_resolution(name, input_shape))
        network = _zoo(about, weights, width, classes, random_weights)
    elif name in _DIGITS:
        network = _digits(name, weights)
    else:
        read = read_float_pt2(name) if name.endswith(".pt2") else read_float_onnx(name, input_shape)
        network = FloatNetwork(Path(name).stem, *read)
    meta = _more_meta(name, network.meta, network.shape, preprocessing, class_names)
    return dataclasses.replace(network, meta=meta)


def _more_meta(
    name: str,
    meta: dict[str, Any],
    shape: Sequence[int],
    preprocessing: Mapping[str, Any] | None,
    class_names: Sequence[str] | None,
) -> dict[str, Any]:
    """Return `meta` with what the user says about inputs and classes."""
    facts = {} if preprocessing is None else {"input": picture_facts(name, preprocessing, shape)}
    return {**meta, **facts, **({} if class_names is None else {"classes": list(class_names)})}


def _from_zoo(name: str) -> bool:
    return name.partition(":")[0] in _ZOO


def _check_arguments(
    name: str,
    weights: str | Path | None,
    input_shape: Sequence[int] | None,
    size: tuple[float, int | None],
    random_weights: bool,
    preprocessing: Mapping[str, Any] | None,
) -> None:
    """Refuse an unknown name, and arguments that a network does not take."""
    from_zoo = _from_zoo(name)
    if random_weights and not from_zoo:
        raise UnknownNetworkError(f"--random-weights is for networks of the zoo; {name} brings its own")
    if size != (ZOO_WIDTH, None) and not from_zoo:
        raise UnknownNetworkError(f"--width and --classes are for networks of the zoo; {name} has its own")
    if input_shape is not None and not from_zoo and not name.endswith(".onnx"):
        raise UnknownNetworkError(f"--input-shape is for .onnx files and networks of the zoo; {name} has its own")
    if preprocessing is not None and not name.endswith((".pt2", ".onnx")):
        raise UnknownNetworkError(f"--mean, --std, ... are for .onnx and .pt2 files; {name} has its own preprocessing")
    if not from_zoo and name not in _DIGITS:
        if not name.endswith((".pt2", ".onnx")):
            raise UnknownNetworkError(
                f"no network {name!r}; there are {', '.join((*_DIGITS, *_ZOO))} (and variants such as "
                f"mobilenet_v2:fuse_half), .pt2 files of torch.export.save or sw.quant.save, and .onnx files"
            )
        if weights is not None:
            raise UnknownNetworkError(f"{name} holds its own weights; --weights is for networks by name")


def quantised_network(
    name: str,
    *,
    weights: str | Path | None = None,
    calibration: str | Path | None = None,
    input_shape: Sequence[int] | None = None,
    width: float = ZOO_WIDTH,
    classes: int | None = None,
    pictures: int = CALIBRATION_PICTURES,
    random_weights: bool = False,
    preprocessing: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    observer: ObserverKind = DEFAULT_OBSERVER,
    bias_correction: bool = True,
    progress: Progress | None = None,
) -> QuantisedNetwork:
    """Return a network by name (digits, or one of :func:`sw.nn.zoo.names`), or the one in a file (.pt2, .onnx).

    Parameters
    ----------
    weights
        Weights file (networks by name only); the digits networks have committed weights, which it replaces.
    calibration
        Pictures, see :func:`sw.frontends.calibration.picture_batches`, for a network of the zoo; pictures or inputs,
        see :func:`sw.frontends.calibration.calibration_batches`, for a floating-point file.  Both need it.
    input_shape
        (C, H, W), where an ``.onnx`` file leaves axes open; (3, R, R) with the resolution R of a network of the zoo.
    width, classes
        Of a network of the zoo, see :func:`sw.nn.zoo.create`.
    pictures
        How many pictures at most to calibrate with.
    random_weights
        Whether a network of the zoo may be untrained, for sizes and cycles; without `calibration`, noise calibrates it.
    preprocessing
        How pictures become inputs of a network in a file: ``mean`` and ``std``, and perhaps the other entries of
        :meth:`sw.preprocessing.Preprocessing.from_json`.
    class_names
        One per output, for the program's `meta`.
    observer, bias_correction
        See :func:`sw.quant.quantise`; untrained networks are not corrected.
    progress
        Called with calibration batches done and in all.

    Raises
    ------
    UnknownNetworkError, QuantisationError, ValueError
        If there is no such network, its weights or file cannot be read, or an argument is not for it.
    """
    _check_arguments(name, weights, input_shape, (width, classes), random_weights, preprocessing)
    if calibration is not None and name in _DIGITS:
        raise UnknownNetworkError(f"--calib is for files and networks of the zoo; {name} brings its own")
    if name.endswith(".pt2") and is_quantised(exported := load(name)):
        if calibration is not None:
            raise UnknownNetworkError(f"{name}: is quantised already; --calib is for floating-point networks")
        meta = _more_meta(name, file_meta(Path(name)), _shape(exported), preprocessing, class_names)
        return _checked(QuantisedNetwork(Path(name).stem, exported, meta))
    network = float_network(
        name,
        weights=weights,
        input_shape=input_shape,
        width=width,
        classes=classes,
        random_weights=random_weights,
        preprocessing=preprocessing,
        class_names=class_names,
    )
    if _from_zoo(name):
        about = zoo.metadata(name, resolution=network.shape[1])
        batches = _zoo_batches(about, calibration, pictures, random_weights)
    elif name in _DIGITS:
        batches = digits_calibration()
    else:
        batches = file_batches(name, calibration, network.shape, network.meta, pictures)
    example = (batches[0][:1],)
    module = quantise(
        network.module,
        example,
        batches,
        observer=observer,
        bias_correction=bias_correction and not random_weights,
        progress=progress,
    )
    return _checked(QuantisedNetwork(network.name, export_program(module, example), network.meta, module, network))


def _shape(exported: ExportedProgram) -> tuple[int, ...]:
    """Return the shape of a program's first input, without batch axis."""
    name = exported.graph_signature.user_inputs[0]
    node = next(node for node in exported.graph.nodes if node.name == name)
    return tuple(node.meta["val"].shape[1:])


def _checked(network: QuantisedNetwork) -> QuantisedNetwork:
    """Return the network if it has a name per class (output channel), or none."""
    names = network.meta.get("classes")
    (output,) = (node for node in network.exported.graph.nodes if node.op == "output")
    classes = output.args[0][0].meta["val"].shape[1]
    if names is not None and len(names) != classes:
        raise UnknownNetworkError(f"{network.name}: has {classes} classes, but {len(names)} class names are given")
    return network


def _resolution(name: str, input_shape: Sequence[int] | None) -> int | None:
    if input_shape is None:
        return None
    if len(input_shape) != 3 or input_shape[0] != 3 or input_shape[1] != input_shape[2]:
        shape = "x".join(map(str, input_shape))
        raise UnknownNetworkError(f"--input-shape {shape}: {name} takes square colour pictures, such as 3x160x160")
    return input_shape[1]


def _zoo(
    about: zoo.Metadata, weights: str | Path | None, width: float, classes: int | None, random_weights: bool
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
            f"{about.name}: must be calibrated; give --calib with pictures: a folder, a tar or an .npz of them"
        )
    generator = torch.Generator().manual_seed(0)
    return list(torch.randn(_NOISE[0], _NOISE[1], *about.input_shape, generator=generator))


def _digits(name: str, weights: str | Path | None) -> FloatNetwork:
    meta = {
        "classes": [str(digit) for digit in range(CLASSES)],
        "input": {"shape": list(INPUT_SHAPE), "range": [0.0, 1.0], "mean": [0.0], "std": [1.0]},
    }
    return FloatNetwork(name, load_digits_network(_DIGITS[name], weights), INPUT_SHAPE, meta)
