"""Packed lines: which lanes of a line of results belong to no image line."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.delay import delayed
from hw.layouts import range_width, table_layout
from hw.select import lanes_below
from hw.spec.isa import EXEC

__all__ = ["SegmentMask"]


class SegmentMask(wiring.Component):
    """Mark the gaps between segments, and all lanes from an edge on; one line per cycle.

    The first segment's gap is found by comparison, then copied: one segment to the right, two, four, a copy per cycle.
    So the mask is made behind the row it belongs to, while the output stage computes that row, and what an instruction
    asks for need not be known any earlier than its first row.

    Parameters
    ----------
    lanes
        Pixels per line of results.
    latency
        Cycles from the inputs to ``dropped``, at least 1 + log2 of half the lanes, rounded up.

    Members
    -------
    seg, seg_gap : In
        As in isa.EXEC, with seg_gap < seg <= `lanes`; both 0 without segments.
    edge : In
        Lanes i >= edge are dropped, whatever the segments; 0 to `lanes`.
    dropped : Out, `lanes` bits
        Bit i is set if lane i % seg >= seg - seg_gap or i >= edge, `latency` cycles earlier.  Registers have no reset.

    Raises
    ------
    ValueError
        If the latency is too short.
    """

    def __init__(self, lanes: int, latency: int) -> None:
        self.lanes, self.latency = lanes, latency
        # A segment with a gap has two lanes at least, so `copies` doublings reach the last lane.
        self.copies = max(lanes - 1, 1).bit_length() - 1
        if latency <= self.copies:
            raise ValueError(f"a mask of {lanes} lanes takes {self.copies + 1} cycles, more than {latency}")
        super().__init__(
            {
                "seg": In(range_width(lanes)),
                "seg_gap": In(table_layout(EXEC)["seg_gap"].shape),
                "edge": In(range_width(lanes)),
                "dropped": Out(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the comparison and the copies; narrow numbers are carried as long as they can be."""
        m = Module()
        lanes = self.lanes
        first = self.latency - 1 - self.copies
        seg = delayed(m, self.seg, self.latency - 1, name="seg")
        gap = delayed(m, self.seg_gap, first, name="seg_gap")[first]
        edge = delayed(m, self.edge, self.latency - 1, name="edge")[-1]
        start = Signal(len(self.seg))  # of the first gap
        m.d.comb += start.eq(seg[first] - gap)
        gaps = lanes_below(m, seg[first], lanes, name="below_end") & ~lanes_below(m, start, lanes, name="below_start")
        for copy in range(self.copies):
            held = Signal(lanes, name=f"gaps_{copy}", reset_less=True)
            m.d.sync += held.eq(gaps)
            gaps = held | self._moved(m, held, seg[first + 1 + copy], copy)
        dropped = Signal(lanes, reset_less=True)
        m.d.sync += dropped.eq(gaps | ~lanes_below(m, edge, lanes, name="below_edge"))
        m.d.comb += self.dropped.eq(dropped)
        return m

    def _moved(self, m: Module, gaps: Value, seg: Value, copy: int) -> Value:
        """Return `gaps`, 2**copy segments further right."""
        for index, bit in enumerate(seg):
            distance = min(1 << (index + copy), self.lanes)
            stage = Signal(self.lanes, name=f"moved_{copy}_{index}")
            m.d.comb += stage.eq(Mux(bit, Cat(Const(0, distance), gaps), gaps))
            gaps = stage
        return gaps
