"""Memories as written to Verilog behave as Amaranth's simulator says, on random traffic, in Icarus Verilog."""

import gc
import random
import subprocess
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.emit import emit, verilog_modules
from hw.ram import Ram

CYCLES = 300
GEOMETRIES = [(32, 20, 8, True), (8, 16, 8, False), (12, 7, 4, True), (1, 3, 1, False)]


class Buffer(wiring.Component):
    """A memory with one write port, a synchronous and an asynchronous read port."""

    def __init__(self, width: int, depth: int, grain: int, transparent: bool) -> None:
        self.width, self.depth, self.grain, self.transparent = width, depth, grain, transparent
        super().__init__(
            {
                "w_addr": In(range(depth)),
                "w_data": In(width),
                "w_en": In(width // grain),
                "r_addr": In(range(depth)),
                "r_en": In(1),
                "r_data": Out(width),
                "a_data": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.store = store = memory.Memory(shape=self.width, depth=self.depth, init=[])
        write = store.write_port(granularity=self.grain)
        read = store.read_port(transparent_for=(write,) if self.transparent else ())
        later = store.read_port(domain="comb")
        m.d.comb += [write.addr.eq(self.w_addr), write.data.eq(self.w_data), write.en.eq(self.w_en)]
        m.d.comb += [read.addr.eq(self.r_addr), read.en.eq(self.r_en), self.r_data.eq(read.data)]
        m.d.comb += [later.addr.eq(self.r_addr), self.a_data.eq(later.data)]
        return m


def expected(buffer: Buffer, stimulus: list[tuple[int, ...]]) -> list[tuple[int, int]]:
    """Return (r_data, a_data) before each clock edge, from Amaranth's simulator."""
    seen = []

    async def bench(ctx) -> None:
        for values in stimulus:
            for name, value in zip(("w_addr", "w_data", "w_en", "r_addr", "r_en"), values, strict=True):
                ctx.set(getattr(buffer, name), value)
            await ctx.delay(1e-7)
            seen.append((ctx.get(buffer.r_data), ctx.get(buffer.a_data)))
            await ctx.tick()

    simulator = Simulator(buffer)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


BENCH = """
`timescale 1ns/1ns
module bench;
  reg clk = 0, r_en = 0; reg [31:0] w_addr, w_data, w_en, r_addr; wire [{top}:0] r_data, a_data;
  integer file, got;
  dut dut(.clk(clk), .rst(1'b0), .w_addr(w_addr[{a}:0]), .w_data(w_data[{top}:0]), .w_en(w_en[{e}:0]),
          .r_addr(r_addr[{a}:0]), .r_en(r_en), .r_data(r_data), .a_data(a_data));
  initial begin
    file = $fopen("stimulus.txt", "r");
    while ($fscanf(file, "%d %d %d %d %d", w_addr, w_data, w_en, r_addr, r_en) == 5) begin
      #1 $display("%d %d", r_data, a_data);
      #1 clk = 1; #1 clk = 0;
    end
    $finish;
  end
endmodule
"""


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_verilog_matches_the_simulator(geometry: tuple[int, int, int, bool], tmp_path: Path) -> None:
    width, depth, grain, _ = geometry
    buffer = Buffer(*geometry)
    rng = random.Random(width)
    stimulus = [(0, 0, 0, 0, 1)]
    for _ in range(CYCLES):
        addr = rng.randrange(depth)
        other = addr if rng.random() < 0.4 else rng.randrange(depth)
        enable = rng.getrandbits(width // grain)
        stimulus.append((addr, rng.getrandbits(width), enable, other, rng.randrange(2)))
    want = expected(Buffer(*geometry), stimulus)
    verilog = emit(buffer, "dut")
    assert f"rowcast_ram_{depth}x{width}_w{grain}" in verilog
    names = {"top": width - 1, "a": (depth - 1).bit_length() - 1, "e": width // grain - 1}
    (tmp_path / "dut.v").write_text(verilog)
    (tmp_path / "bench.v").write_text(BENCH.format(**names))
    (tmp_path / "stimulus.txt").write_text("".join(" ".join(map(str, row)) + "\n" for row in stimulus))
    subprocess.run(["iverilog", "-g2005", "-o", "bench", "dut.v", "bench.v"], cwd=tmp_path, check=True)
    lines = subprocess.run(["vvp", "-n", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    got = [tuple(line.split()) for line in lines.splitlines() if line[:1] in " 0123456789x"]
    # Before the first read the synchronous port is unknown in Verilog, as in any SRAM.
    assert [tuple(map(int, row)) for row in got[1:]] == want[1:]
    assert len({row[0] for row in want}) > 1


def test_equal_memories_are_one_module() -> None:
    class Pair(wiring.Component):
        a: In(4)
        q: Out(16)

        def elaborate(self, platform: object) -> Module:
            m = Module()
            for index in range(2):
                m.submodules[f"half{index}"] = half = Buffer(8, 16, 8, False)
                m.d.comb += [half.r_addr.eq(self.a), half.r_en.eq(1), self.q.word_select(index, 8).eq(half.r_data)]
                m.d.comb += [half.w_addr.eq(self.a), half.w_data.eq(index), half.w_en.eq(1)]
            return m

    verilog = emit(Pair(), "pair")
    assert verilog_modules(verilog).count("rowcast_ram_16x8_w8_r_ra") == 1
    assert verilog.count("rowcast_ram_16x8_w8_r_ra store (") == 2


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")  # looked at, not built in
def test_contents_and_attributes() -> None:
    layout = data.StructLayout({"low": 4, "high": 4})
    empty = memory.Memory(shape=layout, depth=4, init=[])
    filled = memory.Memory(shape=8, depth=4, init=[0, 1])
    assert Ram.of(empty) == Ram(8, 4, (), ())
    assert Ram.of(filled) is None
    del empty, filled
    gc.collect()  # while the warning is ignored
    ram = Ram(8, 4, (8,), ((),), (("ram_style", "block"),))
    assert '(* ram_style = "block" *) reg [7:0] words [0:3];' in ram.verilog()


def test_initial_contents_are_kept() -> None:
    class Table(wiring.Component):
        a: In(2)
        q: Out(8)

        def elaborate(self, platform: object) -> Module:
            m = Module()
            m.submodules.rom = rom = memory.Memory(shape=8, depth=4, init=[11, 22, 33, 44])
            port = rom.read_port(domain="comb")
            m.d.comb += [port.addr.eq(self.a), self.q.eq(port.data)]
            return m

    assert "8'h2c" in emit(Table(), "table")
