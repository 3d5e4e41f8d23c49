"""The pictures by name: what each shows, and how its facts become a drawing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hw.spec.config import preset
from sim.pictures.array_facts import array_facts
from sim.pictures.array_picture import array_figure
from sim.pictures.blocks import block_facts
from sim.pictures.blocks_picture import blocks_figure
from sim.pictures.examples import ARRAY, column_filters, product, row_filters
from sim.pictures.layout import layout_facts, layout_figure
from sim.pictures.timing import timing_chart, timing_figure
from sw.analysis.operators import operator
from sw.analysis.plot import draw
from sw.analysis.report import argument
from sw.drawing import svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "Picture", "facts_of"]

_DIGEST = re.compile(rb"facts ([0-9a-f]{64})")


@dataclass(frozen=True)
class Picture:
    """A picture.

    Parameters
    ----------
    title
        What it shows.
    facts
        Finds what is to be drawn in the design.
    draw
        Draws it.
    """

    title: str
    facts: Callable[[], Any]
    draw: Callable[[Any], Figure]

    def svg(self) -> bytes:
        """Return the file: SVG with a digest of the facts, the same for the same design and version of matplotlib."""
        facts = self.facts()
        return svg(self.draw(facts), f"facts {_digest(facts)}")

    def is_shown_by(self, file: bytes) -> bool:
        """Whether a file shows the facts as they are."""
        return facts_of(file) == _digest(self.facts())


def _digest(facts: Any) -> str:
    plain = dataclasses.asdict(facts) if dataclasses.is_dataclass(facts) else facts
    return hashlib.sha256(json.dumps(plain, default=str).encode()).hexdigest()


def facts_of(file: bytes) -> str | None:
    """Return the digest of the facts that a file says it shows."""
    match = _DIGEST.search(file)
    return match[1].decode() if match else None


def _analysis(name: str) -> Picture:
    chosen = operator(name)
    title = f"analysis of {chosen.title}: dependences, and a schedule or why there is none"
    return Picture(title, lambda: argument(chosen), lambda _: draw(chosen))


PICTURES: dict[str, Picture] = {
    "accelerator": Picture(
        "block diagram: instances of the netlist, and the buses between them",
        lambda: block_facts(preset("tiny")),
        blocks_figure,
    ),
    "array": Picture(
        "the array: PEs, halo registers and all links of the netlist", lambda: array_facts(ARRAY), array_figure
    ),
    "array-plain": Picture("the array without ST-OS", lambda: array_facts(ARRAY.twin(stos=False)), array_figure),
    "timing-gemm": Picture(
        "cycles of a pointwise convolution in GEMM mode, from RTL", lambda: timing_chart(product()), timing_figure
    ),
    "timing-rows": Picture(
        "cycles of row filters in ST-OS mode, from RTL", lambda: timing_chart(row_filters()), timing_figure
    ),
    "timing-columns": Picture(
        "cycles of column filters in ST-OS mode, from RTL", lambda: timing_chart(column_filters()), timing_figure
    ),
    "layout": Picture(
        "bytes of a small layer in DRAM and on chip", lambda: layout_facts(row_filters(7)), layout_figure
    ),
    **{f"analysis-{name}": _analysis(name) for name in ("matmul", "conv1d", "fuse-half", "depthwise")},
}
"""Pictures by the name of their file, without ``.svg``."""
