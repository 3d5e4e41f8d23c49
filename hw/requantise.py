"""Requantisation in hardware, made from :class:`hw.spec.numerics.Numerics`: round half to even, saturate, clamp."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.delay import delayed
from hw.spec.numerics import Numerics

__all__ = ["Requantise", "RoundShift", "ZeroPointClamp"]


class RoundShift(wiring.Component):
    """Arithmetic right shift with rounding to nearest, ties to even.

    The rounded value is ``floor + up``; they are given apart because the adder that follows takes ``up`` as its carry.

    Parameters
    ----------
    width
        Bits of the signed value.
    shift_width
        Bits of the shift; any amount is exact, also beyond `width`.
    pipeline
        Shift by multiples of :data:`COARSE` a cycle later.

    Attributes
    ----------
    LATENCY : int
        0, combinational; 1 if pipelined.

    Members
    -------
    value : In(signed(width))
    shift : In(shift_width)
        Sampled with the value.
    floor : Out(signed(width))
        ``value >> shift``.
    up : Out(1)
        1 if rounding goes up.
    """

    LATENCY: int = 0
    COARSE = 8

    def __init__(self, width: int, shift_width: int, *, pipeline: bool = False) -> None:
        self.width, self.shift_width, self.pipeline = width, shift_width, pipeline
        self.LATENCY = int(pipeline)
        super().__init__(
            {
                "value": In(signed(width)),
                "shift": In(shift_width),
                "floor": Out(signed(width)),
                "up": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build one multiplexer stage per bit of the shift; each keeps the last bit lost and the OR of those before."""
        m = Module()
        current: Value = self.value
        half: Value = Const(0, 1)
        sticky: Value = Const(0, 1)
        shift: Value = self.shift
        for bit in range(self.shift_width):
            amount = 1 << bit
            if self.pipeline and amount == self.COARSE:
                fine = {"fine": current, "fine_half": half, "fine_sticky": sticky, "coarse": shift}
                current, half, sticky, shift = (delayed(m, value, 1, name=name)[1] for name, value in fine.items())
            # A shift beyond the width loses copies of the sign too: bits of the value as if extended.
            lost = Cat(current, current[-1].replicate(max(0, amount - self.width)))[:amount]
            floor = Signal(signed(self.width), name=f"floor_{bit}")
            half_next, sticky_next = Signal(name=f"half_{bit}"), Signal(name=f"sticky_{bit}")
            m.d.comb += [
                floor.eq(Mux(shift[bit], current >> amount, current)),
                half_next.eq(Mux(shift[bit], lost[-1], half)),
                sticky_next.eq(Mux(shift[bit], lost[:-1].any() | half | sticky, sticky)),
            ]
            current, half, sticky = floor, half_next, sticky_next
        m.d.comb += [self.floor.eq(current), self.up.eq(half & (sticky | current[0]))]
        return m


class Requantise(wiring.Component):
    """``mid = saturate(rshift_round(value * mult, shift), numerics.mid_width)``, one result per cycle.

    Parameters
    ----------
    numerics
        Widths.
    width
        Bits of the signed value; the accumulator's by default.
    pipeline
        Multiply in two cycles: halves of the value first (on an FPGA one multiplier block each), then their sum; and
        shift and saturate in three.

    Attributes
    ----------
    LATENCY : int
        2, and 3 more if pipelined.
    SHIFT_STAGE : int
        Cycles from the value to the shift: 1, and 1 more if pipelined.

    Members
    -------
    value : In(signed(width)), mult : In(numerics.mult_width)
        Sampled in cycle t.
    shift : In(numerics.shift_width)
        Sampled in cycle t + SHIFT_STAGE, so that a parameter shared by many lanes is registered once, outside them.
    mid : Out(signed(numerics.mid_width))
        Valid in cycle t + LATENCY.  Registers have no reset.
    """

    LATENCY: int = 2
    SHIFT_STAGE: int = 1

    def __init__(self, numerics: Numerics, width: int | None = None, *, pipeline: bool = False) -> None:
        self.numerics, self.pipeline = numerics, pipeline
        self.LATENCY = Requantise.LATENCY + 3 * pipeline
        self.SHIFT_STAGE = Requantise.SHIFT_STAGE + pipeline
        self.width = numerics.acc_width if width is None else width
        super().__init__(
            {
                "value": In(signed(self.width)),
                "mult": In(numerics.mult_width),
                "shift": In(numerics.shift_width),
                "mid": Out(signed(numerics.mid_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the product stages and the shift-round-saturate stage."""
        m = Module()
        mid_width = self.numerics.mid_width
        product = Signal(signed(self.width + self.numerics.mult_width), reset_less=True)
        if self.pipeline:
            half = self.width // 2
            low = Signal(half + self.numerics.mult_width, reset_less=True)
            high = Signal(signed(len(product) - half), reset_less=True)
            m.d.sync += [
                low.eq(self.value[:half] * self.mult),
                high.eq(self.value[half:].as_signed() * self.mult),
                product.eq(Cat(low[:half], high + low[half:])),
            ]
        else:
            m.d.sync += product.eq(self.value * self.mult)

        m.submodules.shifter = shifter = RoundShift(len(product), self.numerics.shift_width, pipeline=self.pipeline)
        m.d.comb += [shifter.value.eq(product), shifter.shift.eq(self.shift)]

        # Saturation looks at the unrounded value, so it does not wait for the increment: of the values that fit, only
        # the largest could leave the range by rounding up, and it stays.
        floor: Value = shifter.floor
        up: Value = shifter.up
        if self.pipeline:
            floor = delayed(m, floor, 1, name="floor")[1]
            up = delayed(m, up, 1, name="up")[1]
        near = floor[:mid_width].as_signed()
        largest = (1 << (mid_width - 1)) - 1
        top = floor[mid_width - 1 :]
        rounded = (near + (up & (near != largest)))[:mid_width]
        limit = Mux(floor[-1], Const(-largest - 1, signed(mid_width)), Const(largest, signed(mid_width)))
        mid = Signal(signed(mid_width), reset_less=True)
        m.d.sync += mid.eq(Mux(top.all() | ~top.any(), rounded, limit))
        m.d.comb += self.mid.eq(mid)
        return m


class ZeroPointClamp(wiring.Component):
    """``q = clamp(value + up + zero_point, lo, hi)`` in signed bytes, for lo <= hi.  Combinational.

    Parameters
    ----------
    width
        Bits of the signed value.

    Members
    -------
    value : In(signed(width)), up : In(1), zero_point : In(signed(8)), lo : In(signed(8)), hi : In(signed(8))
    q : Out(signed(8))
    """

    def __init__(self, width: int) -> None:
        self.width = width
        byte = In(signed(8))
        super().__init__(
            {"value": In(signed(width)), "up": In(1), "zero_point": byte, "lo": byte, "hi": byte, "q": Out(signed(8))}
        )

    def elaborate(self, platform: object) -> Module:
        """Build a 9-bit adder and two comparators."""
        m = Module()
        # Beyond 9 bits no zero point brings the value back into a byte, so the adder needs only those.
        near = self.value[:9].as_signed()
        top = self.value[8:]
        fits = top.all() | ~top.any() if self.width > 9 else Const(1)
        total = Signal(signed(10))
        above, below = Signal(), Signal()
        m.d.comb += [
            total.eq(near + self.zero_point + self.up),
            above.eq(Mux(fits, total > self.hi, ~self.value[-1])),
            below.eq(Mux(fits, total < self.lo, self.value[-1])),
            self.q.eq(Mux(above, self.hi, Mux(below, self.lo, total[:8].as_signed()))),
        ]
        return m
