"""Front end for ONNX: a floating-point model becomes a torch module that :mod:`sw.quant` takes.

The module's layers are named after the ONNX nodes, so that every later message names what the user sees in the file.
It consists of operators the quantiser knows or names in its refusal; whatever else a file contains is refused here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from onnx import ValueInfoProto, helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.fx import GraphModule

from sw.frontends.onnx_file import InputShape, OnnxError, OnnxGraph, OnnxNode, load_onnx
from sw.frontends.onnx_layers import ChannelScale, LayerList
from sw.frontends.onnx_ops import HANDLERS
from sw.frontends.onnx_pointwise import materialise
from sw.frontends.onnx_values import HostStep, Padded, Tail, Value
from sw.quant.needs import onnx_need
from sw.quant.piecewise import Piece

__all__ = ["OnnxError", "OnnxNetwork", "read_onnx"]


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """A network read from a file.

    Parameters
    ----------
    module
        float32, evaluation mode, any batch size; without what `host` lists.
    input_names
        ONNX names of the module's arguments, in order.
    shapes
        Input name to shape, batch axis 1 first.
    host
        For every output, the operations behind the module that the host computes (softmax, argmax).
    meta
        JSON-able: operator set, producer, ``macs``, ``layers`` (layer to the ONNX nodes it stands for), ``host``
        (output to nodes), ``without_effect`` (nodes such as Identity, and those that compute constants from shapes),
        ``recognised`` (pattern to layers).
    """

    module: GraphModule
    input_names: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    host: dict[str, tuple[HostStep, ...]]
    meta: dict[str, Any] = field(default_factory=dict)

    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the ONNX model's outputs: the module's, and the host's part."""
        with torch.no_grad():
            results = self.module(*inputs)
        results = (results,) if isinstance(results, Tensor) else results
        finished = []
        for value, steps in zip(results, self.host.values(), strict=True):
            for step in steps:
                value = step(value)
            finished.append(value)
        return tuple(finished)


def read_onnx(path: str | Path, *, input_shape: InputShape | None = None) -> OnnxNetwork:
    """Read a floating-point ONNX model of operator set 11 or newer.

    Numbers and per-channel constants fold into convolutions, batch normalisation too.  h-swish and h-sigmoid are
    recognised in any spelling (see :mod:`sw.frontends.onnx_values`).  A softmax, sigmoid or argmax that ends the
    network is left to the host.

    Parameters
    ----------
    input_shape
        Sizes of dynamic axes: (C, H, W) for a single input, or a mapping from input name.  A dynamic batch axis is 1.

    Raises
    ------
    OnnxError
        If the file cannot be used, or, with the node's name, operator and operator set, if a node cannot be read.
    """
    return Reader(load_onnx(path, input_shape=input_shape)).run()


