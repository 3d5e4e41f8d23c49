"""Log-shifters between the lanes of a vector and the places of a scratchpad line."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.layouts import Lanes

__all__ = ["RotateLeft", "RotateRight"]


def _check(count: int, lanes: int) -> None:
    if count < 2 or count & (count - 1):
        raise ValueError(f"a line has a power of two of places, at least 2, not {count}")
    if not 1 <= lanes <= count:
        raise ValueError(f"{lanes} lanes do not fit a line of {count} places")


class RotateRight(wiring.Component):
    """Pick consecutive places of a line, cyclically: ``lanes[i] = line[(amount + i) % count]``.  Combinational.

    One 2:1 multiplexer per bit of `amount`, large shifts first, so that a stage is only as wide as the lanes and the
    shifts still to come need.

    Parameters
    ----------
    width
        Bits per place.
    count
        Places in a line, a power of two.
    lanes
        Places picked, 1 to `count`.

    Members
    -------
    line : In, `count` times `width` bits
    amount : In, 0 to count - 1
    lanes : Out, `lanes` times `width` bits

    Raises
    ------
    ValueError
        If `count` or `lanes` is out of range.
    """

    def __init__(self, width: int, count: int, lanes: int) -> None:
        _check(count, lanes)
        self.width, self.count, self.lane_count = width, count, lanes
        super().__init__(
            {
                "line": In(Lanes(width, count)),
                "amount": In(range(count)),
                "lanes": Out(Lanes(width, lanes)),
            }
        )

    @property
    def module_name(self) -> str:
        """Name of the emitted module."""
        return f"rowcast_rotate_right_{self.count}x{self.width}_{self.lane_count}"

    def elaborate(self, platform: object) -> Module:
        """Build the stages."""
        m = Module()
        current: Value = Value.cast(self.line)
        for bit in reversed(range(len(self.amount))):
            shift = self.width << bit
            keep = self.width * min(self.count, self.lane_count + (1 << bit) - 1)
            stage = Signal(keep, name=f"stage_{bit}")
            m.d.comb += stage.eq(Mux(self.amount[bit], Cat(current[shift:], current[:shift])[:keep], current[:keep]))
            current = stage
        m.d.comb += Value.cast(self.lanes).eq(current)
        return m


class RotateLeft(wiring.Component):
    """Put lanes into a line, cyclically: ``line[(amount + i) % count] = lanes[i]``.  Combinational.

    Places without a lane are 0.  Small shifts come first, so that a stage is only as wide as the lanes and the shifts
    already made.

    Parameters
    ----------
    width, count, lanes
        As for :class:`RotateRight`.

    Members
    -------
    lanes : In, `lanes` times `width` bits
    amount : In, 0 to count - 1
    line : Out, `count` times `width` bits

    Raises
    ------
    ValueError
        If `count` or `lanes` is out of range.
    """

    def __init__(self, width: int, count: int, lanes: int) -> None:
        _check(count, lanes)
        self.width, self.count, self.lane_count = width, count, lanes
        super().__init__(
            {
                "lanes": In(Lanes(width, lanes)),
                "amount": In(range(count)),
                "line": Out(Lanes(width, count)),
            }
        )

    @property
    def module_name(self) -> str:
        """Name of the emitted module."""
        return f"rowcast_rotate_left_{self.count}x{self.width}_{self.lane_count}"

    def elaborate(self, platform: object) -> Module:
        """Build the stages."""
        m = Module()
        current: Value = Value.cast(self.lanes)
        places = self.lane_count
        for bit in range(len(self.amount)):
            shift = self.width << bit
            places = min(self.count, places + (1 << bit))
            size = places * self.width
            padded = Cat(current, Const(0, size - len(current)))
            stage = Signal(size, name=f"stage_{bit}")
            # Until the stage is a full line, what rotates in at the bottom is padding, that is 0.
            m.d.comb += stage.eq(Mux(self.amount[bit], Cat(padded[size - shift :], padded[: size - shift]), padded))
            current = stage
        m.d.comb += Value.cast(self.line).eq(current)
        return m
