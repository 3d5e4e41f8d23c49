"""Registers in ECP5 multiplier blocks: the netlist with them is equivalent, and what must stay outside does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hw.emit import emit
from hw.pe import PE
from hw.soc.dsp_registers import Absorbed, absorb_registers
from hw.yosys import YosysError, run_yosys

BLOCK = """
module MULT18X18D({ports});
  parameter {parameters}, RESETMODE = "";
  wire [17:0] next_a = {{{a}}}, next_b = {{{b}}};
  reg [17:0] held_a, held_b;
  always @(posedge CLK0) if (CE0) {{held_a, held_b}} <= RST0 ? 0 : {{next_a, next_b}};
  wire [17:0] a = REG_INPUTA_CLK == "CLK0" ? held_a : next_a, b = REG_INPUTB_CLK == "CLK0" ? held_b : next_b;
  wire signed [18:0] wide_a = {{SIGNEDA & a[17], a}}, wide_b = {{SIGNEDB & b[17], b}};
  wire [35:0] product = wide_a * wide_b;
  reg [35:0] held;
  always @(posedge CLK0) if (CE0) held <= RST0 ? 0 : product;
  assign {{{p}}} = REG_OUTPUT_CLK == "CLK0" ? held : product;
endmodule
"""
"""What the block does, as far as it is used here."""

SIZES = {"a": 18, "b": 18, "p": 36}

PRODUCT = "wire signed [15:0] product = a * b; reg signed [15:0] p; assign out = p;"
FACTORS = "reg signed [7:0] x, y; assign out = x * y;"
ALWAYS = "always @(posedge clk)"
NOTHING, OUTPUT, INPUTS = frozenset[str](), frozenset({"OUTPUT"}), frozenset({"INPUTA", "INPUTB"})
CASES = {
    "product": (OUTPUT, f"{PRODUCT} {ALWAYS} p <= product;"),
    "product, an output, too": (NOTHING, f"{PRODUCT} {ALWAYS} p <= product; assign now = product;"),
    "product, to logic, too": (NOTHING, f"{PRODUCT} {ALWAYS} p <= product; assign now = {{16{{^product}}}};"),
    "product, enable": (NOTHING, f"{PRODUCT} {ALWAYS} if (en) p <= product;"),
    "product, reset": (NOTHING, f"{PRODUCT} {ALWAYS} p <= rst ? 0 : product;"),
    "product, starts with ones": (NOTHING, f"{PRODUCT} {ALWAYS} p <= product; initial p = -1;"),
    "product, falling edge": (NOTHING, f"{PRODUCT} always @(negedge clk) p <= product;"),
    "product, two clocks": (
        NOTHING, f"{PRODUCT} {ALWAYS} p[7:0] <= product[7:0]; always @(posedge clk2) p[15:8] <= product[15:8];"
    ),
    "factors": (INPUTS, f"{FACTORS} {ALWAYS} {{x, y}} <= {{a, b}};"),
    "factors, one an output, too": (NOTHING, f"{FACTORS} {ALWAYS} {{x, y}} <= {{a, b}}; assign now = x;"),
    "factors, one without register": (NOTHING, f"{FACTORS} {ALWAYS} x <= a; always @* y = b;"),
    "factors, enable": (NOTHING, f"{FACTORS} {ALWAYS} if (en) {{x, y}} <= {{a, b}};"),
    "factors, two clocks": (NOTHING, f"{FACTORS} {ALWAYS} x <= a; always @(posedge clk2) y <= b;"),
    "both": (
        INPUTS | OUTPUT,
        f"reg signed [7:0] x, y; reg signed [15:0] p; assign out = p; {ALWAYS} {{x, y, p}} <= {{a, b, 16'(x * y)}};",
    ),
    "both, two clocks": (
        OUTPUT,
        f"reg signed [7:0] x, y; reg signed [15:0] p; assign out = p; {ALWAYS} {{x, y}} <= {{a, b}};"
        "always @(posedge clk2) p <= x * y;",
    ),
}  # fmt: skip
"""What a block gets, and the Verilog around it."""


def netlist(folder: Path, verilog: str, top: str, options: str = "") -> dict[str, Any]:
    (folder / "dut.v").write_text(verilog)
    run_yosys([f"read_verilog -sv {folder}/dut.v", f"synth_ecp5 {options} -top {top} -json {folder}/dut.json"])
    return dict(json.loads((folder / "dut.json").read_text()))


def prove_equal(folder: Path, top: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Raise :class:`YosysError` unless the two, with the block as above, are equivalent."""
    ports = [f"{port['direction']} {name}" for name, port in before["modules"]["MULT18X18D"]["ports"].items()]
    lanes = {lane: ", ".join(f"{lane.upper()}{n}" for n in reversed(range(size))) for lane, size in SIZES.items()}
    stages = [f"REG_{name}_{pin}" for name in ("INPUTA", "INPUTB", "OUTPUT") for pin in ("CLK", "CE", "RST")]
    parameters = ", ".join(f'{name} = ""' for name in stages)
    (folder / "block.v").write_text(BLOCK.format(ports=", ".join(ports), parameters=parameters, **lanes))
    commands = []
    for side, text in (("before", before), ("after", after)):
        (folder / f"{side}.json").write_text(json.dumps({"modules": {top: text["modules"][top]}}))
        commands += [
            "read_verilog -D NO_INCLUDES +/ecp5/cells_sim.v", "delete MULT18X18D", f"read_verilog {folder}/block.v",
            f"read_json {folder}/{side}.json", f"hierarchy -check -top {top}", "setattr -mod -unset keep_hierarchy *",
            "proc", "flatten", "rename -hide w:*MULT18X18D*.*", "opt -full", "setattr -unset init w:*",
            f"design -stash {side}",
        ]  # fmt: skip
    commands += [f"design -copy-from {side} -as {side} {top}" for side in ("before", "after")]
    commands += ["equiv_make before after both", "hierarchy -top both", "opt_clean", "opt_merge -share_all"]
    run_yosys([*commands, "opt_clean", "equiv_simple -short", "equiv_induct", "equiv_status -assert"])


