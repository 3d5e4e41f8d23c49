"""Which lanes of a vector read lie inside the input line; the rest are padding."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, ValueLike, signed

from hw.layouts import range_width

__all__ = ["X_WIDTH", "lane_range"]

X_WIDTH = 24
"""Bits of a signed pixel or line index: fields of 20 bits, and tiles that overhang a line by one array width."""


def lane_range(
    m: Module, x: Value, width: ValueLike, line_valid: ValueLike, *, first: int, count: int
) -> tuple[Signal, Signal]:
    """Return (lo, hi) such that lanes lo <= i < hi read inside a line; lo = hi = 0 if none does.

    Lanes first .. first + count - 1 read pixels x, x + 1, ...; the line has pixels 0 .. width - 1.
    """
    lanes = first + count
    lo = Signal(range_width(lanes), name="lane_lo")
    hi = Signal(range_width(lanes), name="lane_hi")
    before = Signal(signed(X_WIDTH), name="pixels_before")  # lanes left of the line
    inside = Signal(signed(X_WIDTH), name="pixels_inside")  # lanes up to the line's end
    m.d.comb += [before.eq(-x), inside.eq(width - x)]
    with m.If(line_valid & (inside > 0) & (before < count) & (before < inside)):
        m.d.comb += [
            lo.eq(first + Mux(before > 0, before, 0)),
            hi.eq(first + Mux(inside < count, inside, count)),
        ]
    return lo, hi