class Reader:
    """State of one reading: what the ONNX tensors seen so far stand for, and the layers made from them."""

    def __init__(self, graph: OnnxGraph) -> None:
        self._graph = graph
        self._nodes = _live(graph)
        self._uses = Counter([name for node in self._nodes for name in node.inputs] + list(graph.outputs))
        self._env: dict[str, Value] = {**graph.constants, **{name: Piece(name) for name in graph.inputs}}
        self._found: dict[str, list[str]] = {}
        self.layers = LayerList(graph.inputs)

    def run(self) -> OnnxNetwork:
        """Read all nodes."""
        for node in self._nodes:
            self._read(node)
        host: dict[str, tuple[HostStep, ...]] = {}
        tensors = []
        for name in self._graph.outputs:
            value = self._env[name]
            if isinstance(value, np.ndarray | np.generic):
                raise OnnxError(f"output {name!r} is a constant; remove it from the network")
            host[name] = value.steps if isinstance(value, Tail) else ()
            tensors.append(value.base if isinstance(value, Tail) else self._materialise(value))
        try:
            tensors = self.layers.finish(tensors)
        except ValueError as error:
            raise OnnxError(str(error)) from None
        module = self.layers.graph_module(tensors)
        shapes = dict(self._graph.inputs)
        return OnnxNetwork(module, tuple(shapes), shapes, host, self._meta(host))

    def _read(self, node: OnnxNode) -> None:
        values = [self._env[name] for name in node.inputs if name]
        result: Any
        if node.op == "Constant" or (values and all(isinstance(value, np.ndarray | np.generic) for value in values)):
            result = _fold(node, {name: self._env[name] for name in node.inputs if name})
        elif node.op in ("Shape", "Size"):
            shape = np.array(self.shape(values[0]), dtype=np.int64)
            start, stop = (node.attributes.get(key, default) for key, default in (("start", 0), ("end", None)))
            result = shape[start:stop] if node.op == "Shape" else np.int64(shape.prod())
        elif node.op in HANDLERS:
            result = self._call(node)
        else:
            raise node.error(f"operator {node.op} is not supported: {onnx_need(node.op)}")
        results = result if isinstance(result, tuple) else (result,)
        for name, value in zip(node.outputs, results, strict=False):
            shared = self._uses[name] > 1 and isinstance(value, Piece | Padded)
            self._env[name] = Piece(self._materialise(value)) if shared else value

    def _call(self, node: OnnxNode) -> Any:
        try:
            return HANDLERS[node.op](self, node)
        except OnnxError:
            raise
        except (RuntimeError, ValueError, TypeError, LookupError) as error:
            # attributes and shapes that contradict each other, which torch and numpy notice
            raise node.error((str(error).splitlines() or [type(error).__name__])[0]) from None

    # --- for the operators' readers --------------------------------------------------------------------------------

    def uses(self, name: str) -> int:
        """Return how often a tensor is read."""
        return self._uses[name]

    def value(self, node: OnnxNode, index: int) -> Value:
        """Return what an input stands for."""
        return self._env[node.inputs[index]]

    def constant(self, node: OnnxNode, index: int) -> npt.NDArray[Any]:
        """Return a constant input; raise OnnxError if it depends on the network's input."""
        node.check(len(node.inputs) > index and bool(node.inputs[index]), f"its input {index} is missing")
        value = self._env[node.inputs[index]]
        if not isinstance(value, np.ndarray | np.generic):
            raise node.error(f"its input {index} ({node.inputs[index]!r}) must be a constant; it depends on the data")
        return np.asarray(value)

    def piece(self, node: OnnxNode, value: Value) -> Piece:
        """Return an activation as a piece."""
        return value if isinstance(value, Piece) else Piece(self.tensor(node, value))

    def tensor(self, node: OnnxNode, value: Value) -> str:
        """Return the layer list's tensor of an activation."""
        if isinstance(value, Tail):
            step = value.steps[0]
            raise node.error(
                f"follows node {step.name!r} ({step.op}), which needs an exponential or an index and is executed only "
                f"by the host, behind the network's last layer"
            )
        if isinstance(value, np.ndarray | np.generic):
            raise node.error("a constant stands where an activation is expected")
        return self._materialise(value)

    def shape(self, value: Value) -> tuple[int, ...]:
        """Return the shape of a value, batch axis 1 first."""
        if isinstance(value, np.ndarray | np.generic):
            return value.shape
        shape = self.layers.shapes[value.base]
        if isinstance(value, Padded):
            top, left, bottom, right = value.pads
            return (*shape[:2], shape[2] + top + bottom, shape[3] + left + right)
        if isinstance(value, Tail):
            result = torch.zeros(shape)
            for step in value.steps:
                result = step(result)
            return tuple(result.shape)
        return shape

    def is_gate(self, tensor: str) -> bool:
        """Whether a tensor is the result of a hard sigmoid."""
        layer = self.layers.layers.get(tensor)
        return layer is not None and isinstance(layer.module, nn.Hardsigmoid)

    def recognised(self, pattern: str, layer: str) -> None:
        """Note that a pattern was found."""
        self._found.setdefault(pattern, []).append(layer)

    def _materialise(self, value: Piece | Padded) -> str:
        if isinstance(value, Piece):
            return materialise(self, value)
        top, left, bottom, right = value.pads
        return self.layers.emit(nn.ZeroPad2d((left, right, top, bottom)), [value.base], value.nodes)

    # --- report ----------------------------------------------------------------------------------------------------

    def _meta(self, host: dict[str, tuple[HostStep, ...]]) -> dict[str, Any]:
        layers = self.layers.layers
        found = {name: [layer for layer in found if layer in layers] for name, found in self._found.items()}
        scales = found.get("channel_scale", [])
        found["squeeze_excite"] = [name for name in scales if self._is_squeeze_excite(name)]
        hosted = {name: [step.name for step in steps] for name, steps in host.items()}
        used = {name for group in (*hosted.values(), *(layer.nodes for layer in layers.values())) for name in group}
        return {
            "opset": self._graph.opset,
            "producer": self._graph.producer,
            "macs": sum(self._macs(name) for name in layers),
            "layers": {name: list(dict.fromkeys(layer.nodes)) for name, layer in layers.items()},
            "recognised": found,
            "host": hosted,
            "without_effect": [node.name for node in self._nodes if node.name not in used and node.op != "Constant"],
        }

    def _macs(self, name: str) -> int:
        module, shape = self.layers.layers[name].module, self.layers.shapes[name]
        if isinstance(module, nn.Conv2d):
            return int(np.prod(shape) * np.prod(module.weight.shape[1:]))
        return module.weight.numel() if isinstance(module, nn.Linear) else 0

    def _is_squeeze_excite(self, name: str) -> bool:
        """Whether a channel scale's gate comes from the global average of the very tensor that it scales."""
        layers = self.layers.layers
        source, gate = layers[name].inputs
        while gate in layers and len(layers[gate].inputs) == 1:
            layer = layers[gate]
            if isinstance(layer.module, nn.AdaptiveAvgPool2d):
                return layer.inputs == [source]
            if isinstance(layer.module, ChannelScale):
                return False
            gate = layer.inputs[0]
        return False


def _live(graph: OnnxGraph) -> tuple[OnnxNode, ...]:
    """Return the nodes that an output depends on."""
    wanted, live = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            live.append(node)
    return tuple(live[::-1])


def _fold(node: OnnxNode, constants: dict[str, Any]) -> tuple[Any, ...]:
    """Compute a node of constants with onnx's own reference implementation."""
    try:
        if node.op == "Constant" and "value" in node.attributes:
            return (node.attributes["value"],)
        names = list(node.outputs)
        graph = helper.make_graph(
            [node.proto],
            "constants",
            [ValueInfoProto(name=name) for name in constants],
            [ValueInfoProto(name=name) for name in names if name],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.opset)])
        results = iter(ReferenceEvaluator(model).run(None, constants))
        return tuple(next(results) if name else None for name in names)
    except Exception as error:  # the evaluator raises whatever numpy does
        raise node.error(f"its constant result cannot be computed ({error})") from None