def test_the_registers_of_a_pe(tmp_path: Path) -> None:
    found = netlist(tmp_path, emit(PE(stos=True, pipeline_mac=True), "dut"), "dut")
    assert absorb_registers(found) == Absorbed(1, 1, 1, 8 + 8 + 16)
    kinds = [cell["type"] for cell in found["modules"]["dut"]["cells"].values()]
    assert kinds.count("TRELLIS_FF") == 8 + 8 + 32 + 32 + 1


def test_the_netlist_stays_equivalent(tmp_path: Path) -> None:
    """A multiplier of 4 bits: a solver takes long for the products of 8."""
    verilog = """
module dut(input clk, input signed [3:0] a, b, output reg signed [11:0] sum);
  reg signed [3:0] x, y;
  reg signed [7:0] p;
  always @(posedge clk) {x, y, p, sum} <= {a ^ b, b, 8'(x * y), 12'(sum + p)};
endmodule
"""
    before = netlist(tmp_path, verilog, "dut")
    after = json.loads(json.dumps(before))
    assert absorb_registers(after) == Absorbed(1, 1, 1, 4 + 4 + 8)
    prove_equal(tmp_path, "dut", before, after)
    block = next(cell for cell in after["modules"]["dut"]["cells"].values() if cell["type"] == "MULT18X18D")
    for stage in ("INPUTA", "OUTPUT"):
        block["parameters"][f"REG_{stage}_CLK"] = "NONE"
        with pytest.raises(YosysError, match="unproven"):
            prove_equal(tmp_path, "dut", before, after)
        block["parameters"][f"REG_{stage}_CLK"] = "CLK0"


def test_which_registers_move(tmp_path: Path) -> None:
    verilog, ports = "", ["input clk", "clk2"]
    for index, (_, body) in enumerate(CASES.values()):
        verilog += f"""
module case{index}(
  input clk, clk2, en, rst, input signed [7:0] a, b, output signed [15:0] now, output signed [15:0] out
);
  {body}
endmodule
"""
        ports += [f"input en{index}", f"rst{index}", f"input [7:0] a{index}", f"b{index}"]
        ports += [f"output [15:0] now{index}", f"out{index}"]
    connected = "clk, clk2, en{0}, rst{0}, a{0}, b{0}, now{0}, out{0}"
    verilog += f"module dut({', '.join(ports)});\n"
    verilog += "\n".join(f"  case{index} c{index}({connected.format(index)});" for index in range(len(CASES)))
    found = netlist(tmp_path, f"{verilog}\nendmodule", "dut", "-noflatten")
    assert absorb_registers(found) == Absorbed(3, 2, len(CASES), 3 * 16 + 2 * 16)
    got = {}
    for index, name in enumerate(CASES):
        cells = found["modules"][f"case{index}"]["cells"].values()
        (block,) = (cell["parameters"] for cell in cells if cell["type"] == "MULT18X18D")
        got[name] = frozenset(stage.split("_")[1] for stage, value in block.items() if value == "CLK0")
    assert got == {name: stages for name, (stages, _) in CASES.items()}
    text = json.dumps(found)
    assert absorb_registers(found) == Absorbed(0, 0, len(CASES), 0) and json.dumps(found) == text, "taken once"
