"""Timing constraints: every port once, in the right list; a Tcl interpreter and OpenSTA read them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tkinter
from pathlib import Path

import pytest

from hw import generate as gen
from hw.constraints import timing_constraints, top_ports
from hw.generate import accelerator_verilog
from hw.spec.config import AcceleratorConfig, preset

CONFIGURATIONS = {"rst": preset("tiny"), "aresetn": preset("tiny").twin(reset_low=True)}


@pytest.fixture(scope="module", params=list(CONFIGURATIONS))
def design(request: pytest.FixtureRequest) -> tuple[AcceleratorConfig, str]:
    config = CONFIGURATIONS[request.param]
    return config, accelerator_verilog(config)


def test_tcl_reads_it(design: tuple[AcceleratorConfig, str]) -> None:
    """Every command is known, its options are those of SDC, and every port of the netlist is constrained once."""
    config, verilog = design
    ports = top_ports(verilog)
    tcl = tkinter.Tcl()
    calls: list[tuple[str, ...]] = []

    def command(name: str) -> None:
        tcl.createcommand(name, lambda *words: calls.append((name, *words)) or "")

    for name in ("create_clock", "set_clock_uncertainty", "set_input_delay", "set_output_delay"):
        command(name)
    tcl.createcommand("get_ports", lambda names: names)
    tcl.createcommand("get_clocks", lambda names: names)
    tcl.eval(timing_constraints(verilog, config, 80))
    given = {name: words for name, *words in calls}
    assert given["create_clock"] == ["-name", "clk", "-period", "12.500", "clk"]
    assert given["set_clock_uncertainty"] == ["0.250", "clk"]
    assert given["set_input_delay"][:3] == given["set_output_delay"][:3] == ["-clock", "clk", "3.750"]
    inputs, outputs = given["set_input_delay"][3].split(), given["set_output_delay"][3].split()
    assert len(calls) == 4
    assert sorted(inputs + outputs + ["clk"]) == sorted(ports)
    assert all(ports[name] == "input" for name in inputs) and all(ports[name] == "output" for name in outputs)
    assert ("aresetn" if config.reset_low else "rst") in inputs


@pytest.mark.skipif(shutil.which("sta") is None, reason="needs OpenSTA; the Tcl interpreter's test covers the syntax")
def test_opensta_reads_it(design: tuple[AcceleratorConfig, str], tmp_path: Path) -> None:
    """OpenSTA takes the constraints for a netlist with the accelerator's ports, and knows all of them after that."""
    config, verilog = design
    begin = verilog.index("\nmodule rowcast(")
    body = verilog[begin : verilog.index("\nendmodule", begin)]
    header = body[: body.index(");") + 2]
    declared = re.findall(r"^  (?:input|output) (?:\[\d+:0\] )?\w+;$", body, re.MULTILINE)
    (tmp_path / "netlist.v").write_text("\n".join([header, *declared, "endmodule", ""]))
    (tmp_path / "rowcast.sdc").write_text(timing_constraints(verilog, config, 100))
    (tmp_path / "cells.lib").write_text("library(none) { cell(X) { area : 1; pin(A) { direction : input; } } }\n")
    script = "read_liberty cells.lib\nread_verilog netlist.v\nlink_design rowcast\nread_sdc rowcast.sdc\n"
    script += "puts [get_property [get_clocks clk] period]\nwrite_sdc out.sdc\nputs done\nexit\n"
    (tmp_path / "run.tcl").write_text(script)
    done = subprocess.run(
        ["sta", "-no_splash", "-exit", "run.tcl"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert "done" in done.stdout and "rowcast.sdc" not in said and "netlist.v" not in said, said
    assert "10.0" in done.stdout
    written = (tmp_path / "out.sdc").read_text()
    for port, direction in top_ports(verilog).items():
        if port != "clk":
            pattern = rf"set_{direction}_delay.*\[get_ports \{{{port}(\[0\])?\}}\]"
            assert re.search(pattern, written), port


def test_wrong_clock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gen.main(["--preset", "tiny", "--clock-mhz", "0", "--out", str(tmp_path / "x")]) == 2
    assert "--clock-mhz 0 must be more than 0" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    with pytest.raises(ValueError, match="clock_mhz=-1"):
        timing_constraints("", preset("tiny"), -1)
