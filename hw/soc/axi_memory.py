"""On-chip memory behind AXI4, with a second way in for the host."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.axi import AXI4ReadSignature, AXI4WriteSignature, Burst, RegisterSlice, Resp
from hw.select import select

__all__ = ["AxiMemory", "HostPortSignature"]

HOST_BITS = 32
_QUEUE = 8
"""Beats that may be on their way to the read channel: latency of the memory and its registers, and some to spare."""


class HostPortSignature(wiring.Signature):
    """A 32-bit port without handshakes, seen from the host.

    Parameters
    ----------
    words : int
        Words of 4 bytes behind it.

    Members
    -------
    en : Out(1)
        Do a transfer in this cycle.
    we : Out(1)
        It is a write.
    addr : Out
        Word index, less than `words`.
    wdata : Out(32)
    rdata : In(32)
        The word read, READ_LATENCY cycles after ``en``, if no other transfer came between; it holds until the next.
    """

    READ_LATENCY = 4

    def __init__(self, words: int) -> None:
        super().__init__(
            {"en": Out(1), "we": Out(1), "addr": Out(range(words)), "wdata": Out(HOST_BITS), "rdata": In(HOST_BITS)}
        )


class AxiMemory(wiring.Component):
    """AXI4 subordinate on block RAM: one beat per cycle each way at once, in order, any ID.

    First beat of a read 6 cycles after its address, later ones every cycle, across bursts too; write response 2 cycles
    after the last beat.  Every READY, VALID and payload comes from registers or the output of a queue, so
    no path leads from an input to an output.  A read sees every write
    whose response was given before its address.

    Bursts of several beats are INCR of the bus's whole width; single beats may be narrower.  Any other burst is
    answered SLVERR, beats outside the memory DECERR; these read 0 and write nothing.  AxLOCK, AxCACHE, AxPROT, AxQOS
    and AxREGION mean nothing, and WLAST is not looked at: AWLEN counts.

    The host's transfers come first: each one takes a cycle from the bus.

    Parameters
    ----------
    size_bytes : int
        Capacity, a multiple of 1 KiB; any number of KiB, not just a power of two.
    addr_width, data_width, id_width : int
        Of the bus; see :class:`hw.axi.AXI4ReadSignature`.

    Members
    -------
    write : In(AXI4WriteSignature)
    read : In(AXI4ReadSignature)
    host : In(HostPortSignature)

    Reset forgets open bursts and answers; the memory keeps what it holds.

    Raises
    ------
    ValueError
        If a size is out of range.
    """

    def __init__(self, size_bytes: int, *, addr_width: int = 32, data_width: int = 64, id_width: int = 1) -> None:
        if size_bytes < 1024 or size_bytes % 1024 or size_bytes > 1 << min(addr_width, 31):
            raise ValueError(f"size_bytes={size_bytes} must be a multiple of 1024 up to {1 << min(addr_width, 31)}")
        self.size_bytes, self.beat_bytes = size_bytes, data_width // 8
        self.depth = size_bytes // self.beat_bytes
        super().__init__(
            {
                "write": In(AXI4WriteSignature(addr_width, data_width, id_width)),
                "read": In(AXI4ReadSignature(addr_width, data_width, id_width)),
                "host": In(HostPortSignature(size_bytes * 8 // HOST_BITS)),
            }
        )
        if data_width < HOST_BITS:
            raise ValueError(f"data_width={data_width} is less than the host's {HOST_BITS}")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = 8 * self.beat_bytes
        m.submodules.memory = memory = Memory(shape=width, depth=self.depth, init=[])
        write, read = memory.write_port(granularity=8), memory.read_port()
        self._write_channel(m, write)
        self._read_channel(m, read)
        return m

    def _bursts(self, m: Module, channel: str, bus: wiring.PureInterface, advance: Value) -> data.View:
        """Turn an address channel into beats: the present one, which `advance` leaves behind; all registers."""
        beat_bits = (self.beat_bytes - 1).bit_length()
        names = ("id", "addr", "len", "size", "burst")
        layout = data.StructLayout({name: getattr(bus, channel + name).shape() for name in names})
        m.submodules[f"{channel}_slice"] = address = RegisterSlice(layout)
        m.d.comb += [
            address.i.valid.eq(getattr(bus, f"{channel}valid")),
            getattr(bus, f"{channel}ready").eq(address.i.ready),
            [address.i.p[name].eq(getattr(bus, channel + name)) for name in names],
        ]
        beat = Signal(
            data.StructLayout(
                {
                    "valid": 1,
                    "id": layout["id"].shape,
                    "word": range(self.depth),
                    "left": 8,
                    "last": 1,
                    "outside": 1,
                    "unsupported": 1,
                }
            ),
            name=f"{channel}_beat",
        )
        start, request = address.o.p, Signal(layout, name=f"{channel}_request")
        word = request.addr[beat_bits:]
        m.d.comb += request.eq(start)
        with m.If(~beat.valid | (advance & beat.last)):
            m.d.comb += address.o.ready.eq(1)
            m.d.sync += [
                beat.valid.eq(address.o.valid),
                beat.id.eq(request.id),
                beat.word.eq(word),
                beat.left.eq(request.len),
                beat.last.eq(request.len == 0),
                beat.outside.eq(word >= self.depth),
                beat.unsupported.eq(
                    (request.len != 0) & ((request.burst != Burst.INCR) | (request.size != beat_bits))
                ),
            ]
        with m.Elif(advance):
            m.d.sync += [
                beat.word.eq(beat.word + 1),
                beat.left.eq(beat.left - 1),
                beat.last.eq(beat.left == 1),
                beat.outside.eq(beat.outside | (beat.word == self.depth - 1)),
            ]
        return beat

    @staticmethod
    def _resp(beat: data.View) -> Value:
        """Return the answer to a beat; that to a burst of writes is its last beat's."""
        return Mux(beat.unsupported, Resp.SLVERR, Mux(beat.outside, Resp.DECERR, Resp.OKAY))

    def _write_channel(self, m: Module, write: wiring.PureInterface) -> None:
        bus, host = self.write, self.host
        beat_layout = data.StructLayout({"data": len(bus.wdata), "strb": self.beat_bytes})
        m.submodules.w_slice = beats = RegisterSlice(beat_layout)
        m.submodules.b_slice = answers = RegisterSlice(data.StructLayout({"id": len(bus.bid), "resp": 2}))
        advance = Signal()
        beat = self._bursts(m, "aw", bus, advance)
        resp = self._resp(beat)
        m.d.comb += [
            beats.i.valid.eq(bus.wvalid),
            beats.i.p.data.eq(bus.wdata),
            beats.i.p.strb.eq(bus.wstrb),
            bus.wready.eq(beats.i.ready),
            advance.eq(beat.valid & beats.o.valid & ~host.en & (~beat.last | answers.i.ready)),
            beats.o.ready.eq(advance),
            answers.i.valid.eq(beat.valid & beats.o.valid & ~host.en & beat.last),
            answers.i.p.id.eq(beat.id),
            answers.i.p.resp.eq(resp),
            bus.bvalid.eq(answers.o.valid),
            bus.bid.eq(answers.o.p.id),
            bus.bresp.eq(answers.o.p.resp),
            answers.o.ready.eq(bus.bready),
        ]
        # One register before the memory's port; the host's word goes into each place of the line.
        place_bits = (self.beat_bytes * 8 // HOST_BITS - 1).bit_length()
        strobes = HOST_BITS // 8
        m.d.sync += [
            write.addr.eq(Mux(host.en, host.addr[place_bits:], beat.word)),
            write.data.eq(Mux(host.en, host.wdata.replicate(self.beat_bytes // strobes), beats.o.p.data)),
            write.en.eq(0),
        ]
        with m.If(host.en):
            m.d.sync += write.en.eq(host.we.replicate(strobes) << (host.addr[:place_bits] * strobes))
        with m.Elif(advance & (resp == Resp.OKAY)):
            m.d.sync += write.en.eq(beats.o.p.strb)

    def _read_channel(self, m: Module, read: wiring.PureInterface) -> None:
        bus, host = self.read, self.host
        width = len(bus.rdata)
        layout = data.StructLayout({"id": len(bus.rid), "resp": 2, "last": 1})
        m.submodules.queue = queue = SyncFIFO(width=width + layout.size, depth=_QUEUE)
        room = Signal(range(_QUEUE + 1), init=_QUEUE)  # places that neither a beat nor its request takes
        advance = Signal()
        beat = self._bursts(m, "ar", bus, advance)
        m.d.comb += advance.eq(beat.valid & (room != 0) & ~host.en)

        # Address register, memory, data register; what belongs to the beat goes along.
        place_bits = (width // HOST_BITS - 1).bit_length()
        stages = Signal(data.ArrayLayout(layout, 3))
        valid, from_host = Signal(3), Signal(3)
        word = Signal(width)
        m.d.comb += read.en.eq(1)
        m.d.sync += [
            read.addr.eq(Mux(host.en, host.addr[place_bits:], beat.word)),
            word.eq(read.data),
            valid.eq(Cat(advance, valid)),
            from_host.eq(Cat(host.en & ~host.we, from_host)),
            stages[0].id.eq(beat.id),
            stages[0].last.eq(beat.last),
            stages[0].resp.eq(self._resp(beat)),
            stages[1].eq(stages[0]),
            stages[2].eq(stages[1]),
        ]
        m.d.comb += [
            queue.w_en.eq(valid[2]),
            queue.w_data.eq(Cat(stages[2], Mux(stages[2].resp == Resp.OKAY, word, 0))),
            bus.rvalid.eq(queue.r_rdy),
            queue.r_en.eq(bus.rready),
            Cat(bus.rid, bus.rresp, bus.rlast, bus.rdata).eq(queue.r_data),
        ]
        taken = Signal()
        m.d.comb += taken.eq(bus.rvalid & bus.rready)
        m.d.sync += room.eq(room + taken - advance)

        # The host's word.
        place = Signal(place_bits)
        with m.If(host.en):
            m.d.sync += place.eq(host.addr[:place_bits])
        with m.If(from_host[2]):
            m.d.sync += host.rdata.eq(
                select(place, [word.word_select(index, HOST_BITS) for index in range(width // HOST_BITS)])
            )
