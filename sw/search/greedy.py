"""The paper's hybrid as a baseline: the blocks with the largest gain in cycles become FuSeConv."""

from __future__ import annotations

from sw.search.latency import CycleTable
from sw.search.space import Architecture, Operator, Space

__all__ = ["greedy_hybrid"]


def greedy_hybrid(table: CycleTable, space: Space, base: Architecture, *, share: float = 0.5) -> Architecture:
    """Return a depthwise network with FuSe-Half in the blocks that gain most by it.

    Parameters
    ----------
    table
        Cycles of both operators at each place.
    space, base
        The network, and the space it is of.
    share
        Of the blocks, rounded down; blocks that gain nothing stay as they are.

    Raises
    ------
    sw.search.space.SpaceError
        If the network is not one of the space.
    """
    gains = []
    for number, (place, block) in enumerate(space.blocks(base)):
        fused = base.with_operators({number: "fuse_half"}).blocks[number]
        gains.append((table.block(place, block) - table.block(place, fused), -number))
    best = sorted(gains, reverse=True)[: int(share * len(gains))]
    chosen: dict[int, Operator] = {-number: "fuse_half" for gain, number in best if gain > 0}
    return base.with_operators(chosen)
