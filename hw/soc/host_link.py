"""Host link: takes the request frames of :mod:`hw.spec.link`, carries them out and answers."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.crc import catalog
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from hw.axi import AXI4LiteSignature
from hw.select import select
from hw.soc.axi_memory import HOST_BITS, HostPortSignature
from hw.soc.link_bus import Area, LinkBus
from hw.spec.csr import CSR_ADDR_WIDTH
from hw.spec.link import (
    CRC_BYTES,
    CSR_BASE,
    CSR_BYTES,
    GAP_BITS,
    ID_BASE,
    ID_BYTES,
    MAX_PAYLOAD,
    MEMORY_BASE,
    REQUEST_HEADER,
    REQUEST_SYNC,
    RESPONSE_HEADER,
    RESPONSE_SYNC,
    WORD_BYTES,
    Command,
    Status,
    identity,
)

__all__ = ["HEADER_LAYOUT", "HostLink"]

HEADER_LAYOUT = data.StructLayout({"command": 8, "sequence": 8, "address": 32, "length": 16})
"""The request's header, bit for bit :data:`hw.spec.link.REQUEST_HEADER`."""

_HEAD_BYTES = 1 + RESPONSE_HEADER.size  # of a response, with its sync byte


class HostLink(Component):
    """Bus master at the end of a serial line: one request at a time, answered after it is done.

    Nothing here waits for ever: a frame that stops is forgotten after `gap_clocks`, and the memory and the registers
    always answer.

    Parameters
    ----------
    memory_bytes : int
        Memory from address 0, a multiple of 4.
    clock_hz, bit_clocks : int
        What the identity words say of the clock and the line.
    gap_clocks : int
        Clock cycles between two bytes of a frame at most; default :data:`~hw.spec.link.GAP_BITS` bits.

    Members
    -------
    i : In(stream of 8 bits)
        Bytes received, at least 4 cycles apart; always ready.
    o : Out(stream of 8 bits)
        Bytes to send; ``ready`` while the line is idle.
    memory : Out(HostPortSignature)
    csr : Out(AXI4LiteSignature)
    error : Out(1)
        High for one cycle when a frame was forgotten or is answered with another status than OK.

    Reset forgets the request under way and the last sequence number.
    """

    def __init__(self, memory_bytes: int, *, clock_hz: int, bit_clocks: int, gap_clocks: int | None = None) -> None:
        self.memory_bytes = memory_bytes
        self.identity = identity(clock_hz=clock_hz, bit_clocks=bit_clocks, memory_bytes=memory_bytes)
        self.gap_clocks = gap_clocks or GAP_BITS * bit_clocks
        super().__init__(
            {
                "i": In(stream.Signature(8, always_ready=True)),
                "o": Out(stream.Signature(8)),
                "memory": Out(HostPortSignature(memory_bytes // WORD_BYTES)),
                "csr": Out(AXI4LiteSignature(CSR_ADDR_WIDTH, HOST_BITS)),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = catalog.CRC32_ISO_HDLC(data_width=8).create()
        m.submodules.bus = bus = LinkBus(self.memory_bytes // WORD_BYTES, list(self.identity.values()))
        connect(m, bus.memory, flipped(self.memory))
        connect(m, bus.csr, flipped(self.csr))
        m.submodules.buffer = buffer = Memory(shape=HOST_BITS, depth=MAX_PAYLOAD // WORD_BYTES, init=[])
        write, read = buffer.write_port(granularity=8), buffer.read_port()

        header = Signal(HEADER_LAYOUT)
        count = Signal(range(MAX_PAYLOAD + 1))  # bytes of this part of the frame so far; words of a transfer
        status = Signal(8)
        words = header.length[2:]
        is_read, is_write = header.command == Command.READ, header.command == Command.WRITE

        gap = Signal(range(self.gap_clocks), init=self.gap_clocks - 1)
        m.d.sync += [gap.eq(gap - 1), self.error.eq(0)]
        with m.If(self.i.valid):
            m.d.sync += gap.eq(self.gap_clocks - 1)

        def give_up_after_gap() -> None:
            with m.If(~self.i.valid & (gap == 0)):
                m.d.sync += self.error.eq(1)
                m.next = "SYNC"

        # Buffer: bytes of a WRITE or words of a READ go in, words of a WRITE or bytes of a READ come out.
        m.d.comb += [
            write.addr.eq(count[2:]),
            write.data.eq(self.i.payload.replicate(WORD_BYTES)),
            read.addr.eq(count[2:]),
        ]
        sent = Signal(8)  # the byte looked up: a register, since the CRC behind a block RAM would take too long
        m.d.sync += sent.eq(select(count[:2], [read.data.word_select(index, 8) for index in range(WORD_BYTES)]))

        legal, matches, inside, area = Signal(), Signal(), Signal(), Signal(Area)
        end = Signal(33)
        areas = {Area.MEMORY: (MEMORY_BASE, self.memory_bytes), Area.CSR: (CSR_BASE, CSR_BYTES)}
        areas[Area.IDENTITY] = (ID_BASE, ID_BYTES)
        last = Signal(data.StructLayout({"sequence": 8, "done": 1}))  # of the last request with a correct CRC
        place = Signal.like(bus.request.p.word)
        m.d.comb += [
            bus.request.p.area.eq(area),
            bus.request.p.write.eq(is_write),
            bus.request.p.word.eq(place),
            bus.request.p.data.eq(read.data),
        ]
        head = Signal(8 * _HEAD_BYTES)
        with m.FSM(name="link"):
            with m.State("SYNC"):
                m.d.comb += crc.start.eq(1)
                m.d.sync += count.eq(0)
                with m.If(self.i.valid & (self.i.payload == REQUEST_SYNC)):
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [crc.data.eq(self.i.payload), crc.valid.eq(self.i.valid)]
                with m.If(self.i.valid):
                    m.d.sync += [header.eq(Cat(header.as_value()[8:], self.i.payload)), count.eq(count + 1)]
                    with m.If(count == REQUEST_HEADER.size - 1):
                        m.next = "LENGTH"
                give_up_after_gap()
            with m.State("LENGTH"):
                lawful = (words != 0) & (header.length[:2] == 0) & (header.length <= MAX_PAYLOAD)
                m.d.sync += [legal.eq(lawful), count.eq(0)]
                m.next = "CRC"
                with m.If(is_write & lawful):
                    m.next = "PAYLOAD"
            with m.State("PAYLOAD"):
                m.d.comb += [crc.data.eq(self.i.payload), crc.valid.eq(self.i.valid)]
                with m.If(self.i.valid):
                    m.d.comb += write.en.eq(1 << count[:2])
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == header.length - 1):
                        m.d.sync += count.eq(0)
                        m.next = "CRC"
                give_up_after_gap()
            with m.State("CRC"):
                m.d.comb += [crc.data.eq(self.i.payload), crc.valid.eq(self.i.valid)]
                m.d.sync += [inside.eq(0), status.eq(Status.OK)]
                with m.If(self.i.valid):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == CRC_BYTES - 1):
                        m.next = "SUM"
                give_up_after_gap()
            with m.State("SUM"):
                m.d.sync += [matches.eq(crc.match_detected), end.eq(header.address + header.length), count.eq(0)]
                m.next = "AREA"
            with m.State("AREA"):
                for which, (base, size) in areas.items():
                    allowed = is_read if which is Area.IDENTITY else 1
                    # Bases are multiples of 4 and sizes less than 1 GiB, so the two highest bits tell areas apart.
                    with m.If(header.address[30:] == base >> 30):
                        m.d.sync += [area.eq(which), inside.eq((end <= base + size) & allowed)]
                m.next = "CHECK"
            with m.State("CHECK"):
                is_ping = header.command == Command.PING
                m.next = "ANSWER"
                with m.If(~matches):
                    m.d.sync += status.eq(Status.BAD_CRC)
                with m.Elif(~(is_ping | is_read | is_write)):
                    m.d.sync += status.eq(Status.BAD_COMMAND)
                with m.Elif(~is_ping & ~legal):
                    m.d.sync += status.eq(Status.BAD_LENGTH)
                with m.Elif(~is_ping & (~inside | header.address[:2].any())):
                    m.d.sync += status.eq(Status.BAD_ADDRESS)
                with m.Elif(~is_ping & ~(is_write & last.done & (last.sequence == header.sequence))):
                    m.d.sync += place.eq(header.address[2:30])
                    m.next = "FETCH"

            with m.State("FETCH"):
                m.next = "TRANSFER"
            with m.State("TRANSFER"):
                m.d.comb += bus.request.valid.eq(1)
                with m.If(bus.request.ready):
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += write.data.eq(bus.answer.p.data)
                with m.If(bus.answer.valid):
                    m.d.comb += write.en.eq(is_read.replicate(WORD_BYTES))
                    m.d.sync += [count.eq(count + WORD_BYTES), place.eq(place + 1)]
                    m.next = "FETCH"
                    with m.If(bus.answer.p.error):
                        m.d.sync += status.eq(Status.BUS_ERROR)
                        m.next = "ANSWER"
                    with m.Elif(count[2:] == words - 1):
                        m.next = "ANSWER"

            with m.State("ANSWER"):
                good = status == Status.OK
                length = Mux(good & is_read, header.length, 0)
                m.d.comb += crc.start.eq(1)
                m.d.sync += [
                    head.eq(Cat(Const(RESPONSE_SYNC, 8), status, header.sequence, length)),
                    count.eq(0),
                    self.error.eq(~good),
                ]
                with m.If(matches):
                    m.d.sync += [
                        last.sequence.eq(header.sequence),
                        last.done.eq(good & (header.command != Command.PING)),
                    ]
                m.next = "HEAD"
            with m.State("HEAD"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.eq(head[:8]),
                    crc.data.eq(self.o.payload),
                    crc.valid.eq(self.o.ready & (count != 0)),
                ]
                with m.If(self.o.ready):
                    m.d.sync += [head.eq(head >> 8), count.eq(count + 1)]
                    with m.If(count == _HEAD_BYTES - 1):
                        m.d.sync += count.eq(0)
                        m.next = "TAIL"
                        with m.If((status == Status.OK) & is_read):
                            m.next = "LOOK"
            with m.State("LOOK"):
                m.next = "PICK"
            with m.State("PICK"):
                m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.eq(sent),
                    crc.data.eq(self.o.payload),
                    crc.valid.eq(self.o.ready),
                ]
                with m.If(self.o.ready):
                    m.d.sync += count.eq(count + 1)
                    m.next = "LOOK"
                    with m.If(count == header.length - 1):
                        m.next = "TAIL"
            with m.State("TAIL"):
                m.d.sync += [head.eq(crc.crc), count.eq(0)]
                m.next = "TRAILER"
            with m.State("TRAILER"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(head[:8])]
                with m.If(self.o.ready):
                    m.d.sync += [head.eq(head >> 8), count.eq(count + 1)]
                    with m.If(count == CRC_BYTES - 1):
                        m.next = "END"
            with m.State("END"), m.If(self.o.ready):
                m.next = "SYNC"
        return m
