"""A small grid of multiply-accumulate cells with a memory: what the tests of emission emit."""

import sys

from amaranth.hdl import Module, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.emit import emit
from hw.layouts import Lanes
from hw.shared import shared


class Mac(wiring.Component):
    """Accumulates h * v; hands h on."""

    h: In(signed(8))
    v: In(signed(8))
    h_next: Out(signed(8))
    acc: Out(signed(24))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += [self.h_next.eq(self.h), self.acc.eq(self.acc + self.h * self.v)]
        return m


class Strip(wiring.Component):
    """A row of cells."""

    def __init__(self, cols: int) -> None:
        self.cols = cols
        super().__init__(
            {"h": In(signed(8)), "v": In(Lanes(signed(8), cols)), "parity": Out(Lanes(1, cols))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        h = self.h
        for col in range(self.cols):
            m.submodules[f"pe{col}"] = pe = shared(platform, Mac)
            m.d.comb += [pe.h.eq(h), pe.v.eq(self.v[col]), self.parity[col].eq(pe.acc.xor())]
            h = pe.h_next
        return m


class Grid(wiring.Component):
    """Rows of cells; their parities go through a memory."""

    def __init__(self, rows: int, cols: int) -> None:
        self.rows, self.cols = rows, cols
        super().__init__(
            {
                "h": In(Lanes(signed(8), rows)),
                "v": In(Lanes(signed(8), cols)),
                "bus": Out(wiring.Signature({"addr": In(4), "word": Out(cols)})),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = 0
        for row in range(self.rows):
            m.submodules[f"row{row}"] = strip = shared(platform, Strip, self.cols)
            m.d.comb += [strip.h.eq(self.h[row]), strip.v.eq(self.v)]
            total = total ^ strip.parity.as_value()
        m.submodules.buffer = buffer = memory.Memory(shape=self.cols, depth=16, init=[])
        write, read = buffer.write_port(), buffer.read_port()
        m.d.comb += [write.addr.eq(self.bus.addr), write.data.eq(total), write.en.eq(1)]
        m.d.comb += [read.addr.eq(self.bus.addr), read.en.eq(1), self.bus.word.eq(read.data)]
        return m


if __name__ == "__main__":
    sys.stdout.write(emit(Grid(3, 5), "grid"))
