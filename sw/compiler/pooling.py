"""Global average pooling beside a map: the kernels that write the map pool what they write.

A map that others read besides the pooling (squeeze-and-excite) must be written, so its pooling cannot replace it
(:func:`sw.compiler.fuse.fuse_pool`).  But its bytes can be pooled on their way to the scratchpad, by every kernel that
writes some of its channels, as long as one EXEC computes all pixels of a channel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from hw.spec.isa import ResidualOp
from sw.compiler.lower import Kernel
from sw.compiler.views import View

__all__ = ["pool_beside"]


def pool_beside(kernels: Sequence[Kernel], whole: Collection[int]) -> list[Kernel]:
    """Return the kernels without those that only pool a map which kernels in `whole` write.

    Parameters
    ----------
    whole
        Indices of kernels whose EXECs may compute all lines of a channel.
    """
    result: list[Kernel | None] = list(kernels)
    for index, kernel in enumerate(kernels):
        if kernel.kind != "pool":
            continue
        writers = [k for k in range(index) if kernels[k].target.storage == kernel.source.storage]
        able = all(k in whole and _can_pool(kernels[k], kernel) and result[k] is kernels[k] for k in writers)
        if able and _cover([kernels[k].target for k in writers], kernel.source):
            for k in writers:
                writer, target = kernels[k], kernel.target
                channel = (writer.target.offset - kernel.source.offset) // kernel.source.plane
                beside = View(target.storage, target.offset + channel, (writer.target.shape[0], 1, 1))
                result[k] = dataclasses.replace(writer, pool=kernel.pool, beside=beside, open=False)
            result[index] = None
    return [kernel for kernel in result if kernel is not None]


def _can_pool(writer: Kernel, pool: Kernel) -> bool:
    """Whether a kernel writes a map as `pool` reads it, and needs neither pooling nor a second operand itself."""
    same = writer.target.shape[1:] == pool.source.shape[1:] and writer.packing == pool.packing
    return same and writer.pool is None and writer.residual_op == ResidualOp.NONE and not writer.spread


def _cover(parts: Sequence[View], whole: View) -> bool:
    """Whether parts of a storage are a view of it, each byte once."""
    end = whole.offset
    for part in sorted(parts, key=lambda part: part.offset):
        if part.offset != end:
            return False
        end += part.size
    return end == whole.offset + whole.size
