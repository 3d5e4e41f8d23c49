"""Global average pooling: sums of int8 outputs per channel, requantised to one byte."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.delay import delayed
from hw.layouts import pixels, table_layout
from hw.requantise import Requantise, ZeroPointClamp
from hw.spec.isa import EXEC
from hw.spec.numerics import NUMERICS, Numerics

__all__ = ["Pooling", "pooling_config"]

_RADIX = 8
"""Operands added in one cycle of the lane sum."""


def pooling_config() -> data.StructLayout:
    """Return the settings of the pooled result: EXEC's fields of the same names."""
    fields = table_layout(EXEC)
    return data.StructLayout({name: fields[name].shape for name in ("gap_bias", "gap_mult", "gap_shift", "gap_zp")})


class Pooling(wiring.Component):
    """Sum vectors per slot and requantise a slot's total at its last vector; one vector per cycle, never stalling.

    Bit-exact with :meth:`Numerics.pool <hw.spec.numerics.Numerics.pool>` as long as sum + gap_bias
    fits ``numerics.pool_width`` bits.  Vectors of different slots may be interleaved in any order.

    Parameters
    ----------
    lanes
        Pixels per vector.
    depth
        Sums under way at once.
    numerics
        Widths.
    pipeline
        As for :class:`hw.requantise.Requantise`.

    Attributes
    ----------
    latency : int
        Cycles from a last vector to its result: one per factor of 8 in `lanes` (the lane sum), five, and three more if
        pipelined.

    Members
    -------
    valid : In(1)
        A vector is on the inputs; all of them are sampled with it.
    q : In, `lanes` signed bytes
    used : In, `lanes` bits
        Lanes whose bit is set are summed.
    slot : In
        Sum to add to, below `depth`.
    first : In(1)
        Start the sum with this vector.
    last : In(1)
        Requantise the sum after this vector.
    cfg : In(pooling_config())
    out_valid : Out(1)
        High for one cycle per last vector, in order, ``latency`` cycles after it; cleared by reset.
    out_q : Out(signed(8))
        Result, with ``out_valid``.
    """

    def __init__(self, lanes: int, depth: int, numerics: Numerics = NUMERICS, *, pipeline: bool = False) -> None:
        if lanes < 1 or depth < 1:
            raise ValueError(f"pooling needs at least one lane and one slot, not {lanes} and {depth}")
        self.lanes, self.depth, self.numerics, self.pipeline = lanes, depth, numerics, pipeline
        self.sum_stages = 1
        while lanes > _RADIX**self.sum_stages:
            self.sum_stages += 1
        self.latency = self.sum_stages + 3 + Requantise.LATENCY + 3 * pipeline
        super().__init__(
            {
                "valid": In(1),
                "q": In(pixels(lanes)),
                "used": In(lanes),
                "slot": In(range(depth)),
                "first": In(1),
                "last": In(1),
                "cfg": In(pooling_config()),
                "out_valid": Out(1),
                "out_q": Out(signed(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build lane sum, accumulation and requantisation."""
        m = Module()
        summed = self.sum_stages
        total_width = self.numerics.pool_width

        def at(cycle: int, value: Value, name: str, *, reset_less: bool = True) -> Value:
            return delayed(m, value, cycle, name=name, reset_less=reset_less)[cycle]

        valid = delayed(m, self.valid, summed, name="valid", reset_less=False)
        slot = delayed(m, self.slot, summed, name="slot")
        lane_sum = self._lane_sum(m)

        m.submodules.sums = sums = Memory(shape=signed(total_width), depth=self.depth, init=[])
        write = sums.write_port()
        # Read one cycle before the sum arrives.  A vector of the same slot one cycle ahead is being written in that
        # cycle, which a transparent port sees; one further ahead has been written.
        read = sums.read_port(transparent_for=(write,))
        total = Signal(signed(total_width))
        m.d.comb += [
            read.en.eq(valid[summed - 1]),
            read.addr.eq(slot[summed - 1]),
            total.eq(Mux(at(summed, self.first, "first"), 0, read.data) + lane_sum),
            write.en.eq(valid[summed]),
            write.addr.eq(slot[summed]),
            write.data.eq(total),
        ]

        pooled = Signal(signed(total_width), reset_less=True)
        biased = Signal(signed(total_width), reset_less=True)
        m.d.sync += [pooled.eq(total), biased.eq(pooled + at(summed + 1, self.cfg.gap_bias, "gap_bias"))]

        m.submodules.requantise = requantise = Requantise(
            self.numerics, len(biased), pipeline=self.pipeline
        )
        m.submodules.clamp = clamp = ZeroPointClamp(self.numerics.mid_width)
        m.d.comb += [
            requantise.value.eq(biased),
            requantise.mult.eq(at(summed + 2, self.cfg.gap_mult, "gap_mult")),
            requantise.shift.eq(at(summed + 2 + requantise.SHIFT_STAGE, self.cfg.gap_shift, "gap_shift")),
            clamp.value.eq(requantise.mid),
            clamp.zero_point.eq(at(self.latency - 1, self.cfg.gap_zp, "gap_zp")),
            clamp.lo.eq(Const(-128, signed(8))),
            clamp.hi.eq(Const(127, signed(8))),
        ]
        out_q = Signal(signed(8), reset_less=True)
        m.d.sync += out_q.eq(clamp.q)
        m.d.comb += [
            self.out_q.eq(out_q),
            self.out_valid.eq(at(self.latency, self.valid & self.last, "last", reset_less=False)),
        ]
        return m

    def _lane_sum(self, m: Module) -> Value:
        """Add the used lanes, a register after every :data:`_RADIX` operands."""
        operands: list[Value] = [Mux(self.used[lane], self.q[lane], 0) for lane in range(self.lanes)]
        for level in range(self.sum_stages):
            sums = []
            for start in range(0, len(operands), _RADIX):
                addition = sum(operands[start : start + _RADIX], Const(0, signed(8)))
                width = 8 + (min(self.lanes, _RADIX ** (level + 1)) - 1).bit_length()
                register = Signal(signed(width), name=f"sum{level}_{start // _RADIX}", reset_less=True)
                m.d.sync += register.eq(addition)
                sums.append(register)
            operands = sums
        return operands[0]
