"""The whole flow with the real tools on a small accelerator: ``nox -s boards``, some minutes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hw import build as cli
from hw.soc.boards import BOARDS

SMALL = ("--rows", "2", "--cols", "4", "--act-kib", "4", "--act-banks", "2", "--weight-kib", "1", "--memory-kib", "8")


def test_bitstream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At a clock it reaches; then, from the kept netlist and routing, the same again."""
    options = ["--board", "ulx3s_85f", *SMALL, "--clock-mhz", "25", "--out", str(tmp_path), "--json"]
    assert cli.main(options) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["stage"] == "pnr" and figures["timing_met"] and figures["fmax_mhz"] >= 25
    assert 2000 < figures["luts"] < figures["available"]["luts"] and figures["dsps"] >= 8 and figures["brams"] >= 8
    report = json.loads((tmp_path / "report.json").read_text())["utilization"]
    cells = ("TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D", "DP16KD")
    assert tuple(report[cell]["available"] for cell in cells) == BOARDS["ulx3s_85f"].available
    bitstream = (tmp_path / figures["bitstream"]).read_bytes()
    assert b"LFE5U-85F" in bitstream[:200] and len(bitstream) > 100_000
    assert cli.main(options) == 0
    assert "pnr" not in json.loads(capsys.readouterr().out)["seconds"]
    assert (tmp_path / figures["bitstream"]).read_bytes() == bitstream


@pytest.mark.parametrize("name", [name for name, item in BOARDS.items() if item.family == "xc7"])
def test_xilinx_synthesis(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Yosys maps the whole system with the board's own memories onto the part."""
    options = ["--board", name, "--rows", "4", "--cols", "4", "--out", str(tmp_path), "--json"]
    assert cli.main(options) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["stage"] == "synth" and figures["dsps"] >= 16 and figures["brams"] >= 16
    script = (tmp_path / "build.tcl").read_text()
    for name in re.findall(r"\S+\.(?:v|xdc)\b", script.replace("{", "").replace("}", "")):
        assert (tmp_path / name).is_file()


def test_a_design_that_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--board", "ulx3s_85f", *SMALL[:-2], "--memory-kib", "512", "--out", str(tmp_path)]
    assert cli.main(options) == 2
    assert re.search(r"does not fit Radiona ULX3S.* of 208 brams.*--memory-kib", capsys.readouterr().err)
