"""Which bytes of a vector read lie inside the input line; the rest are padding."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike, signed

from hw.layouts import range_width

__all__ = ["X_WIDTH", "byte_range", "pixel_bounds"]

X_WIDTH = 24
"""Bits of a signed pixel or line index: fields of 20 bits, twice at stride 2, and tiles that overhang a line."""


def pixel_bounds(m: Module, x: Value, width: ValueLike, strided: Value) -> tuple[Signal, Signal]:
    """Return how many pixels of a read lie left of a line, and how many lie left of its end; both may be negative.

    Parameters
    ----------
    m
        Module that gets the logic.
    x, width
        The line has pixels 0 .. width - 1; the read's first pixel in use is x.
    strided
        Only pixels x, x + 2, ... are in use: the first number counts up to the first of them in the line, the second
        one up to the last one.
    """
    before = Signal(signed(X_WIDTH), name="pixels_before")
    inside = Signal(signed(X_WIDTH), name="pixels_inside")
    m.d.comb += [
        before.eq(-Cat(x[0] & ~strided, x[1:]).as_signed()),
        # width - x, made odd from an even number by leaving out the 1 that ends its negation
        inside.eq((width + ~x + ~strided) | strided),
    ]
    return before, inside


def byte_range(
    m: Module,
    before: Value,
    inside: Value,
    line_valid: ValueLike,
    strided: Value,
    *,
    first: ValueLike,
    count: ValueLike,
    columns: int,
    span: int,
) -> tuple[Signal, Signal]:
    """Return (lo, hi) such that bytes lo <= i < hi of a read are the pixels inside a line; lo = hi = 0 if none is.

    Parameters
    ----------
    m
        Module that gets the logic.
    before, inside
        From :func:`pixel_bounds`.
    line_valid
        The line exists.
    strided
        Of ``2 * columns - 1`` bytes, pixels x, x + 1, ..., every second one is in use: lo and hi - 1 are even.
    first, count
        Not strided: bytes first .. first + count - 1 are pixels x, x + 1, ...
    span
        Bytes of a read.
    """
    bound = range_width(span)
    lo = Signal(bound, name="byte_lo")
    hi = Signal(bound, name="byte_hi")
    start, length = Signal(bound, name="byte_start"), Signal(bound, name="byte_count")
    m.d.comb += [
        start.eq(Mux(strided, 0, first)),
        length.eq(Mux(strided, 2 * columns - 1, count)),
    ]
    with m.If(line_valid & (inside > 0) & (before < length) & (before < inside)):
        m.d.comb += [
            lo.eq(start + Mux(before > 0, before, 0)),
            hi.eq(start + Mux(inside < length, inside, length)),
        ]
    return lo, hi
