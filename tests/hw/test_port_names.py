"""Names of ports depend on their module alone, and the same design gives the same text every time."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.emit import emit
from hw.generate import accelerator_verilog
from hw.port_names import rename_ports
from hw.soc.soc import Soc
from hw.spec.config import preset

ROOT = Path(__file__).parents[2]


class Halves(wiring.Component):
    """Has names for parts of its input."""

    word: In(9)
    out: Out(8)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        low = Signal(3)
        high = Signal(5)
        m.d.comb += [low.eq(self.word[0:3]), high.eq(self.word[3:8]), self.out.eq(low * high + self.word[8])]
        return m


class Bits(wiring.Component):
    """Has no name but its input's."""

    word: In(9)
    out: Out(8)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.out.eq(self.word[0:4] * self.word[4:9])
        return m


class Design(wiring.Component):
    """Both, with or without other logic before them."""

    def __init__(self, *, before: int = 0) -> None:
        self.before = before
        super().__init__({"a": In(8), "out": Out(9)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        previous = self.a
        for index in range(self.before):
            stage = Signal(8, name="stage")
            m.d.sync += stage.eq(previous + index)
            previous = stage
        word = Signal(16)
        m.d.sync += word.eq(word + self.a)
        m.submodules.halves = halves = Halves()
        m.submodules.bits = bits = Bits()
        # Two pieces of a register are each a port, and none is a signal of the module below.
        m.d.comb += [halves.word.eq(Cat(word[4:12], word[1])), bits.word.eq(Cat(word[4:12], word[1]))]
        m.d.comb += self.out.eq(halves.out + bits.out + previous)
        return m


def module(verilog: str, name: str) -> str:
    found = re.search(rf"^module {name}\(.*?^endmodule", verilog, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def test_ports_are_called_after_the_signals_they_carry() -> None:
    verilog = emit(Design())
    assert "module rowcast__halves(out, word_8, low_to_high)" in verilog
    assert "module rowcast__bits(out, word_8, word_7_0)" in verilog
    assert ".low_to_high(word[11:4])" in verilog and ".word_7_0(word[11:4])" in verilog


def test_other_logic_renames_nothing() -> None:
    once, other = emit(Design()), emit(Design(before=5))
    assert once != other
    for name in ("rowcast__halves", "rowcast__bits"):
        assert module(once, name) == module(other, name)


def test_names_in_rtlil() -> None:
    """Keywords, numbered names, outputs, parts in concatenations; pins follow the modules that they belong to."""
    text = r"""
module \inner
  wire width 1 input 0 \edge
  wire width 1 input 1 \go$7
  wire width 1 \go
  wire width 1 \go_2
  wire width 6 input 2 \port$12$3
  wire width 9 output 3 \port$14$0
  wire width 2 output 4 \port$99$1
  wire width 8 \word
  wire width 9 \sum$4
  cell $and $3
    connect \A \edge
    connect \B \go$7
  end
connect \word { \port$12$3 [5:0] 2'01 }
connect \port$14$0 \sum$4
end
module \outer
  wire width 6 \port$12$3
  cell \inner \edge
    connect \edge 1'1
    connect \port$12$3 \port$12$3
    connect \port$14$0 $5
  end
end
"""
    new = rename_ports(text)
    assert re.findall(r"(?:input|output) \d \\(\S+)", new) == ["edge_", "go_3", "word_7_2", "sum", "part"]
    assert r"connect \word { \word_7_2 [5:0] 2'01 }" in new and r"connect \sum \sum$4" in new
    assert "connect \\A \\edge_\n    connect \\B \\go_3\n" in new
    # a wire inside is its module's own matter, the pin is the other module's
    assert "cell \\inner \\edge\n    connect \\edge_ 1'1\n    connect \\word_7_2 \\port$12$3\n" in new


def test_text_without_odd_ports_is_left_alone() -> None:
    text = "module \\a\n  wire width 1 input 0 \\x\n  wire width 1 \\y$3\nend\n"
    assert rename_ports(text) == text


def soc() -> str:
    return emit(Soc(preset("tiny"), 65536, clock_hz=50_000_000, bit_clocks=434), "soc")


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Return designs as generated in this process, after whatever it has generated before."""
    return {"rowcast": accelerator_verilog(preset("tiny")), "soc": soc()}


def test_no_port_is_numbered_through_the_netlist(texts: dict[str, str]) -> None:
    for text in texts.values():
        assert not re.search(r"port_\d|port\$\d", text)


def test_the_same_text_twice_in_a_process(texts: dict[str, str]) -> None:
    accelerator_verilog(preset("tiny").twin(stos=False))
    assert {"rowcast": accelerator_verilog(preset("tiny")), "soc": soc()} == texts


def test_the_same_text_in_other_processes(texts: dict[str, str]) -> None:
    program = (
        "import hashlib; from tests.hw.test_port_names import *; "
        "print(*(hashlib.sha256(text.encode()).hexdigest() for text in (soc(), accelerator_verilog(preset('tiny')))))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [hashlib.sha256(texts[name].encode()).hexdigest() for name in ("soc", "rowcast")]
