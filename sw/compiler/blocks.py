"""Even blocks of channels: a dense layer's EXEC cut into one per block where that takes fewer cycles.

A tile drains a row per cycle, so with fewer taps than rows it takes as long as it has channels, and the block with the
last channels as long as it has taps.  72 channels of 24 taps on 32 rows are 32 + 32 + 24 cycles in blocks of 32, 32 and
8, and 24 + 24 + 24 in even ones (:meth:`sw.compiler.lower.Kernel.block`).
"""

from __future__ import annotations

from dataclasses import replace

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Target
from hw.spec.program import PARAM_DTYPE
from sw.compiler.lower import Kernel
from sw.compiler.steps import Span, Step

__all__ = ["block_steps"]


def block_steps(kernel: Kernel, step: Step, config: AcceleratorConfig) -> list[Step]:
    """Cut an EXEC into one per block of channels if its kernel has even blocks."""
    cout, out_cs = step["cout"], step["out_cs"]
    size = kernel.block(cout, config)
    if size >= min(cout, config.rows):
        return [step]
    words, result = kernel.words(1, config.rows), []
    for index, first in enumerate(range(0, cout, size)):
        count = min(size, cout - first)

        def part(span: Span, index: int = index, first: int = first, count: int = count) -> Span:
            if span.memory == Target.PARAM:
                entry = PARAM_DTYPE.itemsize
                return replace(span, base=span.base + first * entry, length=count * entry)
            if span.memory == Target.WEIGHT:
                length = words * config.weight_word_bytes
                return replace(span, base=span.base + index * length, length=length)
            return replace(span, base=span.base + first * span.stride, count=count)

        values = {
            **step.values,
            "cout": count,
            "w_base": step["w_base"] + index * words,
            "p_base": step["p_base"] + first,
            "out_base": step["out_base"] + first * out_cs,
        }
        if step["res"]:
            values["res_base"] = step["res_base"] + first * out_cs
        source, *others = step.reads  # all blocks read the whole input
        writes = [part(span) for span in step.writes]
        result.append(replace(step, values=values, reads=[source, *map(part, others)], writes=writes))
    return result
