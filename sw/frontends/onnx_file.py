"""An ONNX file as nodes, constants and fixed input shapes, with everything wrong with the file itself refused."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["MIN_OPSET", "InputShape", "OnnxError", "OnnxGraph", "OnnxNode", "load_onnx"]

MIN_OPSET = 11
"""Oldest operator set read: from 11 on, the bounds of Clip are inputs and negative axes are defined everywhere."""

InputShape = Sequence[int] | Mapping[str, Sequence[int]]
"""(C, H, W) or (F,), with or without a batch axis of 1, of the only input; or such shapes by input name."""

_DOMAINS = ("", "ai.onnx")
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
_EXAMPLE = {2: "F, such as 64", 4: "CxHxW, such as 3x224x224"}


class OnnxError(ValueError):
    """A file that is no usable float network, or a node that cannot be read."""


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """A node.

    Parameters
    ----------
    name
        As in the file; a node without one gets its operator and its first output's name.
    op
        Operator type.
    inputs, outputs
        Tensor names; an absent optional one is empty.
    attributes
        As Python values; strings are ``str``, tensors arrays.
    opset
        Version of the operator set.
    proto
        The node in the file's own form.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    opset: int
    proto: onnx.NodeProto

    def error(self, message: str) -> OnnxError:
        """Return an error that names the node."""
        return OnnxError(f"node {self.name!r} ({self.op}, opset {self.opset}): {message}")

    def check(self, condition: bool, message: str) -> None:
        """Raise :class:`OnnxError`, naming the node, unless `condition` holds."""
        if not condition:
            raise self.error(message)


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """A network.

    Parameters
    ----------
    name
        The file's stem.
    nodes
        In a topological order.
    constants
        Initialisers.
    inputs
        Name to shape, batch axis 1 first.
    outputs
        Tensor names.
    opset, producer
        As the file says.
    """

    name: str
    nodes: tuple[OnnxNode, ...]
    constants: dict[str, npt.NDArray[Any]]
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    opset: int
    producer: str


def load_onnx(path: str | Path, *, input_shape: InputShape | None = None) -> OnnxGraph:
    """Read a file.

    Parameters
    ----------
    input_shape
        Sizes for dynamic axes; must agree with the axes that are fixed.

    Raises
    ------
    OnnxError
        If it is missing, corrupt, quantised, of an operator set older than :data:`MIN_OPSET`, of foreign operators, or
        if an input's shape is not known.
    """
    if not Path(path).is_file():
        raise OnnxError(f"{path}: no such file")
    model = _parse(path)
    opset = _opset(path, model)
    _refuse_quantised(path, model)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker raises its own error, and others on what it cannot decode
        raise OnnxError(f"{path}: not a valid ONNX model ({str(error).splitlines()[0]})") from None
    graph = model.graph
    constants = {tensor.name: _array(path, tensor) for tensor in graph.initializer}
    given = [value for value in graph.input if value.name not in constants]
    shapes = _shapes(path, given, input_shape)
    nodes = tuple(_node(proto, opset) for proto in graph.node)
    outputs = tuple(value.name for value in graph.output)
    return OnnxGraph(Path(path).stem, nodes, constants, shapes, outputs, opset, model.producer_name or "unknown")


