"""Instruction fetch: prefetches the program over AXI, checks every instruction's frame, and fills the queues."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from hw.axi import AXI4ReadSignature, Burst, Cache
from hw.layouts import PC_WIDTH, REGIONS_LAYOUT, table_layout, unit_payload
from hw.ports import ErrorSignature
from hw.select import select
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import REGION_COUNT, ErrorCause
from hw.spec.isa import (
    HALT,
    HEADER,
    INSTRUCTION_BYTES,
    ISA_VERSION,
    OPCODES,
    QUEUE_OF,
    Opcode,
    Queue,
    Region,
)

__all__ = ["Fetcher"]

PREFETCH = 4
"""Instructions that may be on their way or waiting to be decoded."""

PAGE_BITS = 12
"""Regions are aligned to 4 KiB, so no burst of one instruction crosses a 4 KiB boundary."""

_BITS = INSTRUCTION_BYTES * 8
_SHIFT = INSTRUCTION_BYTES.bit_length() - 1


class Fetcher(wiring.Component):
    """Reads instruction pc from region CONST at ``offset + 64*pc``, one AXI burst of 64 bytes each.

    Up to :data:`PREFETCH` bursts are open at a time; nothing beyond `count` instructions or beyond the region is
    read.  With a 1024-bit bus the bursts are narrow (one transfer of 64 bytes).  A bus error stops the program only
    when the instruction it hit is reached, so prefetching past HALT is harmless.

    Errors (``pc``; ``info``): MISALIGNED, a region's base is not a multiple of 4 KiB or `offset` not one of 64 (0; the
    value's low half); DRAM_RANGE, a region ends beyond the address space (0; base) or an instruction lies outside
    region CONST (its index; its offset); AXI_READ (index; address); TRUNCATED, no HALT among the first
    min(count, HEADER.count) (that number; that number); NO_HEADER (0; low word); HASH_MISMATCH (0; low half of the
    program's hash); BAD_OPCODE (index; opcode), HEADER anywhere but first included; BAD_FIELD, reserved bits set, a
    token waited for from or given to its own queue, or any by HEADER or HALT (index; low word).

    Parameters
    ----------
    config
        AXI widths and the identity to compare HEADER with.

    Members
    -------
    start : In(1)
        Begin at pc 0; only after reset or while `halted`.
    abort : In(1)
        Request nothing new; responses still to come are taken and dropped.
    regions, offset, count : In
        Register values; constant while running.
    axi : Out(AXI4ReadSignature)
    queues : Out(stream), one per :class:`~hw.spec.isa.Queue`: ``load``, ``exec``, ``store``
    halted : Out(1)
        HALT was reached, all instructions have been handed on and no bus transfer is open; falls with `start`.
    header : Out(1)
        One cycle when HEADER has been accepted.
    stalled : Out(1)
        Nothing changes here unless a queue makes room: `halted`, or the instruction at hand waits for a full queue.
    starved : Out(1)
        Waits for DRAM.
    idle : Out(1)
        No bus transfer is open and nothing fetched is left to decode or drop.
    progress : Out(1)
        A bus transfer or an instruction moved.
    pc : Out(32)
        Index of the instruction being fetched or decoded.
    error : Out(ErrorSignature)

    Idle after reset.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.beat_bytes = min(config.axi_bytes, INSTRUCTION_BYTES)
        super().__init__(
            {
                "start": In(1),
                "abort": In(1),
                "regions": In(REGIONS_LAYOUT),
                "offset": In(32),
                "count": In(32),
                "axi": Out(AXI4ReadSignature(config.axi_addr_width, config.axi_data_width)),
                **{queue.name.lower(): Out(stream.Signature(unit_payload())) for queue in Queue},
                "halted": Out(1),
                "header": Out(1),
                "stalled": Out(1),
                "starved": Out(1),
                "idle": Out(1),
                "progress": Out(1),
                "pc": Out(PC_WIDTH),
                "error": Out(ErrorSignature()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beats = INSTRUCTION_BYTES // self.beat_bytes
        m.submodules.beats = fifo = SyncFIFOBuffered(width=self.beat_bytes * 8 + 1, depth=PREFETCH * beats)
        running, popped = Signal(), Signal()
        reserved = Signal(range(PREFETCH + 1))
        m.d.comb += self.idle.eq(reserved == 0)
        self._request(m, reserved, running, popped)
        self._receive(m, fifo)
        self._decode(m, fifo, running, popped)
        m.d.comb += self.progress.eq(
            (self.axi.arvalid & self.axi.arready)
            | (self.axi.rvalid & self.axi.rready)
            | Cat(getattr(self, q.name.lower()).valid & getattr(self, q.name.lower()).ready for q in Queue).any()
        )
        return m

    def _place(self, pc: Value) -> Value:
        """Return where instruction pc is in the region, in instructions; `offset` is aligned, or nothing is fetched."""
        return self.offset[_SHIFT:] + pc

    def _in_region(self, place: Value) -> Value:
        return place < self.regions[Region.CONST].size[_SHIFT:]

    def _address(self, place: Value) -> Value:
        width = self.config.axi_addr_width
        return (self.regions[Region.CONST].base[:width] + place.shift_left(_SHIFT))[:width]

    def _request(self, m: Module, reserved: Signal, running: Signal, popped: Signal) -> None:
        """Issue one burst per instruction, with room for its beats reserved until they have been decoded."""
        axi = self.axi
        pc = Signal(PC_WIDTH)
        place = Signal(self._place(pc).shape(), name="request_place")
        issue = Signal()
        m.d.comb += issue.eq(
            running
            & ~self.abort
            & (~axi.arvalid | axi.arready)
            & (reserved != PREFETCH)
            & (pc < self.count)
            & self._in_region(place)
        )
        m.d.sync += reserved.eq(reserved + issue - popped)
        with m.If(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        with m.If(issue):
            m.d.sync += [axi.arvalid.eq(1), axi.araddr.eq(self._address(place)), pc.eq(pc + 1), place.eq(place + 1)]
        with m.If(self.start):
            m.d.sync += [pc.eq(0), place.eq(self._place(Const(0)))]
        m.d.comb += [
            axi.arlen.eq(INSTRUCTION_BYTES // self.beat_bytes - 1),
            axi.arsize.eq((self.beat_bytes - 1).bit_length()),
            axi.arburst.eq(Burst.INCR),
            axi.arcache.eq(Cache.NORMAL_BUFFERABLE),
        ]

    def _receive(self, m: Module, fifo: SyncFIFOBuffered) -> None:
        """Take beats (there is always room) and cut the 64 bytes out of a wider bus."""
        axi = self.axi
        word = axi.rdata
        if self.config.axi_bytes > INSTRUCTION_BYTES:
            half = Signal()
            with m.If(self.start):
                m.d.sync += half.eq(self.offset[_SHIFT])
            with m.Elif(axi.rvalid & axi.rready):
                m.d.sync += half.eq(~half)
            word = select(half, [axi.rdata.word_select(index, _BITS) for index in range(2)])
        m.d.comb += [
            axi.rready.eq(1),
            fifo.w_en.eq(axi.rvalid),
            fifo.w_data.eq(Cat(word, axi.rresp[1])),
        ]

    @staticmethod
    def _known_opcode(word: Value) -> Value:
        opcode = word[: HALT.fields[0].width]
        return Cat(opcode == code for code in Opcode).any()

    @staticmethod
    def _bad_field(word: Value) -> Value:
        """Reserved bits are set, or a token mask names what is impossible."""
        head = data.View(table_layout(HALT), word[: HALT.used])
        bad = []
        for code, table in OPCODES.items():
            own = 1 << QUEUE_OF[code] if code in QUEUE_OF else (1 << len(Queue)) - 1
            wrong = word[table.used :].any() | ((head.wait | head.signal) & own).any()
            bad.append((head.opcode == code) & wrong)
        return Cat(bad).any()

    def _decode(self, m: Module, fifo: SyncFIFOBuffered, running: Signal, popped: Signal) -> None:
        beats = INSTRUCTION_BYTES // self.beat_bytes
        word, failed = Signal(_BITS), Signal()
        beat = Signal(range(max(beats, 2)))
        # The region to check next is there a cycle early, and so is its end.
        chosen = Signal(REGIONS_LAYOUT.elem_shape)
        end = Signal(len(Value.cast(chosen.base + chosen.size)))
        upcoming, offered = Signal(range(REGION_COUNT)), Signal(REGIONS_LAYOUT.elem_shape)  # 0 when all are checked
        m.d.comb += offered.eq(select(upcoming, [item.as_value() for item in self.regions]))
        m.d.sync += [chosen.eq(offered), end.eq(offered.base + offered.size)]
        limit = Signal(32)
        wrong, no_header, bad_opcode, bad_field = Signal(), Signal(), Signal(), Signal()
        # What to do with an instruction that is not wrong; at most one of them is high.
        first, is_halt, for_queue = Signal(), Signal(), Signal(len(Queue))
        shorter = Signal()  # HEADER's count is less than the limit
        blocked = Signal()
        m.d.comb += self.stalled.eq(self.halted | blocked)
        pc = self.pc
        place = Signal(self._place(pc).shape(), name="place")
        header = data.View(table_layout(HEADER), word[: HEADER.used])
        streams = {queue: getattr(self, queue.name.lower()) for queue in Queue}
        for port in streams.values():
            m.d.comb += [port.payload.word.eq(word), port.payload.pc.eq(pc)]

        with m.FSM():

            def fail(cause: ErrorCause, info: Value) -> None:
                m.d.sync += [
                    self.error.valid.eq(1),
                    self.error.cause.eq(cause),
                    self.error.pc.eq(pc),
                    self.error.info.eq(info),
                ]
                m.next = "STOP"

            def drop_beats() -> None:
                m.d.comb += fifo.r_en.eq(1)
                with m.If(fifo.r_rdy):
                    m.d.sync += beat.eq(Mux(beat == beats - 1, 0, beat + 1))
                    m.d.comb += popped.eq(beat == beats - 1)

            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [pc.eq(0), upcoming.eq(1), limit.eq(self.count), self.halted.eq(0)]
                m.d.sync += place.eq(self._place(Const(0)))
                m.next = "REGIONS"
            with m.State("REGIONS"):
                low = chosen.base[:32]
                with m.If(chosen.base[:PAGE_BITS].any()):
                    fail(ErrorCause.MISALIGNED, low)
                with m.Elif(end > (1 << self.config.axi_addr_width)):
                    fail(ErrorCause.DRAM_RANGE, low)
                with m.Elif(upcoming != 0):
                    m.d.sync += upcoming.eq(Mux(upcoming == REGION_COUNT - 1, 0, upcoming + 1))
                with m.Elif(self.offset[:_SHIFT].any()):
                    fail(ErrorCause.MISALIGNED, self.offset)
                with m.Else():
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.comb += running.eq(1)
                m.d.sync += failed.eq(0)
                with m.If(pc >= limit):
                    fail(ErrorCause.TRUNCATED, pc)
                with m.Elif(~self._in_region(place)):
                    fail(ErrorCause.DRAM_RANGE, place.shift_left(_SHIFT))
                with m.Else():
                    m.next = "BEATS"
            with m.State("BEATS"):
                m.d.comb += [running.eq(1), self.starved.eq(~fifo.r_rdy)]
                drop_beats()
                with m.If(fifo.r_rdy):
                    m.d.sync += [
                        word.eq(Cat(word, fifo.r_data[:-1])[self.beat_bytes * 8 :]),
                        failed.eq(failed | fifo.r_data[-1]),
                    ]
                    with m.If(popped):
                        m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += running.eq(1)
                opcode, at_start = header.opcode, pc == 0
                is_header = opcode == Opcode.HEADER
                found_no_header = at_start & ~is_header
                found_opcode = ~self._known_opcode(word) | (~at_start & is_header)
                found_field = self._bad_field(word)
                mismatch = (header.config_hash != self.config.hash) | (header.isa_version != ISA_VERSION)
                any_wrong = Signal()
                m.d.comb += any_wrong.eq(
                    Cat(failed, found_no_header, found_opcode, found_field, at_start & mismatch).any()
                )
                m.d.sync += [
                    wrong.eq(any_wrong),
                    no_header.eq(found_no_header),
                    bad_opcode.eq(found_opcode),
                    bad_field.eq(found_field),
                    first.eq(at_start & ~any_wrong),
                    is_halt.eq((opcode == Opcode.HALT) & ~any_wrong),
                    *(for_queue[queue].eq((opcode == code) & ~any_wrong) for code, queue in QUEUE_OF.items()),
                    shorter.eq(header.count < limit),
                ]
                m.next = "DISPATCH"
            with m.State("DISPATCH"):
                m.d.comb += running.eq(1)
                # Side by side: the ways to the queues' memories are long.
                with m.If(wrong):
                    with m.If(failed):
                        fail(ErrorCause.AXI_READ, self._address(place)[:32])
                    with m.Elif(no_header):
                        fail(ErrorCause.NO_HEADER, word[:32])
                    with m.Elif(bad_opcode):
                        fail(ErrorCause.BAD_OPCODE, header.opcode)
                    with m.Elif(bad_field):
                        fail(ErrorCause.BAD_FIELD, word[:32])
                    with m.Else():
                        fail(ErrorCause.HASH_MISMATCH, header.config_hash[:32])
                with m.If(self.abort):
                    m.next = "STOP"
                with m.If(first & ~self.abort):
                    m.d.comb += self.header.eq(1)
                    m.d.sync += [pc.eq(1), place.eq(place + 1)]
                    with m.If(shorter):
                        m.d.sync += limit.eq(header.count)
                    m.next = "NEXT"
                with m.If(is_halt & ~self.abort):
                    m.next = "DRAIN"
                for queue in Queue:
                    with m.If(for_queue[queue] & ~self.abort):
                        m.d.comb += [streams[queue].valid.eq(1), blocked.eq(~streams[queue].ready)]
                        with m.If(streams[queue].ready):
                            m.d.sync += [pc.eq(pc + 1), place.eq(place + 1)]
                            m.next = "NEXT"
            with m.State("DRAIN"):
                drop_beats()
                with m.If(self.idle):
                    m.d.sync += self.halted.eq(1)
                    m.next = "IDLE"
            with m.State("STOP"):
                drop_beats()
