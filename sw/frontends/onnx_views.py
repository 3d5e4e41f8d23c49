"""ONNX operators that move or select values: reshapes, padding, concatenation, splits and slices of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sw.frontends.onnx_file import OnnxNode
from sw.frontends.onnx_layers import Channels, Concat
from sw.frontends.onnx_values import Padded, Tail, Value
from sw.quant.piecewise import Piece

if TYPE_CHECKING:
    from sw.frontends.onnx_reader import Reader

__all__ = ["ints", "map_shape", "view_handlers"]


def map_shape(reader: Reader, node: OnnxNode, value: Value) -> tuple[int, ...]:
    """Return a feature map's shape; raise OnnxError for anything else."""
    shape = reader.shape(value)
    node.check(len(shape) == 4, f"its input has shape {shape}; only 2-D layers over (N, C, H, W) are executed")
    return shape


def ints(reader: Reader, node: OnnxNode, index: int, attribute: str) -> list[int] | None:
    """Return a list that is an input in newer operator sets and an attribute in older ones."""
    if attribute in node.attributes:
        return [int(item) for item in node.attributes[attribute]]
    if len(node.inputs) > index and node.inputs[index]:
        return [int(item) for item in reader.constant(node, index).reshape(-1)]
    return None


def _view(reader: Reader, node: OnnxNode, shape: Sequence[int]) -> Value:
    """Return the activation in another shape of the same order."""
    value = reader.value(node, 0)
    old, new = reader.shape(value), tuple(int(size) for size in shape)
    if isinstance(value, Tail):
        raise node.error(f"follows node {value.steps[-1].name!r} ({value.steps[-1].op}), which the host computes")
    node.check(
        len(new) > 1 and new[0] == 1 and math.prod(new) == math.prod(old),
        f"reshapes {old} to {new}; the batch axis must stay in front with size 1",
    )
    return Piece(reader.layers.reshape(reader.tensor(node, value), new, node.name))


def _reshape(reader: Reader, node: OnnxNode) -> Value:
    old, new = reader.shape(reader.value(node, 0)), [int(size) for size in reader.constant(node, 1).reshape(-1)]
    if not node.attributes.get("allowzero", 0):
        new = [old[index] if size == 0 else size for index, size in enumerate(new)]
    if -1 in new:
        new[new.index(-1)] = math.prod(old) // max(1, -math.prod(new))
    return _view(reader, node, new)


