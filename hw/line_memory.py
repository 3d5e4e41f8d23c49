"""Memory written in bus beats and read in words: weights and per-channel parameters."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.ram import ANY_READ_DURING_WRITE
from hw.select import select

__all__ = ["LineMemory"]


class LineMemory(wiring.Component):
    """One synchronous 1-read-1-write memory whose lines are as wide as the wider of word and beat.

    Parameters
    ----------
    size_bytes
        Capacity, a power of two, at least one line.
    word_bytes, beat_bytes
        Bytes read and bytes written at once, powers of two.

    Members
    -------
    wr_en : In(1)
        Write beat ``wr_data`` at ``wr_addr`` (counted in beats).
    wr_addr : In, wr_data : In
    rd_en : In(1)
        Read the word at ``rd_addr`` (counted in words).
    rd_addr : In
    rd_data : Out
        The word, READ_LATENCY cycles after ``rd_en``; it holds until the next read.

    What a read gives for a beat that is written in its cycle is undefined; from the next cycle on it is the new one.
    Reset changes neither the memory nor ``rd_data``.

    Raises
    ------
    ValueError
        If a size is no power of two, or the capacity is less than a line.
    """

    READ_LATENCY = 1

    def __init__(self, size_bytes: int, word_bytes: int, beat_bytes: int) -> None:
        for name, value in (("size_bytes", size_bytes), ("word_bytes", word_bytes), ("beat_bytes", beat_bytes)):
            if value < 1 or value & (value - 1):
                raise ValueError(f"{name} must be a power of two, not {value}")
        self.line_bytes = max(word_bytes, beat_bytes)
        if size_bytes < self.line_bytes:
            raise ValueError(f"size_bytes={size_bytes} is less than one line of {self.line_bytes} bytes")
        self.word_bytes, self.beat_bytes = word_bytes, beat_bytes
        self.depth = size_bytes // self.line_bytes
        super().__init__(
            {
                "wr_en": In(1),
                "wr_addr": In(range(size_bytes // beat_bytes)),
                "wr_data": In(8 * beat_bytes),
                "rd_en": In(1),
                "rd_addr": In(range(size_bytes // word_bytes)),
                "rd_data": Out(8 * word_bytes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the memory, its beat enables and the word multiplexer."""
        m = Module()
        line_bits, beat_bits, word_bits = 8 * self.line_bytes, 8 * self.beat_bytes, 8 * self.word_bytes
        beats, words = line_bits // beat_bits, line_bits // word_bits

        m.submodules.memory = memory = Memory(shape=line_bits, depth=self.depth, init=[], attrs=ANY_READ_DURING_WRITE)
        write = memory.write_port(granularity=beat_bits)
        read = memory.read_port()

        beat = self.wr_addr[: beats.bit_length() - 1]
        m.d.comb += [
            write.addr.eq(self.wr_addr[len(beat) :]),
            write.data.eq(self.wr_data.replicate(beats)),
            write.en.eq(self.wr_en << beat),
        ]

        word: Value = self.rd_addr[: words.bit_length() - 1]
        chosen = Signal(len(word), reset_less=True)
        with m.If(self.rd_en):
            m.d.sync += chosen.eq(word)
        m.d.comb += [
            read.en.eq(self.rd_en),
            read.addr.eq(self.rd_addr[len(word) :]),
            self.rd_data.eq(select(chosen, [read.data.word_select(index, word_bits) for index in range(words)])),
        ]
        return m
