"""Relayouts: a tensor copied from one layout into another."""

from __future__ import annotations

import numpy as np

from hw.spec.isa import Mode, ResidualOp
from hw.spec.packing import Packing
from sw.compiler.fold import fold
from sw.compiler.ir import FULL_RANGE, Tensor
from sw.compiler.lower import Kernel
from sw.compiler.views import View

__all__ = ["relayout_kernel"]


def relayout_kernel(
    tensor: Tensor, source: View, target: View, unpacked: Packing | None, packing: Packing | None
) -> Kernel:
    """Return the kernel that copies `source`, packed by `unpacked`, to `target`; `tensor` has their quantisation."""
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
        spread=True,
        source_packing=unpacked,
    )
