"""Performance counters; which event feeds which counter follows from the counters' names."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.spec.csr import COUNTER_WIDTH, COUNTERS, Counter

__all__ = ["EXEC_EVENTS", "INCREMENTS", "LOAD_EVENTS", "STORE_EVENTS", "PerformanceCounters"]

BYTES_WIDTH = 16
RETIRE_WIDTH = 3

_DMA_EVENTS = data.StructLayout({"busy": 1, "dram": 1, "port": 1, "bytes": BYTES_WIDTH})
LOAD_EVENTS = _DMA_EVENTS
STORE_EVENTS = _DMA_EVENTS
EXEC_EVENTS = data.StructLayout({"gemm": 1, "stos": 1, "vec": 1, "port": 1, "drain": 1})
"""What the units report each cycle; ``load.busy`` feeds counter LOAD_BUSY, and so on."""


def _width(counter: Counter) -> int:
    if counter.name.endswith("_BYTES"):
        return BYTES_WIDTH
    return RETIRE_WIDTH if counter is Counter.INSTRUCTIONS else 1


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
                "values": Out(data.ArrayLayout(COUNTER_WIDTH, len(COUNTERS))),
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
