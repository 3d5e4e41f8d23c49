"""The port bound of a network: the least cycles of this array's ports at a given width, padding included."""

from __future__ import annotations

from dataclasses import dataclass

from sw.compiler.ir import Conv, Graph, Linear

__all__ = ["LayerSizes", "layer_sizes", "port_bound"]


@dataclass(frozen=True)
class LayerSizes:
    """What a convolution or linear layer has to do, whatever the hardware.

    Parameters
    ----------
    name
        Of the operator.
    macs
        Multiply-accumulates, those with padding included.
    inputs, outputs, weights
        Bytes.  Input that the stride skips does not count; where global average pooling is fused, the map that is
        pooled is the output.
    """

    name: str
    macs: int
    inputs: int
    outputs: int
    weights: int

    def bound(self, rows: int, cols: int) -> float:
        """Return the least cycles: rows*cols MACs, `cols` pixels in, `cols` pixels out and `rows` weights a cycle."""
        return max(self.macs / (rows * cols), self.inputs / cols, self.outputs / cols, self.weights / rows)


def layer_sizes(graph: Graph) -> list[LayerSizes]:
    """Return the sizes of all convolutions and linear layers, in the graph's order."""
    sizes = []
    for op in graph.ops:
        if isinstance(op, Conv):
            out = op.pooled or graph[op.output]
            channels, *extents = graph[op.input].shape
            read = [
                _places_read(extent, outputs, kernel, stride, before)
                for extent, outputs, kernel, stride, before in zip(
                    extents, out.shape[1:], op.kernel, op.stride, op.padding[:2], strict=True
                )
            ]
            macs = out.size * op.weight[0].size
            sizes.append(LayerSizes(op.name, macs, channels * read[0] * read[1], out.size, op.weight.size))
        elif isinstance(op, Linear):
            outputs, inputs = op.weight.shape
            sizes.append(LayerSizes(op.name, op.weight.size, inputs, outputs, op.weight.size))
    return sizes


def port_bound(graph: Graph, rows: int, cols: int) -> float:
    """Return the sum over the layers of their bounds in cycles; all other operators are free."""
    return sum(sizes.bound(rows, cols) for sizes in layer_sizes(graph))


def _places_read(extent: int, outputs: int, kernel: int, stride: int, padding: int) -> int:
    """Return how many places of an axis some tap reads."""
    taps = {place * stride + tap - padding for place in range(outputs) for tap in range(kernel)}
    return len(taps & set(range(extent)))
