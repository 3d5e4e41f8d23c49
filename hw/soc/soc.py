"""The system on a board: accelerator, memory, host link and lights behind one clock, one reset and a serial line."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from hw.accelerator import Accelerator
from hw.control import UNITS
from hw.soc.axi_memory import AxiMemory
from hw.soc.host_link import HostLink
from hw.soc.uart import UARTReceiver, UARTTransmitter
from hw.spec.config import AcceleratorConfig

__all__ = ["Soc", "bit_clocks_for"]

MAX_BAUD_ERROR = 0.02
"""Of a bit's length; two ends that are both off by this still agree over the ten bits of a byte."""


def bit_clocks_for(clock_hz: int, baud: int) -> int:
    """Return the clock cycles of one bit.

    Raises
    ------
    ValueError
        If the clock cannot make the rate to within :data:`MAX_BAUD_ERROR`.
    """
    if baud < 1:
        raise ValueError(f"baud={baud} must be positive")
    cycles = max(1, round(clock_hz / baud))
    error = abs(cycles * baud / clock_hz - 1)
    if error > MAX_BAUD_ERROR:
        raise ValueError(
            f"baud={baud} with a clock of {clock_hz} Hz: {cycles} cycles a bit are {100 * error:.1f} % off, and "
            f"{100 * MAX_BAUD_ERROR:.0f} % are allowed; take a lower rate"
        )
    return cycles


class Soc(wiring.Component):
    """Everything on the chip but the clock generator.

    Parameters
    ----------
    config : AcceleratorConfig
    memory_bytes : int
        On-chip memory at address 0 of the host's and of the accelerator's bus, a multiple of 1 KiB.
    clock_hz : int
        Frequency of the clock, which the identity words tell the host.
    bit_clocks : int
        Clock cycles per bit of the serial line (:func:`bit_clocks_for`).
    light_clocks : int
        How long a light stays on after what it shows; default: 1/16 s.

    Members
    -------
    rx : In(1), tx : Out(1)
        Serial line.
    active : Out(1)
        A unit of the accelerator began or ended an instruction a short time ago.
    irq : Out(1)
        The accelerator's interrupt: done or error, as far as the host enabled them.
    link_error : Out(1)
        A byte or frame was damaged or refused a short time ago.

    Reset resets all but the memory's content.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        memory_bytes: int,
        *,
        clock_hz: int,
        bit_clocks: int,
        light_clocks: int | None = None,
    ) -> None:
        self.config, self.memory_bytes, self.clock_hz, self.bit_clocks = config, memory_bytes, clock_hz, bit_clocks
        self.light_clocks = light_clocks or max(2, clock_hz // 16)
        super().__init__(
            {"rx": In(1, init=1), "tx": Out(1, init=1), "active": Out(1), "irq": Out(1), "link_error": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.accelerator = accelerator = Accelerator(config)
        m.submodules.memory = memory = AxiMemory(
            self.memory_bytes, addr_width=config.axi_addr_width, data_width=config.axi_data_width
        )
        m.submodules.link = link = HostLink(self.memory_bytes, clock_hz=self.clock_hz, bit_clocks=self.bit_clocks)
        m.submodules.receiver = receiver = UARTReceiver(self.bit_clocks)
        m.submodules.transmitter = transmitter = UARTTransmitter(self.bit_clocks)
        connect(m, link.memory, memory.host)
        connect(m, receiver.o, link.i)
        connect(m, link.o, transmitter.i)
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]
        for prefix, bus in (("s_axil", link.csr), ("m_axi", memory.read), ("m_axi", memory.write)):
            for name, member in bus.signature.members.items():
                inside, port = getattr(bus, name), getattr(accelerator, f"{prefix}_{name}")
                m.d.comb += port.eq(inside) if member.flow is Out else inside.eq(port)

        traces = [getattr(accelerator, f"trace_{unit}_{what}") for unit in UNITS.values() for what in ("start", "done")]
        self._light(m, "active", Cat(traces).any())
        self._light(m, "link_error", link.error | receiver.framing_error)
        m.d.comb += self.irq.eq(accelerator.irq)
        return m

    def _light(self, m: Module, name: str, event: ValueLike) -> None:
        """Drive an output that stays high for `light_clocks` after each event."""
        left = Signal(range(self.light_clocks), name=f"{name}_left")
        light = getattr(self, name)
        with m.If(event):
            m.d.sync += [left.eq(self.light_clocks - 1), light.eq(1)]
        with m.Elif(left == 0):
            m.d.sync += light.eq(0)
        with m.Else():
            m.d.sync += left.eq(left - 1)
