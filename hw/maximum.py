"""Running maximum of pixels, for windowed maxima: what VEC and MAX instructions have in place of the array."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from hw.layouts import pixels

__all__ = ["Maximum"]


class Maximum(Component):
    """Largest pixel of each column over a sequence of vectors that ends with ``last``; one vector per cycle.

    A sequence of one vector passes it on.

    Parameters
    ----------
    cols
        Columns.

    Attributes
    ----------
    LATENCY : int
        1, from a sequence's last vector to its maximum.

    Members
    -------
    valid : In(1)
        A vector is on ``pixels``.
    pixels : In, `cols` signed bytes
    last : In(1)
        With ``valid``: it ends a sequence, the next one starts another.
    out_valid : Out(1)
        One cycle per sequence; cleared by reset, after which a sequence starts.
    out : Out, `cols` signed bytes
        Maximum, with ``out_valid``.  Data registers have no reset.
    """

    LATENCY = 1

    def __init__(self, cols: int) -> None:
        if cols < 1:
            raise ValueError(f"a maximum has at least 1 column, not {cols}")
        self.cols = cols
        super().__init__(
            {
                "valid": In(1),
                "pixels": In(pixels(cols)),
                "last": In(1),
                "out_valid": Out(1),
                "out": Out(pixels(cols)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build a comparator and a register per column."""
        m = Module()
        first = Signal(init=1)
        largest = Signal(pixels(self.cols), reset_less=True)
        m.d.sync += self.out_valid.eq(self.valid & self.last)
        m.d.comb += self.out.eq(largest)
        with m.If(self.valid):
            m.d.sync += first.eq(self.last)
            for column in range(self.cols):
                pixel, before = self.pixels[column], largest[column]
                m.d.sync += largest[column].eq(Mux(first | (pixel > before), pixel, before))
        return m
