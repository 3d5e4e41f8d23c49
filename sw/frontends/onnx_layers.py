"""The layers an ONNX network becomes, and the torch module made of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

__all__ = [
    "ChannelAffine",
    "ChannelScale",
    "Channels",
    "Concat",
    "Layer",
    "LayerList",
    "Reshape",
    "Sum",
]

Array = npt.NDArray[np.float64]


class Sum(nn.Module):
    """``x + y``."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Add two tensors of one shape."""
        return x + y


class ChannelScale(nn.Module):
    """``x * gate``: (N, C, H, W) times (N, C, 1, 1)."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Scale each channel."""
        return x * gate


class Concat(nn.Module):
    """Channels of several tensors, one after the other."""

    def forward(self, *parts: Tensor) -> Tensor:
        """Concatenate along axis 1."""
        return torch.cat(parts, 1)


class Channels(nn.Module):
    """Channels `start` to `stop` - 1."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, x: Tensor) -> Tensor:
        """Slice axis 1."""
        return x[:, self.start : self.stop]


class Reshape(nn.Module):
    """The same elements in another shape; `shape` is without the batch axis."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Reshape all axes but the batch axis."""
        return torch.flatten(x, 1) if len(self.shape) == 1 else x.reshape(-1, *self.shape)


class ChannelAffine(nn.Module):
    """``x * scale + offset`` per channel; exists only until :meth:`LayerList.fold_affine`."""

    def __init__(self, scale: Array, offset: Array) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift axis 1."""
        shape = (1, -1, *[1] * (x.ndim - 2))
        scale, offset = (torch.from_numpy(part).to(x.dtype).reshape(shape) for part in (self.scale, self.offset))
        return x * scale + offset


@dataclass
class Layer:
    """A layer; `output`, the name of the tensor it makes, is its own name.

    Parameters
    ----------
    name
        Name in the torch module.
    module
        What it does.
    inputs
        Tensors.
    nodes
        Names of the ONNX nodes it stands for.
    """

    name: str
    module: nn.Module
    inputs: list[str]
    nodes: list[str]


class LayerList:
    """Layers in a topological order, and the shapes of all tensors at batch size 1.

    Parameters
    ----------
    inputs
        Name to shape.
    """

    def __init__(self, inputs: dict[str, tuple[int, ...]]) -> None:
        self.inputs = list(inputs)
        self.shapes = dict(inputs)
        self.layers: dict[str, Layer] = {}

    def emit(self, module: nn.Module, inputs: Sequence[str], nodes: Sequence[str], suffix: str = "") -> str:
        """Append a layer named after the last of its ONNX nodes; return its name, which is its output's.

        Raises
        ------
        RuntimeError, ValueError
            Of torch, if the inputs' shapes do not fit.
        """
        # torch's module names hold no dots, and become code; a leading slash, as torch.onnx writes, says nothing
        stem = (re.sub(r"[^\w/@:-]+", "_", nodes[-1], flags=re.ASCII).strip("/") or "layer") + suffix
        name, number = stem, 1
        while name in self.shapes:
            number += 1
            name = f"{stem}_{number}"
        with torch.no_grad():
            result = module(*(torch.zeros(self.shapes[source]) for source in inputs))
        self.shapes[name] = tuple(result.shape)
        self.layers[name] = Layer(name, module.eval(), list(inputs), list(nodes))
        return name

    def reshape(self, source: str, shape: tuple[int, ...], node: str) -> str:
        """Append a reshape to `shape` (with batch axis); reshapes of reshapes join, and needless ones vanish."""
        layer = self.layers.get(source)
        if layer is not None and isinstance(layer.module, Reshape):
            source = layer.inputs[0]
        if self.shapes[source] == shape:
            return source
        return self.emit(Reshape(shape[1:]), [source], [node])

    def users(self, name: str) -> list[Layer]:
        """Return the layers that read a tensor."""
        return [layer for layer in self.layers.values() if name in layer.inputs]

    def finish(self, outputs: list[str]) -> list[str]:
        """Drop layers that no output needs and fold every affine layer; return the outputs' names.

        An affine layer goes into the convolution or linear layer in front of it, if nothing else reads that; else
        into those behind it; else it becomes a depthwise 1x1 convolution.

        Raises
        ------
        ValueError
            If one is left on a vector, which has no such convolution.
        """
        wanted = set(outputs)
        for layer in reversed(list(self.layers.values())):
            if layer.name in wanted:
                wanted.update(layer.inputs)
            else:
                del self.layers[layer.name]
        outputs = list(outputs)
        for layer in [layer for layer in self.layers.values() if isinstance(layer.module, ChannelAffine)]:
            source, users = layer.inputs[0], self.users(layer.name)
            before = self.layers.get(source)
            alone = len(self.users(source)) == 1 and source not in outputs
            if before is not None and alone and _scale_outputs(before.module, layer.module):
                before.nodes += layer.nodes
            elif users and layer.name not in outputs and all(_takes(user.module, layer.module) for user in users):
                for user in users:
                    _scale_inputs(user.module, layer.module)
                    user.nodes += layer.nodes
            else:
                layer.module = _depthwise(layer, self.shapes[layer.name])
                continue
            del self.layers[layer.name]
            for user in users:
                user.inputs = [source if name == layer.name else name for name in user.inputs]
            outputs = [source if name == layer.name else name for name in outputs]
        return outputs

    def graph_module(self, outputs: Sequence[str]) -> fx.GraphModule:
        """Return the network; one output is a tensor, several are a tuple."""
        graph = fx.Graph()
        nodes = {name: graph.placeholder(re.sub(r"\W", "_", name)) for name in self.inputs}
        for layer in self.layers.values():
            nodes[layer.name] = graph.call_module(layer.name, tuple(nodes[source] for source in layer.inputs))
        results = tuple(nodes[name] for name in outputs)
        graph.output(results[0] if len(results) == 1 else results)
        return fx.GraphModule({layer.name: layer.module for layer in self.layers.values()}, graph, "OnnxNetwork").eval()


def _scale_outputs(module: nn.Module, affine: nn.Module) -> bool:
    """Put an affine layer behind a layer into it; return whether that is possible."""
    assert isinstance(affine, ChannelAffine)
    scale, offset = affine.scale, affine.offset
    if isinstance(module, ChannelAffine):
        module.scale, module.offset = module.scale * scale, module.offset * scale + offset
        return True
    if not isinstance(module, nn.Conv2d | nn.Linear):
        return False
    weight = _array(module.weight)
    _set(module, weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), _bias(module) * scale + offset)
    return True


def _takes(module: nn.Module, affine: nn.Module) -> bool:
    """Whether an affine layer in front of a layer can go into it: padding stays zero, so it allows no offset."""
    assert isinstance(affine, ChannelAffine)
    padded = isinstance(module, nn.Conv2d) and any(module.padding)
    return isinstance(module, nn.Conv2d | nn.Linear) and not (padded and affine.offset.any())


def _scale_inputs(module: nn.Module, affine: nn.Module) -> None:
    assert isinstance(affine, ChannelAffine) and isinstance(module, nn.Conv2d | nn.Linear)
    weight = _array(module.weight)
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    scale, offset = (part.reshape(groups, 1, -1, 1) for part in (affine.scale, affine.offset))
    bias = _bias(module) + (grouped * offset).sum((2, 3)).reshape(-1)
    _set(module, (grouped * scale).reshape(weight.shape), bias)


def _depthwise(layer: Layer, shape: tuple[int, ...]) -> nn.Conv2d:
    affine = layer.module
    assert isinstance(affine, ChannelAffine)
    if len(shape) != 4:
        raise ValueError(
            f"node {layer.nodes[-1]!r}: scales a vector {shape} that no layer makes whose weights could take the "
            f"factor; scale the following layer's weights instead"
        )
    module = nn.Conv2d(shape[1], shape[1], 1, groups=shape[1])
    _set(module, affine.scale.reshape(-1, 1, 1, 1), affine.offset)
    return module.eval()


def _array(parameter: Tensor) -> Array:
    return parameter.detach().numpy().astype(np.float64)


def _bias(module: nn.Conv2d | nn.Linear) -> Array:
    return np.zeros(module.weight.shape[0]) if module.bias is None else _array(module.bias)


def _set(module: nn.Conv2d | nn.Linear, weight: Array, bias: Array) -> None:
    module.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)), requires_grad=False)
    module.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)), requires_grad=False)
