"""UART, 8N1: receiver with a filtered line and mid-bit sampling, transmitter."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

__all__ = ["MIN_BIT_CLOCKS", "UARTReceiver", "UARTTransmitter"]

MIN_BIT_CLOCKS = 4
DATA_BITS = 8


def _check(bit_clocks: int) -> None:
    if bit_clocks < MIN_BIT_CLOCKS:
        raise ValueError(f"bit_clocks={bit_clocks}: a bit takes at least {MIN_BIT_CLOCKS} clock cycles")


class UARTReceiver(Component):
    """Turns a line into bytes.

    The line passes two synchronising registers and a majority vote over three samples, which removes glitches of one
    cycle.  Each bit is sampled in its middle, counted from the edge of the start bit.  A start bit that is gone in
    its middle is noise; a byte whose stop bit is 0 is dropped and the receiver waits for an idle line (so a break
    gives one error and no bytes).

    Parameters
    ----------
    bit_clocks : int
        Clock cycles per bit, at least :data:`MIN_BIT_CLOCKS`.  From 16 on, a rate 3 % off is received.

    Members
    -------
    rx : In(1)
        The line, asynchronous; idle high.
    o : Out(stream of 8 bits)
        Bytes, least significant bit first on the line; always ready, so ``valid`` is high for one cycle, about half a
        bit before the end of the stop bit.
    framing_error : Out(1)
        High for one cycle instead of ``o.valid`` if the stop bit was 0.

    Reset forgets a byte that is under way.

    Raises
    ------
    ValueError
        If `bit_clocks` is too small.
    """

    def __init__(self, bit_clocks: int) -> None:
        _check(bit_clocks)
        self.bit_clocks = bit_clocks
        super().__init__(
            {
                "rx": In(1, init=1),
                "o": Out(stream.Signature(DATA_BITS, always_ready=True)),
                "framing_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        samples = Signal(4, init=-1)  # [0], [1] synchronise; [1], [2], [3] vote
        line = Signal(init=1)
        first, second, third = samples[1], samples[2], samples[3]
        m.d.sync += [
            samples.eq(Cat(self.rx, samples[:3])),
            line.eq((first & second) | (second & third) | (first & third)),
        ]

        timer = Signal(range(self.bit_clocks))
        bits = Signal(range(DATA_BITS))
        tick = Signal()
        m.d.comb += tick.eq(timer == 0)
        m.d.sync += timer.eq(timer - 1)
        with m.If(tick):
            m.d.sync += timer.eq(self.bit_clocks - 1)
        m.d.sync += [self.o.valid.eq(0), self.framing_error.eq(0)]
        with m.FSM(name="receiver"):
            with m.State("IDLE"):
                # The edge is seen one cycle after the line shows it.
                m.d.sync += [timer.eq(self.bit_clocks // 2 - 1), bits.eq(0)]
                with m.If(~line):
                    m.next = "START"
            with m.State("START"), m.If(tick):
                with m.If(line):
                    m.next = "IDLE"
                with m.Else():
                    m.next = "DATA"
            with m.State("DATA"), m.If(tick):
                m.d.sync += [self.o.payload.eq(Cat(self.o.payload[1:], line)), bits.eq(bits + 1)]
                with m.If(bits == DATA_BITS - 1):
                    m.next = "STOP"
            with m.State("STOP"), m.If(tick):
                m.d.sync += [self.o.valid.eq(line), self.framing_error.eq(~line)]
                with m.If(line):
                    m.next = "IDLE"
                with m.Else():
                    m.next = "BREAK"
            with m.State("BREAK"), m.If(line):
                m.next = "IDLE"
        return m


class UARTTransmitter(Component):
    """Puts bytes on a line: start bit, 8 data bits with the least significant first, one stop bit.

    Parameters
    ----------
    bit_clocks : int
        Clock cycles per bit, at least :data:`MIN_BIT_CLOCKS`.

    Members
    -------
    i : In(stream of 8 bits)
        ``ready`` is high while no byte is under way, its stop bit included.  The start bit begins in the cycle after
        a byte is taken, and bytes that wait follow each other every ``10 * bit_clocks + 1`` cycles.
    tx : Out(1)
        The line, a register; idle high, also in reset.

    Raises
    ------
    ValueError
        If `bit_clocks` is too small.
    """

    def __init__(self, bit_clocks: int) -> None:
        _check(bit_clocks)
        self.bit_clocks = bit_clocks
        super().__init__({"i": In(stream.Signature(DATA_BITS)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timer = Signal(range(self.bit_clocks))
        left = Signal(range(DATA_BITS + 3))  # bits whose end is still to come
        rest = Signal(DATA_BITS + 1)
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(self.i.ready):
            m.d.sync += timer.eq(self.bit_clocks - 1)
            with m.If(self.i.valid):
                m.d.sync += [self.tx.eq(0), rest.eq(Cat(self.i.payload, Const(1, 1))), left.eq(DATA_BITS + 2)]
        with m.Else():
            m.d.sync += timer.eq(timer - 1)
            with m.If(timer == 0):
                m.d.sync += [
                    timer.eq(self.bit_clocks - 1),
                    self.tx.eq(rest[0]),
                    rest.eq(Cat(rest[1:], Const(1, 1))),
                    left.eq(left - 1),
                ]
        return m
