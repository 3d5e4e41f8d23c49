"""Relayouts: a tensor copied from plain into packed lines, or back, one EXEC per segment."""

from __future__ import annotations

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Mode, ResidualOp, Target
from hw.spec.packing import Packing
from sw.compiler.cost import Extent, exec_cycles
from sw.compiler.fold import fold
from sw.compiler.ir import FULL_RANGE, Tensor
from sw.compiler.lower import Kernel
from sw.compiler.steps import Span, Step
from sw.compiler.views import View

__all__ = ["relayout_cycles", "relayout_kernel", "relayout_steps"]


def relayout_cycles(config: AcceleratorConfig, channels: int, packing: Packing) -> int:
    """Estimate the cycles of packing or unpacking a tensor."""
    extent = Extent(channels, channels, packing.lines, packing.image_width, 1, 1, 1, 1)
    return packing.segments * exec_cycles(config, Mode.VEC, False, extent)


def relayout_kernel(tensor: Tensor, source: View, target: View, packing: Packing) -> Kernel:
    """Return the kernel that copies `source` to `target`, one of which is packed; `tensor` has their quantisation."""
    channels = source.shape[0]
    return Kernel(
        name=target.storage,
        kind="relayout",
        mode=Mode.VEC,
        depthwise=False,
        source=source,
        target=target,
        residual=None,
        residual_op=ResidualOp.NONE,
        map_shape=target.shape,
        kernel=(1, 1),
        stride=(1, 1),
        pad=(0, 0),
        in_zp=tensor.zero_point,
        weights=None,
        # the same scale and zero point: multiplier 1
        stage=fold(target.storage, tensor, None, np.ones(channels), None, tensor, FULL_RANGE),
        pool=None,
        macs=0,
        packing=packing,
    )


def relayout_steps(kernel: Kernel, step: Step) -> list[Step]:
    """Cut a relayout's EXEC into one per segment.

    Where a packed line has no image pixel, the read is outside the plain tensor, gives the zero point and writes it.
    """
    packing, values = kernel.packing, step.values
    assert packing is not None and kernel.relayout
    height, width, lines = packing.image_height, packing.image_width, packing.lines
    unpacks = kernel.source.shape[2] == packing.width
    params = [span for span in step.reads if span.memory == Target.PARAM]
    steps = []
    for segment in range(packing.segments):
        count = min(lines, height - segment * lines)

        def plain(side: str, first: int = segment * lines * width, count: int = count) -> list[Span]:
            base, stride = values[f"{side}_base"] + first, values[f"{side}_cs"]
            return [Span(Target.ACT, base, values["cout"], stride, count * width)]

        def packed(side: str, pixels: int, count: int, first: int = segment * packing.pitch) -> list[Span]:
            base, stride = values[f"{side}_base"] + first, values[f"{side}_cs"]
            starts = (base + line * packing.width for line in range(count))
            return [Span(Target.ACT, start, values["cout"], stride, pixels) for start in starts]

        if unpacks:
            reads, writes = packed("in", width, count), plain("out")
            shape = {"in_pitch": packing.width, "out_pitch": width, "out_w": width, "out_h": count}
        else:
            pixels = packing.pitch if segment < packing.segments - 1 else width
            reads, writes = plain("in"), packed("out", pixels, lines)
            shape = {"in_pitch": width, "out_pitch": packing.width, "out_w": pixels, "out_h": lines}
        bases = {"in_base": reads[0].base, "out_base": writes[0].base, "in_w": width, "in_h": count}
        steps.append(
            Step(step.opcode, {**values, **shape, **bases}, step.layer, reads=[*reads, *params], writes=writes)
        )
    return steps
