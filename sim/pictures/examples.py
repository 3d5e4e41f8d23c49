"""Small layers whose bytes all differ, so that an operand says which weight or pixel it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.spec.config import AcceleratorConfig
from hw.spec.program import Program
from sw.compiler import compile_graph
from sw.compiler.ir import Conv, Graph, Tensor

__all__ = ["ARRAY", "TIMING", "Example", "column_filters", "product", "row_filters"]

ARRAY = AcceleratorConfig(
    rows=4, cols=4, max_kernel=3, act_kib=16, act_banks=2, weight_kib=4, param_entries=256, axi_data_width=64
)
"""The array that is drawn with its links."""

TIMING = ARRAY.twin(rows=3)
"""The accelerator whose cycles are drawn."""

Int8Array = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Example:
    """A convolution as a network of its own, compiled.

    Parameters
    ----------
    weight
        (cout, cin / groups, kh, kw).
    image
        (cin, H, W), with a zero point of 0.
    padding
        Lines and pixels at each side.
    """

    config: AcceleratorConfig
    weight: Int8Array
    image: Int8Array
    padding: tuple[int, int] = (0, 0)
    groups: int = 1

    def program(self) -> Program:
        """Compile it."""
        cout, _, kh, kw = self.weight.shape
        cin, height, width = self.image.shape
        (py, px) = self.padding
        shape = (cout, height + 2 * py - kh + 1, width + 2 * px - kw + 1)
        layer = Conv(
            name="layer",
            input="image",
            output="result",
            weight=self.weight,
            weight_scale=np.full(cout, 0.01),
            padding=(py, px, py, px),
            groups=self.groups,
        )
        tensors = {"image": Tensor("image", self.image.shape, 1.0, 0), "result": Tensor("result", shape, 1.0, 0)}
        return compile_graph(Graph("example", tensors, (layer,), ("image",), ("result",)), self.config)

    @property
    def inputs(self) -> dict[str, Int8Array]:
        """What it is run on."""
        return {"image": self.image}


def _distinct(*shape: int) -> Int8Array:
    """Return an array of 1, 2, 3, ..."""
    size = int(np.prod(shape))
    assert size < 128, f"{size} values do not differ in seven bits"
    return np.arange(1, size + 1, dtype=np.int8).reshape(shape)


def product() -> Example:
    """Pointwise convolution, a matrix product: 3 x 5 weights on 5 channels of 2 x 6 pixels, 3 tiles."""
    return Example(TIMING, _distinct(3, 5, 1, 1), _distinct(5, 2, 6))


def row_filters(pixels: int = 8) -> Example:
    """Row filters: a line of 3 taps for each of 3 channels of 3 lines."""
    return Example(TIMING, _distinct(3, 1, 1, 3), _distinct(3, 3, pixels), (0, 1), 3)


def column_filters() -> Example:
    """Column filters: a column of 3 taps for each of 3 channels of 5 lines of 4 pixels."""
    return Example(TIMING, _distinct(3, 1, 3, 1), _distinct(3, 5, 4), (1, 0), 3)
