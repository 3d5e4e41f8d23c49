"""Performance counters; which event feeds which counter follows from the counters' names."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.exec_unit import EXEC_EVENTS
from hw.layouts import DMA_EVENTS_LAYOUT, Lanes
from hw.spec.csr import COUNTER_WIDTH, COUNTERS, Counter
from hw.spec.isa import Queue

__all__ = ["EVENTS", "INCREMENTS", "PerformanceCounters"]

RETIRE_WIDTH = len(Queue).bit_length()
"""Bits of the instructions that can end in one cycle: one per queue, or HEADER or HALT."""

EVENTS = {Queue.LOAD: DMA_EVENTS_LAYOUT, Queue.EXEC: EXEC_EVENTS, Queue.STORE: DMA_EVENTS_LAYOUT}
"""What each unit reports every cycle; the load unit's ``busy`` feeds counter LOAD_BUSY, and so on."""


def _width(counter: Counter) -> int:
    if counter is Counter.INSTRUCTIONS:
        return RETIRE_WIDTH
    for queue, layout in EVENTS.items():
        event = counter.name.removeprefix(f"{queue.name}_").lower()
        if event != counter.name.lower() and event in layout.members:
            return Shape.cast(layout.members[event]).width
    return 1


INCREMENTS = data.StructLayout({counter.name: unsigned(_width(counter)) for counter in Counter})
"""What each counter grows by in a cycle."""


class PerformanceCounters(wiring.Component):
    """The counter bank.

    Members
    -------
    clear : In(1)
        Set all counters to 0; wins over `enable`.
    enable : In(1)
        Count in this cycle.
    increments : In(INCREMENTS)
        Growth of each counter.
    values : Out(ArrayLayout)
        48 bits each, two cycles behind `increments`; they wrap around.

    All counters are 0 after reset.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "clear": In(1),
                "enable": In(1),
                "increments": In(INCREMENTS),
                "values": Out(Lanes(COUNTER_WIDTH, len(COUNTERS))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # One register stage keeps the units' event logic out of the counters' carry chains.
        pending = Signal(INCREMENTS)
        with m.If(self.clear):
            m.d.sync += [pending.eq(0), self.values.eq(0)]
        with m.Else():
            m.d.sync += pending.eq(0)
            with m.If(self.enable):
                m.d.sync += pending.eq(self.increments)
            for counter in Counter:
                m.d.sync += self.values[counter].eq(self.values[counter] + pending[counter.name])
        return m
