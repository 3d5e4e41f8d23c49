"""The array alone on a board, between registers: shows what its own logic allows, in ports and clock."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.array import Array
from hw.spec.config import AcceleratorConfig

__all__ = ["ArrayHarness"]


class ArrayHarness(wiring.Component):
    """An array whose inputs are a shift register's bits and whose outputs another one takes, now and then.

    It has the ports of :class:`~hw.soc.soc.Soc`, so a board takes either.  There is no use for it but place and route:
    every path into the array begins, and every path out of it ends, at a register that may be placed anywhere.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    rx : In(1), tx : Out(1)
        Ends of the shift registers.
    active : Out(1)
        A row of results comes out.
    irq, link_error : Out(1)
        Low.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {"rx": In(1, init=1), "tx": Out(1, init=1), "active": Out(1), "irq": Out(1), "link_error": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.array = array = Array(self.config)
        members = [(member.flow, Value.cast(port)) for _, member, port in array.signature.flatten(array)]
        inputs = Cat(port for flow, port in members if flow is In)
        outputs = Cat(port for flow, port in members if flow is Out)
        given, taken = Signal(len(inputs)), Signal(len(outputs))
        load = Signal()
        m.d.comb += [inputs.eq(given), self.tx.eq(taken[0])]
        m.d.sync += [
            given.eq(Cat(self.rx, given[:-1])),
            load.eq(given[-1]),
            taken.eq(Mux(load, outputs, taken >> 1)),
            self.active.eq(array.out_valid),
        ]
        return m