def _parse(path: str | Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf and external-data errors of many types
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise OnnxError(f"{path}: not a readable ONNX file ({text})") from None
    if not model.graph.node:
        raise OnnxError(f"{path}: not a readable ONNX file (it holds no nodes)")
    # protobuf leaves text that is no UTF-8 as bytes
    graph = model.graph
    texts = [entry.name for entry in (*graph.input, *graph.output, *graph.initializer)]
    for node in graph.node:
        texts += (node.name, node.op_type, node.domain, *node.input, *node.output)
        texts += (attribute.name for attribute in node.attribute)
    if any(isinstance(text, bytes) for text in texts):
        raise OnnxError(f"{path}: not a readable ONNX file (a name in it is no UTF-8 text)")
    return model


def _opset(path: str | Path, model: onnx.ModelProto) -> int:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    foreign = [node for node in model.graph.node if node.domain not in _DOMAINS]
    if foreign:
        node = foreign[0]
        raise OnnxError(
            f"{path}: node {node.name or node.output[0]!r} ({node.op_type}) is of operator domain {node.domain!r} "
            f"version {versions.get(node.domain, 'unknown')}; only standard ONNX operators are read. Export again "
            f"without contributed operators or graph optimisation"
        )
    version = max((versions[domain] for domain in _DOMAINS if domain in versions), default=0)
    if version < MIN_OPSET:
        raise OnnxError(
            f"{path}: operator set {version}; {MIN_OPSET} is the oldest that is read. Export again with a newer one, "
            f"or convert with onnx.version_converter.convert_version(model, {MIN_OPSET})"
        )
    return version


def _refuse_quantised(path: str | Path, model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type in _QUANTISED or node.op_type.startswith("QLinear"):
            raise OnnxError(
                f"{path}: node {node.name or node.output[0]!r} ({node.op_type}): the model is quantised already; give "
                f"the floating-point model it was made from, which sw.quant quantises for this hardware"
            )


def _array(path: str | Path, tensor: TensorProto) -> npt.NDArray[Any]:
    try:
        return numpy_helper.to_array(tensor, base_dir=os.path.dirname(path))
    except Exception as error:  # wrong sizes and missing external data
        raise OnnxError(f"{path}: initialiser {tensor.name!r} cannot be decoded ({error})") from None


def _node(proto: onnx.NodeProto, opset: int) -> OnnxNode:
    attributes = {}
    for attribute in proto.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif isinstance(value, TensorProto):
            value = numpy_helper.to_array(value)
        attributes[attribute.name] = value
    name = proto.name or f"{proto.op_type}_{proto.output[0]}"
    return OnnxNode(name, proto.op_type, tuple(proto.input), tuple(proto.output), attributes, opset, proto)


def _shapes(
    path: str | Path, values: Sequence[onnx.ValueInfoProto], wanted: InputShape | None
) -> dict[str, tuple[int, ...]]:
    if not isinstance(wanted, Mapping):
        if wanted is not None and len(values) != 1:
            names = ", ".join(value.name for value in values)
            raise OnnxError(f"{path}: has {len(values)} inputs ({names}); give input_shape for each by name")
        wanted = {} if wanted is None else {values[0].name: wanted}
    unknown = set(wanted) - {value.name for value in values}
    if unknown:
        names = ", ".join(value.name for value in values)
        raise OnnxError(f"{path}: input_shape names {sorted(unknown)[0]!r}; its inputs are {names}")
    return {value.name: _shape(path, value, wanted.get(value.name)) for value in values}


def _shape(path: str | Path, value: onnx.ValueInfoProto, wanted: Sequence[int] | None) -> tuple[int, ...]:
    where, kind = f"{path}: input {value.name!r}", value.type.tensor_type
    if kind.elem_type != TensorProto.FLOAT:
        name = TensorProto.DataType.Name(kind.elem_type) if kind.elem_type else "no tensor"
        raise OnnxError(f"{where} is {name}, not FLOAT; export the network with float32 inputs and weights")
    if not kind.HasField("shape"):
        raise OnnxError(f"{where} has no shape; export it with one")
    axes = [axis.dim_value if axis.dim_value > 0 else (axis.dim_param or "?") for axis in kind.shape.dim]
    if len(axes) not in _EXAMPLE:
        raise OnnxError(f"{where} has {len(axes)} axes; only (N, C, H, W) and (N, F) are read")
    names = "NCHW" if len(axes) == 4 else "NF"
    if isinstance(axes[0], int) and axes[0] != 1:
        raise OnnxError(f"{where} has batch size {axes[0]} (axis 0); export it with batch size 1 or a dynamic one")
    sizes = [1, *axes[1:]]
    if wanted is not None:
        given = [int(size) for size in wanted]
        given = given if len(given) == len(axes) else [1, *given]
        if len(given) != len(axes) or given[0] != 1 or min(given) < 1:
            raise OnnxError(f"{where}: input shape {tuple(wanted)} does not fit; give {_EXAMPLE[len(axes)]}")
        for index, (size, new) in enumerate(zip(sizes, given, strict=True)):
            if isinstance(size, int) and size != new:
                raise OnnxError(f"{where}: axis {index} ({names[index]}) is {size} in the file, {new} was given")
        sizes = given
    for index, size in enumerate(sizes):
        if not isinstance(size, int):
            raise OnnxError(
                f"{where}: axis {index} ({names[index]}) is dynamic ({size!r}); fix it with "
                f"--input-shape {_EXAMPLE[len(axes)]}"
            )
    return tuple(int(np.int64(size)) for size in sizes)
