"""Product registers in ECP5 multiplier blocks: the netlist with them is equivalent, and what must stay outside does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hw.emit import emit
from hw.pe import PE
from hw.soc.dsp_registers import Absorbed, absorb_product_registers
from hw.yosys import YosysError, run_yosys

BLOCK = """
module MULT18X18D({ports});
  parameter REG_OUTPUT_CLK = "NONE", REG_OUTPUT_CE = "", REG_OUTPUT_RST = "", RESETMODE = "";
  wire [17:0] a = {{{a}}}, b = {{{b}}};
  wire signed [18:0] wide_a = {{SIGNEDA & a[17], a}}, wide_b = {{SIGNEDB & b[17], b}};
  wire [35:0] product = wide_a * wide_b;
  reg [35:0] held;
  always @(posedge CLK0) if (CE0) held <= RST0 ? 0 : product;
  assign {{{p}}} = REG_OUTPUT_CLK == "CLK0" ? held : product;
endmodule
"""
"""What the block does, as far as it is used here."""

SIZES = {"a": 18, "b": 18, "p": 36}

MODULE = """
module dut(input clk, clk2, en, rst, input signed [7:0] a, b, output signed [15:0] now, output signed [15:0] out);
  reg signed [15:0] p;
  wire signed [15:0] product = a * b;
  assign out = p;
  {body}
endmodule
"""
ALWAYS = "always @(posedge clk)"


def netlist(folder: Path, verilog: str, top: str) -> dict[str, Any]:
    (folder / "dut.v").write_text(verilog)
    run_yosys([f"read_verilog -sv {folder}/dut.v", f"synth_ecp5 -top {top} -json {folder}/dut.json"])
    return dict(json.loads((folder / "dut.json").read_text()))


def prove_equal(folder: Path, top: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Raise :class:`YosysError` unless the two, with the block as above, are equivalent."""
    ports = [f"{port['direction']} {name}" for name, port in before["modules"]["MULT18X18D"]["ports"].items()]
    lanes = {lane: ", ".join(f"{lane.upper()}{n}" for n in reversed(range(size))) for lane, size in SIZES.items()}
    (folder / "block.v").write_text(BLOCK.format(ports=", ".join(ports), **lanes))
    commands = []
    for side, text in (("before", before), ("after", after)):
        (folder / f"{side}.json").write_text(json.dumps({"modules": {top: text["modules"][top]}}))
        commands += [
            "read_verilog -D NO_INCLUDES +/ecp5/cells_sim.v", "delete MULT18X18D", f"read_verilog {folder}/block.v",
            f"read_json {folder}/{side}.json", f"hierarchy -check -top {top}", "setattr -mod -unset keep_hierarchy *",
            "proc", "flatten", "rename -hide w:*.held", "opt -full", "setattr -unset init w:*", f"design -stash {side}",
        ]  # fmt: skip
    commands += [f"design -copy-from {side} -as {side} {top}" for side in ("before", "after")]
    commands += ["equiv_make before after both", "hierarchy -top both", "opt_clean", "opt_merge -share_all"]
    run_yosys([*commands, "opt_clean", "equiv_simple -short", "equiv_induct", "equiv_status -assert"])


@pytest.mark.parametrize("stos", [True, False])
def test_the_product_register_of_a_pe(stos: bool, tmp_path: Path) -> None:
    text = emit(PE(stos=stos, pipeline_mac=True), "dut")
    before = netlist(tmp_path, text, "dut")
    after = json.loads(json.dumps(before))
    assert absorb_product_registers(after) == Absorbed(1, 1, 16)
    kinds = [cell["type"] for cell in after["modules"]["dut"]["cells"].values()]
    assert kinds.count("TRELLIS_FF") == 8 + 8 + 32 + 32 + 1
    prove_equal(tmp_path, "dut", before, after)
    block = next(cell for cell in after["modules"]["dut"]["cells"].values() if cell["type"] == "MULT18X18D")
    del block["parameters"]["REG_OUTPUT_CLK"]
    with pytest.raises(YosysError, match="unproven"):
        prove_equal(tmp_path, "dut", before, after)


def test_a_register_is_taken_once(tmp_path: Path) -> None:
    found = netlist(tmp_path, MODULE.format(body=f"{ALWAYS} p <= product; assign now = 0;"), "dut")
    assert absorb_product_registers(found) == Absorbed(1, 1, 16)
    assert absorb_product_registers(found) == Absorbed(0, 1, 0)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(f"{ALWAYS} p <= product; assign now = product;", id="the product is an output, too"),
        pytest.param(f"{ALWAYS} p <= product; assign now = {{16{{^product}}}};", id="and goes to logic"),
        pytest.param(f"{ALWAYS} if (en) p <= product; assign now = 0;", id="enable"),
        pytest.param(f"{ALWAYS} p <= rst ? 0 : product; assign now = 0;", id="reset"),
        pytest.param(f"{ALWAYS} p <= product; initial p = -1; assign now = 0;", id="starts with ones"),
        pytest.param("always @(negedge clk) p <= product; assign now = 0;", id="falling edge"),
        pytest.param(
            f"{ALWAYS} p[7:0] <= product[7:0]; always @(posedge clk2) p[15:8] <= product[15:8]; assign now = 0;",
            id="two clocks",
        ),
    ],
)
def test_registers_that_stay(body: str, tmp_path: Path) -> None:
    found = netlist(tmp_path, MODULE.format(body=body), "dut")
    cells = json.dumps(found)
    assert absorb_product_registers(found) == Absorbed(0, 1, 0)
    assert json.dumps(found) == cells
