"""Pooled bytes beside a map: collected while the map is written, written in one piece behind it."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from hw.layouts import pixels, range_width
from hw.operand_request import POINTER_WIDTH
from hw.spec.config import AcceleratorConfig

__all__ = ["PooledBytes"]


class PooledBytes(Component):
    """Collect one byte per channel, then put them out as vectors of ``cols`` bytes, one per cycle.

    While a map's rows come, its writes may need every cycle of the result port, so bytes of pooling wait here.  There
    is room for as many as there are parameter entries, which no instruction exceeds: every channel has one.

    The first vector comes LATENCY cycles after the last byte, the others follow in the cycles after it; the last one
    holds what is left.  Bytes of the next instruction may come once that is out.  Reset drops what was collected.

    Parameters
    ----------
    config : AcceleratorConfig

    Attributes
    ----------
    valid : in
        A byte is on ``q``, at most one per cycle.
    q : in
    last : in
        With ``valid``: it is the instruction's last one.
    base : in
        Address of the first byte; does not change between the last byte and the last vector.
    out_valid : out
        A vector is to be written.
    out_addr, out_count, out_data : out
        Its first byte's address, and the bytes from lane 0 on that count; ``out_addr`` with ``beyond`` as well.
    final : out
        With ``out_valid``: it is the instruction's last one.
    beyond : out
        Instead of ``out_valid``: the vector does not lie inside the scratchpad.
    """

    LATENCY = 3

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.depth = max(2, -(-config.param_entries // config.cols))
        super().__init__(
            {
                "valid": In(1),
                "q": In(signed(8)),
                "last": In(1),
                "base": In(signed(POINTER_WIDTH)),
                "out_valid": Out(1),
                "out_addr": Out(signed(POINTER_WIDTH)),
                "out_count": Out(range_width(config.cols)),
                "out_data": Out(pixels(config.cols)),
                "final": Out(1),
                "beyond": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the memory, the place of the next byte, and the walk over the vectors."""
        m = Module()
        cols = self.config.cols
        m.submodules.bytes = memory = Memory(shape=data.ArrayLayout(8, cols), depth=self.depth, init=[])
        write, read = memory.write_port(granularity=1), memory.read_port()

        # --- collect
        place = Signal(cols, init=1)  # lane of the next byte, one bit set
        lane = Signal(range(cols))
        line = Signal(range(self.depth))
        full, end = Signal(), Signal()
        count = Signal(range_width(cols))  # bytes of the last vector
        last_line = Signal.like(line)
        m.d.comb += [
            full.eq(place[-1]),
            end.eq(self.valid & self.last),
            write.addr.eq(line),
            write.en.eq(Mux(self.valid, place, 0)),
            Cat(write.data[index] for index in range(cols)).eq(self.q.as_unsigned().replicate(cols)),
        ]
        with m.If(end):
            m.d.sync += [place.eq(1), lane.eq(0), line.eq(0), count.eq(lane + 1), last_line.eq(line)]
        with m.Elif(self.valid):
            m.d.sync += [place.eq(place.rotate_left(1)), lane.eq(Mux(full, 0, lane + 1)), line.eq(line + full)]

        # --- put out: read; the vector is there; it is registered
        walking, next_line = Signal(), Signal.like(line)
        next_addr = Signal(signed(POINTER_WIDTH))
        last_read = Signal()
        m.d.comb += [last_read.eq(next_line == last_line), read.en.eq(walking), read.addr.eq(next_line)]
        with m.If(end):
            m.d.sync += [walking.eq(1), next_line.eq(0), next_addr.eq(self.base)]
        with m.Elif(walking):
            m.d.sync += [walking.eq(~last_read), next_line.eq(next_line + 1), next_addr.eq(next_addr + cols)]
        there, there_last = Signal(), Signal()
        addr, there_count = Signal(signed(POINTER_WIDTH)), Signal.like(count)
        m.d.sync += [
            there.eq(walking),
            there_last.eq(last_read),
            addr.eq(next_addr),
            there_count.eq(Mux(last_read, count, cols)),
        ]
        outside = Signal()
        m.d.comb += outside.eq(addr + there_count > self.config.act_bytes)
        m.d.sync += [
            self.out_valid.eq(there & ~outside),
            self.beyond.eq(there & outside),
            self.final.eq(there_last),
            self.out_addr.eq(addr),
            self.out_count.eq(there_count),
            *(self.out_data[index].eq(read.data[index].as_signed()) for index in range(cols)),
        ]
        return m