def _flatten(reader: Reader, node: OnnxNode) -> Value:
    shape = reader.shape(reader.value(node, 0))
    axis = node.attributes.get("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return _view(reader, node, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def _squeeze(reader: Reader, node: OnnxNode) -> Value:
    shape, axes = reader.shape(reader.value(node, 0)), ints(reader, node, 1, "axes")
    gone = {axis % len(shape) for axis in axes} if axes else {i for i, size in enumerate(shape) if size == 1}
    node.check(0 not in gone, "removes the batch axis; name the axes to squeeze")
    return _view(reader, node, [size for index, size in enumerate(shape) if index not in gone])


def _unsqueeze(reader: Reader, node: OnnxNode) -> Value:
    shape, axes = list(reader.shape(reader.value(node, 0))), ints(reader, node, 1, "axes") or []
    rank = len(shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    return _view(reader, node, shape)


def _transpose(reader: Reader, node: OnnxNode) -> Value:
    shape = reader.shape(reader.value(node, 0))
    order = tuple(node.attributes.get("perm", range(len(shape))[::-1]))
    moved = [axis for axis in order if shape[axis] > 1]
    node.check(
        moved == sorted(moved),
        f"permutes axes {order} of {shape}; activations stay (N, C, H, W). Export the network with that layout "
        f"(tf2onnx: --inputs-as-nchw)",
    )
    return _view(reader, node, [shape[axis] for axis in order])


def _pad(reader: Reader, node: OnnxNode) -> Value:
    mode = node.attributes.get("mode", "constant")
    node.check(mode == "constant", f"pads with mode {mode!r}; only zeros are padded")
    if len(node.inputs) > 2 and node.inputs[2]:
        filled = reader.constant(node, 2)
        node.check(not filled.any(), f"pads with {filled.item()}; only zeros are padded")
    value = reader.value(node, 0)
    shape, amounts = map_shape(reader, node, value), ints(reader, node, 1, "pads") or []
    axes = ints(reader, node, 3, "axes")
    begin, end = [0] * 4, [0] * 4
    for index, axis in enumerate(range(4) if axes is None else axes):
        begin[axis % 4], end[axis % 4] = amounts[index], amounts[index + len(amounts) // 2]
    node.check(
        not any((*begin[:2], *end[:2])) and min(*begin, *end) >= 0,
        f"pads {amounts} of {shape}; only lines and pixels are padded, and none cut off",
    )
    if not any((*begin, *end)):
        return value
    return Padded(reader.tensor(node, value), (begin[2], begin[3], end[2], end[3]), (node.name,))


def _concat(reader: Reader, node: OnnxNode) -> Value:
    values = [reader.value(node, index) for index in range(len(node.inputs))]
    shapes = [reader.shape(value) for value in values]
    axis = node.attributes["axis"] % len(shapes[0])
    node.check(axis == 1, f"concatenates along axis {axis}; only channels (axis 1) are concatenated")
    sources = [reader.tensor(node, value) for value in values]
    return Piece(sources[0] if len(sources) == 1 else reader.layers.emit(Concat(), sources, [node.name]))


def _channels(reader: Reader, node: OnnxNode, source: str, start: int, stop: int) -> Value:
    if (start, stop) == (0, reader.layers.shapes[source][1]):
        return Piece(source)
    return Piece(reader.layers.emit(Channels(start, stop), [source], [node.name]))


def _split(reader: Reader, node: OnnxNode) -> tuple[Value, ...]:
    source = reader.tensor(node, reader.value(node, 0))
    shape = reader.layers.shapes[source]
    axis = node.attributes.get("axis", 0) % len(shape)
    node.check(axis == 1, f"splits axis {axis}; only channels (axis 1) are split")
    count = len(node.outputs)
    sizes = ints(reader, node, 1, "split")
    if sizes is None:
        each = -(-shape[1] // count)
        sizes = [min(each, shape[1] - index * each) for index in range(count)]
    node.check(
        sum(sizes) == shape[1] and len(sizes) == count and min(sizes) > 0,
        f"splits {shape[1]} channels into {count} parts of sizes {sizes}",
    )
    edges = np.cumsum([0, *sizes]).tolist()
    return tuple(_channels(reader, node, source, *edges[index : index + 2]) for index in range(count))


def _slice(reader: Reader, node: OnnxNode) -> Value:
    source = reader.tensor(node, reader.value(node, 0))
    shape = reader.layers.shapes[source]
    starts, stops = (reader.constant(node, index).reshape(-1).tolist() for index in (1, 2))
    axes = ints(reader, node, 3, "axes") or list(range(len(starts)))
    steps = ints(reader, node, 4, "steps") or [1] * len(starts)
    result = (0, shape[1])
    for axis, start, stop, step in zip((axis % len(shape) for axis in axes), starts, stops, steps, strict=True):
        first, last, _ = slice(start, stop, step).indices(shape[axis])
        whole = (first, last, step) == (0, shape[axis], 1)
        node.check(
            whole or (axis == 1 and step == 1 and first < last),
            f"slices axis {axis} of {shape} [{start}:{stop}:{step}]; only channel ranges (axis 1, step 1) are executed",
        )
        result = (first, last) if axis == 1 else result
    return _channels(reader, node, source, *result)


view_handlers = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Pad": _pad,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
}
"""Operator type to its reader."""
