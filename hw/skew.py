"""Triangular shift registers: lane i of a vector comes i cycles late, as a systolic array's edges need it."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import Component, In, Out

from hw.row_block import block_sizes
from hw.shared import shared

__all__ = ["DelayLine", "Skew", "SkewGroup"]


class DelayLine(Component):
    """Shift register.

    Parameters
    ----------
    width : int
        Bits.
    cycles : int
        Delay, at least 1.

    Attributes
    ----------
    i : width bits, in
    o : width bits, out
        ``i``, `cycles` cycles later.  No reset.
    """

    def __init__(self, width: int, cycles: int) -> None:
        self.width, self.cycles = width, cycles
        self.module_name = f"rowcast_delay_{width}x{cycles}"
        super().__init__({"i": In(width), "o": Out(width)})

    def elaborate(self, platform: object) -> Module:
        """Build one register for all stages."""
        m = Module()
        stages = Signal(self.width * self.cycles, reset_less=True)
        m.d.sync += stages.eq(Cat(self.i, stages))
        m.d.comb += self.o.eq(stages[-self.width :])
        return m


class SkewGroup(Component):
    """Delay lane i by i cycles.

    Parameters
    ----------
    lanes, width : int
        Lanes, and bits of each.

    Attributes
    ----------
    i, o : lanes times width bits, in/out
        Lane 0 in the low bits.  No reset.
    """

    def __init__(self, lanes: int, width: int) -> None:
        self.lanes, self.width = lanes, width
        self.module_name = f"rowcast_skew_{lanes}x{width}"
        super().__init__({"i": In(lanes * width), "o": Out(lanes * width)})

    def elaborate(self, platform: object) -> Module:
        """Build one register for each stage: all lanes from its number on."""
        m = Module()
        rest: Value = self.i
        for lane in range(self.lanes):
            m.d.comb += self.o.word_select(lane, self.width).eq(rest[: self.width])
            if lane + 1 < self.lanes:
                stage = Signal(len(rest) - self.width, name=f"stage_{lane + 1}", reset_less=True)
                m.d.sync += stage.eq(rest[self.width :])
                rest = stage
        return m


class Skew(Component):
    """Delay lane i by i cycles, for many lanes: groups of about their square root, each a whole number of groups late.

    A netlist with lanes**2 / 2 registers of its own would take most of the time of generating a large array; here the
    few different groups and delay lines are shared modules.

    Parameters
    ----------
    lanes, width : int
        As for :class:`SkewGroup`.

    Attributes
    ----------
    i, o : lanes times width bits, in/out
        As for :class:`SkewGroup`.
    """

    def __init__(self, lanes: int, width: int) -> None:
        self.lanes, self.width = lanes, width
        self.module_name = f"rowcast_skews_{lanes}x{width}"
        super().__init__({"i": In(lanes * width), "o": Out(lanes * width)})

    def elaborate(self, platform: object) -> Module:
        """Chain delay lines in front of each group."""
        m = Module()
        sizes = block_sizes(self.lanes)
        first = 0
        for number, size in enumerate(sizes):
            span = slice(first * self.width, (first + size) * self.width)
            value: Value = self.i[span]
            for hop in range(number):
                line = shared(platform, DelayLine, size * self.width, sizes[0])
                m.submodules[f"delay{number}_{hop}"] = line
                m.d.comb += line.i.eq(value)
                value = line.o
            m.submodules[f"group{number}"] = group = shared(platform, SkewGroup, size, self.width)
            m.d.comb += [group.i.eq(value), self.o[span].eq(group.o)]
            first += size
        return m
