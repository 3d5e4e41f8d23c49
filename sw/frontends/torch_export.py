"""Front end for PT2E: a quantised, exported network (q/dq graph, see :mod:`sw.quant`) becomes the graph IR.

Every operator between ``dequantize`` and ``quantize`` is read as one real-valued expression, which gets a tensor when
it is quantised.  Operators that the IR does not have are refused with their layer, and what they would need.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from sw.compiler.errors import CompileError, check
from sw.compiler.ir import (
    FULL_RANGE,
    Activation,
    Add,
    AvgPool,
    ChannelScale,
    Concat,
    Conv,
    GlobalAvgPool,
    Graph,
    Linear,
    MaxPool,
    Op,
    Requantise,
    Reshape,
    Slice,
    Tensor,
)
from sw.compiler.validate import validate
from sw.frontends.torch_ops import HANDLERS
from sw.frontends.values import (
    Bounds,
    Clamped,
    Curved,
    Gated,
    Input,
    Joined,
    Matmul,
    Mean,
    Padded,
    Pooled,
    QuantConstant,
    Quantised,
    Real,
    Sum,
    Value,
)
from sw.quant.needs import need

__all__ = ["import_program"]

Pair = tuple[int, int]

_WAY_OUT = "quantise the network with sw.quant, which puts quantize/dequantize around every layer"


def import_program(
    exported: ExportedProgram | GraphModule, *, name: str = "network", meta: dict[str, Any] | None = None
) -> Graph:
    """Read a converted PT2E network.

    Parameters
    ----------
    exported
        Result of ``convert_pt2e``, or its export.
    name
        Network name.
    meta
        JSON-able facts for the program (preprocessing, classes).

    Raises
    ------
    CompileError
        Naming the layer, if an operator is not supported, not quantised, or used in a way the hardware lacks.
    """
    return Importer(exported, name, meta or {}).run()


class Importer:
    """State of one import: the values of nodes read so far, and the IR made from them."""

    def __init__(self, exported: ExportedProgram | GraphModule, name: str, meta: dict[str, Any]) -> None:
        self._name, self._meta = name, meta
        self._graph = exported.graph
        self._constants: dict[str, torch.Tensor] = {}
        if isinstance(exported, ExportedProgram):
            signature = exported.graph_signature
            stored = {**exported.state_dict, **exported.constants}
            sources = {
                **signature.inputs_to_parameters,
                **signature.inputs_to_buffers,
                **signature.inputs_to_lifted_tensor_constants,
            }
            self._constants = {node: stored[target] for node, target in sources.items()}
            self._module: torch.nn.Module = exported.graph_module
        else:
            self._module = exported
        self.values: dict[Node, Value] = {}
        self.tensors: dict[str, Tensor] = {}
        self._ops: list[Op] = []
        self._inputs: list[str] = []
        self._names: set[str] = set()
        self._sources: dict[str, str] = {}
        self._made: dict[tuple[Any, ...], str] = {}

    def run(self) -> Graph:
        """Read all nodes."""
        outputs: list[str] = []
        for node in self._graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self._constants[node.name] if node.name in self._constants else self._input(node)
            elif node.op == "get_attr":
                self.values[node] = self._attribute(str(node.target))
            elif node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "output":
                outputs = [
                    self._output(value)
                    for value in torch.fx.node.map_arg(node.args[0], lambda n: n)
                    if isinstance(value, Node)
                ]
            else:
                raise CompileError(self.layer(node), f"{node.op} {node.target}: inline it with torch.export first")
        facts = {"meta": self._meta, "sources": self._sources}
        graph = Graph(self._name, self.tensors, tuple(self._ops), tuple(self._inputs), tuple(outputs), **facts)
        graph = graph.rewrite(self._live(outputs))
        validate(graph)
        return graph

    def _live(self, outputs: list[str]) -> list[Op]:
        """Drop operators whose results nobody uses."""
        wanted = set(outputs)
        kept = []
        for op in reversed(self._ops):
            if op.output in wanted:
                wanted.update(op.inputs)
                kept.append(op)
        return kept[::-1]

    # --- nodes -----------------------------------------------------------------------------------------------------

    def layer(self, node: Node) -> str:
        """Return the name of the source layer a node belongs to; functions are named within their module."""
        stack = [entry for entry in (node.meta.get("nn_module_stack") or {}).values() if entry[0]]
        operator = str(getattr(node.target, "_opname", None) or getattr(node.target, "__name__", node.target))
        if not stack:
            return operator if operator != str(node.target) else node.name
        path, kind = stack[-1]
        kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        return path if kind.startswith("torch.nn.modules.") else f"{path}.{operator}"

    def _input(self, node: Node) -> Value:
        value = node.meta.get("val")
        check(value is not None, node.name, "the input's shape is unknown; pass torch.export's ExportedProgram")
        batch, *shape = value.shape
        single = isinstance(batch, torch.SymInt) or batch == 1
        check(single, node.name, f"batch size {batch}; export with example inputs of batch size 1")
        check(len(shape) in (1, 3), node.name, f"shape {tuple(value.shape)} is neither (1, C, H, W) nor (1, F)")
        return Input(node.name, tuple(int(size) for size in (shape if len(shape) == 3 else (*shape, 1, 1))))

    def _attribute(self, target: str) -> torch.Tensor:
        value: Any = self._module
        for part in target.split("."):
            value = getattr(value, part)
        return value.detach()

    def _call(self, node: Node) -> Value:
        operands = [self.values[operand] for operand in node.all_input_nodes]
        key = str(node.target) if not hasattr(node.target, "__name__") else node.target.__name__
        if isinstance(node.target, torch._ops.OpOverload):
            key = str(node.target.name()).split("::")[-1]
            key = f"{node.target.namespace}.{key}"
        if key.startswith("quantized_decomposed.dequantize"):
            return self._dequantise(node, key)
        if all(isinstance(value, torch.Tensor) for value in operands):
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: self.values[n])
            with torch.no_grad():
                return node.target(*args, **kwargs)
        if key.startswith("quantized_decomposed.quantize"):
            return self._quantise(node, key)
        base = key.split(".")[1].removesuffix("_") if key.startswith("aten.") else key
        if base not in HANDLERS:
            raise CompileError(self.layer(node), f"operator {key} is not supported: {need(key)}")
        return HANDLERS[base](self, node)

    def _dequantise(self, node: Node, key: str) -> Value:
        value = self.values[node.all_input_nodes[0]]
        if isinstance(value, Quantised):
            return Real(value.tensor)
        layer = self.layer(node)
        check(isinstance(value, torch.Tensor), layer, f"dequantises a value that is not quantised; {_WAY_OUT}")
        arguments = list(node.args[1:])
        scale, zero = (self._constant_argument(argument) for argument in arguments[:2])
        axis = int(arguments[2]) if "per_channel" in key else 0
        check(axis == 0, layer, f"weights are quantised along axis {axis}; output channels are axis 0")
        check(not np.any(zero), layer, "weights have a zero point; the hardware's weights are symmetric")
        data = value.detach().cpu().numpy()
        return QuantConstant(data, np.broadcast_to(scale, (data.shape[0],)).astype(np.float64))

    def _constant_argument(self, argument: Any) -> np.ndarray[Any, Any]:
        value = self.values[argument] if isinstance(argument, Node) else torch.as_tensor(argument)
        assert isinstance(value, torch.Tensor)
        return value.detach().cpu().double().numpy()

    def _quantise(self, node: Node, key: str) -> Value:
        layer = self.layer(node)
        check("per_tensor" in key, layer, f"{key} of an activation; the hardware quantises activations per tensor")
        source, scale, zero, low, high, dtype = node.args
        check(dtype == torch.int8, layer, f"activations are {dtype}, not int8; {_WAY_OUT}")
        spec = (float(self._constant_argument(scale)), int(self._constant_argument(zero)))
        assert isinstance(source, Node)
        key_made = (source, *spec, low, high)
        if key_made not in self._made:
            self._made[key_made] = self._materialise(self.values[source], spec, (int(low), int(high)), layer)
        tensor = self._made[key_made]
        self._sources.setdefault(tensor, node.name)
        return Quantised(tensor)

    def _output(self, node: Node) -> str:
        value = self.values[node]
        check(
            isinstance(value, Real | Quantised), self.layer(node), f"the network's output is not quantised; {_WAY_OUT}"
        )
        assert isinstance(value, Real | Quantised)
        return value.tensor

    # --- IR --------------------------------------------------------------------------------------------------------

    def tensor_of(self, node: Any, layer: str) -> str:
        """Return the int8 tensor behind an operand; raise CompileError if it has none."""
        value = self.values[node] if isinstance(node, Node) else node
        check(not isinstance(value, Padded), layer, f"its operand ({node}) is padded; {need('aten.pad')}")
        check(isinstance(value, Real), layer, f"an operand ({node}) is not int8; {_WAY_OUT}")
        assert isinstance(value, Real)
        return value.tensor

    def unique(self, layer: str) -> str:
        """Return the layer's name, with a number if it is taken."""
        name, number = layer, 1
        while name in self._names or name in self.tensors:
            number += 1
            name = f"{layer}.{number}"
        self._names.add(name)
        return name

    def declare(self, name: str, shape: tuple[int, int, int], spec: tuple[float, int]) -> str:
        """Add a tensor."""
        self.tensors[name] = Tensor(name, shape, *spec)
        return name

    def view(
        self, layer: str, kind: type[Slice] | type[Reshape], source: str, shape: tuple[int, int, int], **extra: int
    ) -> Real:
        """Add a view of a tensor."""
        name = self.unique(layer)
        old = self.tensors[source]
        self.declare(name, shape, (old.scale, old.zero_point))
        self._ops.append(kind(name=name, input=source, output=name, **extra))
        return Real(name)

    def _materialise(self, value: Value, spec: tuple[float, int], limits: tuple[int, int], layer: str) -> str:
        """Make the int8 tensor of a real value."""
        match value:
            case Input():
                check(value.name not in self.tensors, value.name, "the input is quantised in two ways")
                self._inputs.append(value.name)
                return self.declare(value.name, value.shape, spec)
            case Real():
                old = self.tensors[value.tensor]
                if (old.scale, old.zero_point) == spec and limits == FULL_RANGE:
                    return value.tensor
                name = f"{value.tensor}.requantise"
                return self._add(Requantise, name, old.shape, spec, input=value.tensor, clamp=limits)
            case Padded():
                raise CompileError(layer, f"quantises a padded map: {need('aten.pad')}")
            case Clamped():
                clamp = _clamp(value.clamp, spec, limits)
                shape = self.tensors[value.source].shape
                return self._add(Requantise, value.layer, shape, spec, input=value.source, clamp=clamp)
            case Sum():
                clamp = _clamp(value.clamp, spec, limits)
                shape = self.tensors[value.left].shape
                return self._add(Add, value.layer, shape, spec, input=value.left, other=value.right, clamp=clamp)
            case Curved():
                shape = self.tensors[value.source].shape
                return self._add(Activation, value.layer, shape, spec, input=value.source, kind=value.kind)
            case Gated():
                # the hardware's gate has no clamp but that of int8, which is the same where the range starts at 0
                check(
                    _clamp(value.clamp, spec, limits) == limits,
                    value.layer,
                    f"a clamp to {value.clamp} behind a gate needs a quantize in front of it; quantise with sw.quant",
                )
                shape = self.tensors[value.source].shape
                fields = {"input": value.source, "gate": value.gate, "curve": value.curve}
                return self._add(ChannelScale, value.layer, shape, spec, **fields)
            case Mean():
                shape = (self.tensors[value.source].shape[0], 1, 1)
                return self._add(GlobalAvgPool, value.layer, shape, spec, input=value.source)
            case Pooled():
                return self._pool(value, spec, limits)
            case Matmul():
                return self._matmul(value, spec, limits)
            case Joined():
                parts = [self._materialise(part, spec, limits, layer) for part in value.parts]
                shapes = [self.tensors[part].shape for part in parts]
                same = len({shape[1:] for shape in shapes}) == 1
                check(same, value.layer, f"parts differ in height or width: {shapes}")
                shape = (sum(shape[0] for shape in shapes), *shapes[0][1:])
                return self._add(Concat, value.layer, shape, spec, parts=tuple(parts))
        raise CompileError(layer, f"quantises a value that no supported layer makes; {_WAY_OUT}")

    def _matmul(self, value: Matmul, spec: tuple[float, int], limits: tuple[int, int]) -> str:
        shared = {
            "input": value.source,
            "weight": value.weight.data,
            "weight_scale": value.weight.scale,
            "bias": value.bias,
            "clamp": _clamp(value.clamp, spec, limits),
            "curve": value.curve,
        }
        dtype = value.weight.data.dtype
        check(dtype == np.int8, value.layer, f"weights are {dtype}, not int8; {_WAY_OUT}")
        cout = value.weight.data.shape[0]
        if not value.conv:
            check(value.residual is None, value.layer, "addition onto a linear layer needs a quantize between")
            return self._add(Linear, value.layer, (cout, 1, 1), spec, **shared)
        shape = (cout, *self._windows(value.source, value.weight.data.shape[2:], value.stride, value.padding))
        return self._add(
            Conv,
            value.layer,
            shape,
            spec,
            **shared,
            stride=value.stride,
            padding=value.padding,
            groups=value.groups,
            linear=value.linear,
            residual=value.residual,
        )

    def _pool(self, value: Pooled, spec: tuple[float, int], limits: tuple[int, int]) -> str:
        old = self.tensors[value.source]
        shape = (old.shape[0], *self._windows(value.source, value.kernel, value.stride, value.padding))
        shared = {"input": value.source, "kernel": value.kernel, "stride": value.stride, "padding": value.padding}
        if value.mean:
            return self._add(AvgPool, value.layer, shape, spec, **shared)
        made = self._add(MaxPool, value.layer, shape, (old.scale, old.zero_point), **shared)
        return self._materialise(Real(made), spec, limits, value.layer)

    def _windows(self, source: str, kernel: Pair, stride: Pair, padding: tuple[int, int, int, int]) -> Pair:
        """Return lines and pixels of the result of a window over a tensor."""
        _, height, width = self.tensors[source].shape
        (kh, kw), (sy, sx), (top, left, bottom, right) = kernel, stride, padding
        return (height + top + bottom - kh) // sy + 1, (width + left + right - kw) // sx + 1

    def _add(
        self, kind: type[Op], layer: str, shape: tuple[int, int, int], spec: tuple[float, int], /, **fields: Any
    ) -> str:
        name = self.unique(layer)
        self._ops.append(kind(name=name, output=self.declare(name, shape, spec), **fields))
        return name


def _clamp(bounds: Bounds, spec: tuple[float, int], limits: tuple[int, int]) -> tuple[int, int]:
    """Return real bounds as int8: quantising is monotone, so clamping before and after it agree."""
    scale, zero = spec
    low, high = (int(np.clip(np.rint(np.clip(bound / scale, -1e6, 1e6)) + zero, *limits)) for bound in bounds)
    return low, high
