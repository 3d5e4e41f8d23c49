"""Gate-level Verilog for simulators: which modules become gates, and what refuses."""

from __future__ import annotations

import pytest

from hw.emit import verilog_modules
from hw.gates import gate_verilog
from hw.report.liberty import Liberty
from tests.hw.test_report import small

DESIGN = """
module rowcast_leaf (clk, a, b, y);
  input clk;
  input [1:0] a;
  input [1:0] b;
  output [1:0] y;
  reg [1:0] y;
  always @(posedge clk) y <= a ^ b;
endmodule

module rowcast (clk, a, b, y);
  input clk;
  input [1:0] a;
  input [1:0] b;
  output [1:0] y;
  wire [1:0] t;
  assign t = a + b;
  rowcast_leaf leaf (
    .clk(clk), .a(t), .b(b), .y(y)
  );
endmodule
"""


@pytest.fixture(autouse=True)
def fresh_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("ROWCAST_CACHE", str(tmp_path))


@pytest.mark.parametrize("liberty", [None, small()], ids=["generic", "liberty"])
def test_every_gate_is_an_assignment(liberty: Liberty | None) -> None:
    text = gate_verilog(DESIGN, liberty)
    assert sorted(verilog_modules(text)) == ["rowcast", "rowcast_leaf"]
    assert " ^ b;" not in text and " + " not in text
    assert "always @(posedge clk)" in text
    assert not any(cell in text for cell in ("NAND", "NOR", "BUF", "INV", "DFF", "$_"))


def test_others_stay_as_they_were() -> None:
    text = gate_verilog(DESIGN, modules=["rowcast_leaf"])
    assert "assign t = a + b;" in text
    assert "y <= a ^ b;" not in text
    assert sorted(verilog_modules(text)) == ["rowcast", "rowcast_leaf"]


def test_modules_that_a_chosen_one_uses_come_along() -> None:
    assert "y <= a ^ b;" not in gate_verilog(DESIGN, modules=["rowcast"])


def test_memories_stay_as_they_are() -> None:
    memory = "module rowcast_ram_4x2 (clk, q);\n  input clk;\n  output [1:0] q;\n  assign q = 2'h2;\nendmodule\n"
    used = DESIGN.replace("wire [1:0] t;", "wire [1:0] t;\n  wire [1:0] q;\n  rowcast_ram_4x2 m (.clk(clk), .q(q));")
    text = gate_verilog(memory + used.replace("a + b", "a + q"))
    assert memory in text and " + " not in text
    assert sorted(verilog_modules(text)) == ["rowcast", "rowcast_leaf", "rowcast_ram_4x2"]


def test_unknown_module_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no module matches rowcast_pea; there are rowcast, rowcast_leaf"):
        gate_verilog(DESIGN, modules=["rowcast_pea"])
