"""The bursts that a DMA unit has under way."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, ShapeLike, Signal
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Component, In, Out

__all__ = ["OpenBursts"]


class OpenBursts(Component):
    """A FIFO whose head is a register of its own: what hangs on it does not stand behind a memory's output.

    An entry is at the head 3 cycles after it was written into an empty one, which is before a bus can answer.

    Parameters
    ----------
    shape : ShapeLike
        What is kept of a burst.
    depth : int
        Bursts it holds, at least 2.

    Members
    -------
    w_rdy, w_en, w_data
        An entry is written when both are high.
    r_rdy, r_en, r_data
        The oldest entry is there; it is taken when both are high.
    empty : Out(1)
        Nothing is under way.

    Reset empties it.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        self.shape, self.depth = shape, depth
        super().__init__(
            {
                "w_rdy": Out(1),
                "w_en": In(1),
                "w_data": In(shape),
                "r_rdy": Out(1),
                "r_en": In(1),
                "r_data": Out(shape),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the FIFO and its head."""
        m = Module()
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=Shape.cast(self.shape).width, depth=self.depth - 1)
        head = Signal(self.shape)
        valid, free = Signal(), Signal()
        m.d.comb += [
            self.w_rdy.eq(fifo.w_rdy),
            fifo.w_en.eq(self.w_en),
            fifo.w_data.eq(self.w_data),
            free.eq(~valid | self.r_en),
            fifo.r_en.eq(free),
            self.r_rdy.eq(valid),
            self.r_data.eq(head),
            self.empty.eq(~valid & (fifo.level == 0)),
        ]
        with m.If(free):
            m.d.sync += [valid.eq(fifo.r_rdy), head.eq(fifo.r_data)]
        return m
