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
    """Put lanes into a line, cyclically: ``line[(amount + i) % count] = lanes[i]``, enables alike.  Combinational.

    Places without a lane have enable 0 and any lane's value, so the values are rotated among as many places as there
    are lanes (rounded up to a power of two) and repeated along the line; only the enables take the whole way.  Small
    shifts come first, so that a stage is only as wide as the lanes and the shifts already made.

    Parameters
    ----------
    width, count, lanes
        As for :class:`RotateRight`.

    Members
    -------
    lanes : In, `lanes` times `width` bits
    mask : In, `lanes` bits
    amount : In, 0 to count - 1
    line : Out, `count` times `width` bits
    enables : Out, `count` bits

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
                "mask": In(lanes),
                "amount": In(range(count)),
                "line": Out(Lanes(width, count)),
                "enables": Out(count),
            }
        )

    @property
    def module_name(self) -> str:
        """Name of the emitted module."""
        return f"rowcast_rotate_left_{self.count}x{self.width}_{self.lane_count}"

    def elaborate(self, platform: object) -> Module:
        """Build the stages of both."""
        m = Module()
        period = 1 << (self.lane_count - 1).bit_length()
        values = self._rotated(m, Value.cast(self.lanes), self.width, period, "stage")
        m.d.comb += Value.cast(self.line).eq(values.replicate(self.count // period))
        m.d.comb += self.enables.eq(self._rotated(m, self.mask, 1, self.count, "enable"))
        return m

    def _rotated(self, m: Module, current: Value, width: int, count: int, name: str) -> Value:
        """Return `current`, of `width` bits per lane, rotated by `amount` in a line of `count` places."""
        places = self.lane_count
        for bit in range((count - 1).bit_length()):
            shift = width << bit
            places = min(count, places + (1 << bit))
            size = places * width
            padded = Cat(current, Const(0, size - len(current)))
            stage = Signal(size, name=f"{name}_{bit}")
            # Until the stage is a full line, what rotates in at the bottom is padding, that is 0.
            m.d.comb += stage.eq(Mux(self.amount[bit], Cat(padded[size - shift :], padded[: size - shift]), padded))
            current = stage
        return current
