"""Building for boards: clocks, pins, project files; stages, verdicts and errors of the flow on a small design."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hw import build as cli
from hw.errors import RequestError
from hw.soc import project
from hw.soc.boards import BOARDS, LIGHTS, board
from hw.soc.clocking import ecp5_pll, xc7_mmcm
from hw.soc.flow import check_fit, ecp5_cells, xc7_cells
from hw.soc.project import Request
from hw.spec.config import PRESETS, AcceleratorConfig
from hw.yosys import run_yosys
from sim.verilator.toolchain import find_toolchain

WAIVERS = Path(__file__).parents[2] / "hw" / "lint" / "waivers.vlt"
TINY = PRESETS["tiny"].twin(axi_addr_width=32)
REAL_SYSTEM = project.system_verilog
SMALL_SYSTEM = """\
module rowcast_soc(input clk, input rst, input rx, output reg tx, output active, output irq, output link_error);
  reg [9:0] count;
  always @(posedge clk) if (rst) {tx, count} <= 1; else {tx, count} <= {rx ^ count[9], count + 10'd1};
  assign active = count[5], irq = count[6], link_error = count[7];
endmodule
"""


@pytest.mark.parametrize("mhz", [25, 50, 60, 62.5, 75, 80, 96, 100, 112.5, 125])
def test_dividers(mhz: float) -> None:
    pll, mmcm = ecp5_pll(25, mhz), xc7_mmcm(100, mhz)
    for given, made in ((25, pll), (100, mmcm)):
        assert made.mhz == pytest.approx(mhz, rel=0.01)
        assert given / made.reference * made.feedback / (1 if made is pll else made.output) == pytest.approx(made.mhz)
        assert made.vco_mhz == pytest.approx(made.mhz * made.output)
    assert 400 <= pll.vco_mhz <= 800 and 600 <= mmcm.vco_mhz <= 1200


def test_dividers_of_ecppll() -> None:
    """Where there is one best setting it is that of Project Trellis' ecppll."""
    made = ecp5_pll(25, 100)
    assert (made.reference, made.feedback, made.output, made.vco_mhz) == (1, 4, 6, 600)


def test_clocks_that_cannot_be_made() -> None:
    with pytest.raises(RequestError, match="clock 1000 MHz cannot be made of 25 MHz .* the nearest is 400 MHz"):
        ecp5_pll(25, 1000)
    with pytest.raises(RequestError, match="--clock-mhz"):
        xc7_mmcm(100, 2)


def request(name: str, config: AcceleratorConfig | None = None, **changes: Any) -> Request:
    item = board(name)
    fields = {"memory_kib": 16, "clock_mhz": 50, "baud": 1_000_000, **changes}
    return Request(item, config or item.config, **fields)


def test_pins() -> None:
    pins = {pin.port: pin for pin in board("ulx3s_85f").pins()}
    assert {port: pin.ball for port, pin in pins.items()} == {
        "clk_in": "G2", "uart_rx": "M1", "uart_tx": "L4", "led[0]": "B2", "led[1]": "C2", "led[2]": "C1", "led[3]": "D2"
    }  # fmt: skip
    assert pins["clk_in"].hertz == 25e6
    arty = {pin.port: pin for pin in board("arty_a7_35").pins()}
    assert arty["reset_in"].inverted and arty["uart_rx"].ball == "A9" and arty["clk_in"].hertz == 100e6
    assert sum(port.startswith("led") for port in arty) == LIGHTS


def test_default_configurations_fit_block_ram() -> None:
    """Before any synthesis: what the memories hold, in the bits of the part's block RAMs."""
    for item in BOARDS.values():
        config = item.config
        bits = 8 * (config.act_bytes + config.weight_bytes + config.param_bytes + item.memory_kib * 1024)
        assert bits <= item.available[3] * (16 << 10 if item.family == "ecp5" else 32 << 10)
        Request(item, config, item.memory_kib, item.clock_mhz, item.baud)


@pytest.mark.parametrize("name", BOARDS)
def test_project_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every port has its pin; Yosys accepts the whole with the vendor's primitives, Verilator the system.

    The system itself is there for one board only; nox -s boards has it for all.
    """
    if name != "ulx3s_85f":
        monkeypatch.setattr(project, "system_verilog", lambda request: SMALL_SYSTEM)
    texts = project.project_files(request(name, TINY))
    top = texts["rowcast_top.v"]
    item = board(name)
    ports = {"clk_in", "uart_rx", "uart_tx", *(f"led[{n}]" for n in range(LIGHTS))}
    ports |= {"reset_in"} if item.family == "xc7" else set()
    if item.family == "ecp5":
        assert set(texts) == {"rowcast_soc.v", "rowcast_top.v", "rowcast_top.lpf"}
        lpf = texts["rowcast_top.lpf"]
        assert set(re.findall(r'^LOCATE COMP "(\S+)" SITE "\w+";$', lpf, re.MULTILINE)) == ports
        assert 'FREQUENCY PORT "clk_in" 25 MHZ;' in lpf and 'IOBUF PORT "uart_tx" IO_TYPE=LVCMOS33;' in lpf
        assert 'FREQUENCY_PIN_CLKOP = "50"' in top
        (tmp_path / "system_rowcast.v").write_text(texts["rowcast_soc.v"])  # a name that the waivers are for
        toolchain = find_toolchain()
        command = [toolchain.verilator, "--lint-only", "-Wall", str(WAIVERS), "system_rowcast.v"]
        command += ["--top-module", "rowcast_soc"]
        done = subprocess.run(command, cwd=tmp_path, env=dict(toolchain.env), capture_output=True, text=True)
        assert (done.returncode, done.stderr[:2000]) == (0, "")
        library = "+/ecp5/cells_bb.v"
    else:
        assert set(texts) == {"rowcast_soc.v", "rowcast_top.v", "rowcast_top.xdc", "build.tcl"}
        xdc = texts["rowcast_top.xdc"]
        assert set(re.findall(r"^set_property PACKAGE_PIN \w+ \[get_ports {(\S+)}\]$", xdc, re.MULTILINE)) == ports
        assert "create_clock -name clk_in -period 10 [get_ports {clk_in}]" in xdc
        assert f"-part {item.load().device}" in texts["build.tcl"]
        library = "+/xilinx/cells_xtra.v +/xilinx/cells_sim.v"
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
    sources = f"{tmp_path}/rowcast_soc.v {tmp_path}/rowcast_top.v"
    run_yosys(
        [f"read_verilog -sv {sources}", f"read_verilog -lib {library}", "hierarchy -check -top rowcast_top", "proc",
         "check -assert"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory_kib": 0}, "--memory-kib 0"),
        ({"clock_mhz": -1}, "--clock-mhz -1"),
        ({"clock_mhz": float("nan")}, "--clock-mhz nan"),
        ({"clock_mhz": 3000}, "--clock-mhz"),
        ({"baud": 0}, "--baud: baud=0"),
        ({"baud": 30_000_000}, "--baud: baud=30000000 .* take a lower rate"),
        ({"baud": 25_000_000}, "--baud 25000000: a bit takes at least 4 cycles"),
        ({"config": TINY.twin(reset_low=True)}, "--reset-low"),
    ],
)
def test_requests_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        request("ulx3s_85f", **changes)


def test_cells() -> None:
    cells = {"LUT4": 100, "CCU2C": 10, "TRELLIS_DPR16X4": 2, "TRELLIS_FF": 7, "MULT18X18D": 3, "DP16KD": 4, "PFUMX": 9}
    assert ecp5_cells(cells) == {"luts": 132, "ffs": 7, "dsps": 3, "brams": 4}
    cells = {"LUT6": 5, "LUT2": 1, "FDRE": 8, "FDCE": 1, "DSP48E1": 2, "RAMB36E1": 1, "RAMB18E1": 3, "RAM32M": 2}
    assert xc7_cells(cells) == {"luts": 14, "ffs": 9, "dsps": 2, "brams": 3}


def test_a_design_that_does_not_fit() -> None:
    message = r"does not fit Radiona ULX3S.*157 of 156 dsps, 300 of 208 brams.*--rows.*--memory-kib"
    with pytest.raises(RequestError, match=message):
        check_fit(board("ulx3s_85f"), {"luts": 83_640, "ffs": 1, "dsps": 157, "brams": 300})


FAKE_NEXTPNR = """\
#!/bin/sh
if [ "$1" = --version ]; then echo "fake 1"; exit 0; fi
echo "Info: Packing IOs.."
echo ran >> "{count}"
test -f synth.json || exit 9
{fail}
echo config > rowcast_top.config
cat > report.json <<END
{{"fmax": {{"clk": {{"achieved": {achieved}, "constraint": 50.0}}}},
 "utilization": {{"TRELLIS_COMB": {{"used": 40}}, "TRELLIS_FF": {{"used": 19}}}},
 "critical_paths": [{{"from": "posedge clk", "to": "posedge clk", "path": [
   {{"delay": 0.5, "type": "clk-to-q", "from": {{}}, "to": {{"cell": "a", "port": "Q"}}}}]}}]}}
END
"""


class Rig:
    """A small system in place of the accelerator's, and programs in place of place and route."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.count = folder / "count"
        monkeypatch.setattr(project, "system_verilog", lambda request: SMALL_SYSTEM)
        self.tools()

    def tools(self, *, achieved: float = 61.25, fail: str = "") -> None:
        texts = {
            "nextpnr_ecp5": FAKE_NEXTPNR.format(count=self.count, achieved=achieved, fail=fail),
            "ecppack": "#!/bin/sh\ntest -f $2 && echo bits > $3\n",
        }
        for name, text in texts.items():
            path = self.folder / name
            path.write_text(text)
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
            self.monkeypatch.setenv(name.upper(), str(path))

    def run(self, *options: str) -> int:
        out = self.folder / "out"
        return cli.main(["--board", "ulx3s_85f", "--clock-mhz", "50", "--out", str(out), *options])

    @property
    def routed(self) -> int:
        return len(self.count.read_text().splitlines()) if self.count.exists() else 0


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def test_the_whole_flow_and_its_stages(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert rig.run("--json") == 0
    out = rig.folder / "out"
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert figures == json.loads((out / "build.json").read_text())
    assert {name: figures[name] for name in ("fmax_mhz", "luts", "ffs", "dsps", "brams", "timing_met", "stage")} == {
        "fmax_mhz": 61.25, "luts": 40, "ffs": 19, "dsps": 0, "brams": 0, "timing_met": True, "stage": "pnr"
    }  # fmt: skip
    assert figures["config_hash"] == board("ulx3s_85f").config.hash_hex
    verilog = (out / "rowcast_soc.v").read_bytes() + (out / "rowcast_top.v").read_bytes()
    assert figures["verilog_sha256"] == hashlib.sha256(verilog).hexdigest()
    assert (out / figures["bitstream"]).read_text() == "bits\n"
    assert "nextpnr: Packing" in captured.err and "Yosys: mapping" in captured.err

    synthesised = (out / "synth.json").stat().st_mtime_ns
    assert rig.run() == 0
    assert rig.routed == 1, "nothing changed, nothing runs"
    captured = capsys.readouterr()
    assert "fmax   61.25 MHz, 50 MHz wanted: met" in captured.out and "results of this netlist" in captured.err
    assert rig.run("--seed", "2", "--quiet") == 0
    assert rig.routed == 2 and (out / "synth.json").stat().st_mtime_ns == synthesised, "another seed: only routing"
    assert capsys.readouterr().err == ""
    assert rig.run("--clock-mhz", "60") == 0
    assert (out / "synth.json").stat().st_mtime_ns != synthesised, "the clock generator changed"


def test_the_array_alone(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    text = REAL_SYSTEM(request("ulx3s_85f", TINY, array_only=True))
    modules = set(re.findall(r"^module (\w+)", text, re.MULTILINE))
    assert {"rowcast_soc", "rowcast_soc__array", "rowcast_pe"} <= modules
    assert not any("exec" in name or "link" in name for name in modules)
    top = text[text.index("module rowcast_soc(") :].partition("endmodule")[0]
    ports = set(re.findall(r"^  (?:input|output) (\w+);", top, re.MULTILINE))
    assert ports == {"clk", "rst", "rx", "tx", "active", "irq", "link_error"}
    assert rig.run("--array-only", "--json") == 0
    assert json.loads(capsys.readouterr().out)["array_only"] is True
    assert rig.run("--array-only") == 0
    assert "8x8 ST-OS, the array alone, 50 MHz\n" in capsys.readouterr().out


def test_a_clock_that_is_too_fast(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.tools(achieved=41.5)
    assert rig.run() == cli.TIMING_STATUS
    captured = capsys.readouterr()
    assert "41.50 MHz, 50 MHz wanted: NOT MET" in captured.out and "0.50 ns clk-to-q a.Q" in captured.out
    assert "bitstream not made" in captured.out and "lower --clock-mhz" in captured.err
    assert not (rig.folder / "out" / "rowcast_top.bit").exists()
    assert json.loads((rig.folder / "out" / "build.json").read_text())["timing_met"] is False
    assert rig.run("--allow-timing-failure") == 0
    assert "NOT MET" in capsys.readouterr().out
    assert (rig.folder / "out" / "rowcast_top.bit").exists()


def test_tools_that_fail(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.tools(fail="echo 'ERROR: no wires left'; exit 7")
    assert rig.run() == 1
    error = capsys.readouterr().err
    assert "nextpnr ended with status 7" in error and "ERROR: no wires left" in error
    assert not (rig.folder / "out" / "build.json").exists()
    rig.monkeypatch.setenv("NEXTPNR_ECP5", "no-such-program")
    assert rig.run() == 2
    assert "NEXTPNR_ECP5=no-such-program" in capsys.readouterr().err
    rig.monkeypatch.delenv("NEXTPNR_ECP5")
    rig.monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    assert rig.run() == 2
    assert "nextpnr-ecp5 is not installed: pip install 'rowcast[boards]'" in capsys.readouterr().err


def test_stages_that_are_left_out(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.monkeypatch.setenv("NEXTPNR_ECP5", "no-such-program")
    assert rig.run("--no-synth") == 0
    assert "project files written" in capsys.readouterr().out
    assert not (rig.folder / "out" / "synth.json").exists()
    assert rig.run("--no-pnr") == 0
    assert re.search(r"ffs +2\d", capsys.readouterr().out)


def test_too_small_a_board(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    small = dataclasses.replace(board("ulx3s_85f"), available=(83_640, 8, 156, 208))
    rig.monkeypatch.setitem(BOARDS, "ulx3s_85f", small)
    assert rig.run("--no-pnr") == 2
    assert re.search(r"does not fit .* it takes 2\d of 8 ffs", capsys.readouterr().err)


def test_user_errors(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert rig.run("--rows", "0") == 2
    assert "rows=0" in capsys.readouterr().err
    (rig.folder / "out").write_text("in the way")
    assert rig.run("--no-synth") == 2
    assert "cannot read or write" in capsys.readouterr().err
    rig.monkeypatch.setitem(BOARDS, "ulx3s_85f", dataclasses.replace(board("ulx3s_85f"), platform=("no_such", "X")))
    assert rig.run() == 2
    assert "rowcast[boards]" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--board", "unknown"])
    assert exit_.value.code == 2


def test_the_reset_comes_after_the_clock(tmp_path: Path) -> None:
    """The top module with models of the vendors' clock generators: reset while not locked, released 9 edges later."""
    model = """
`timescale 1ns/1ps
module EHXPLLL #(parameter CLKI_DIV=1, CLKFB_DIV=1, CLKOP_DIV=1, CLKOP_CPHASE=0, CLKOP_FPHASE=0, CLKOP_ENABLE="",
  FEEDBK_PATH="", PLLRST_ENA="", INTFB_WAKE="", STDBY_ENABLE="", DPHASE_SOURCE="", OUTDIVIDER_MUXA="",
  OUTDIVIDER_MUXB="", OUTDIVIDER_MUXC="", OUTDIVIDER_MUXD="") (input CLKI, CLKFB, RST, STDBY, PLLWAKESYNC, PHASESEL0,
  PHASESEL1, PHASEDIR, PHASESTEP, PHASELOADREG, ENCLKOP, output CLKOP, output reg LOCK);
  assign CLKOP = CLKI;
  initial begin LOCK = 0; #95 LOCK = 1; #500 LOCK = 0; #20 LOCK = 1; end
endmodule
module rowcast_soc(input clk, rst, rx, output tx, active, irq, link_error);
  assign {tx, active, irq, link_error} = {rx, 3'b0};
  reg last = 1'bx;
  integer n = 0;
  always @(posedge clk) begin
    n = n + 1;
    if (rst !== last) $display("%0d %b", n, rst);
    last <= rst;
  end
endmodule
module bench;
  reg clk = 0;
  always #5 clk = ~clk;
  rowcast_top top(.clk_in(clk), .uart_rx(1'b1));
  initial #1000 $finish;
endmodule
"""
    (tmp_path / "bench.v").write_text(model)
    (tmp_path / "top.v").write_text(project.top_verilog(request("ulx3s_85f")))
    subprocess.run(["iverilog", "-g2012", "-s", "bench", "-o", "sim", "bench.v", "top.v"], cwd=tmp_path, check=True)
    done = subprocess.run(["vvp", "-N", "sim"], cwd=tmp_path, capture_output=True, text=True, check=True)
    changes = re.findall(r"^(\d+) ([01x])$", done.stdout, re.MULTILINE)
    assert [level for _, level in changes] == ["1", "0", "1", "0"], "held from the first edge, and again without lock"
    starts = [int(edge) for edge, _ in changes]
    assert starts[1] == 10 + 9 and starts[3] - starts[2] >= 9




def test_the_page_names_every_board() -> None:
    page = (Path(__file__).parents[2] / "docs" / "hardware.md").read_text()
    for item in BOARDS.values():
        config = item.config
        memories = f"{config.act_kib} + {config.weight_kib} KiB, {config.param_entries} channels"
        shape = f"{config.rows}x{config.cols} ST-OS, {memories}"
        row = f"| `{item.name}` | {item.title} | {shape} | {item.memory_kib} KiB |"
        assert f"{row} {item.clock_mhz:g} MHz |" in page


@pytest.mark.parametrize("name", ["board_ulx3s_85f", "array_ulx3s_85f"])
def test_page_shows_what_was_routed(name: str) -> None:
    """docs/hardware.md has the figures of the reports in docs/data."""
    docs = Path(__file__).parents[2] / "docs"
    figures = json.loads((docs / "data" / f"{name}.json").read_text())
    assert f"```text\n{cli.table(figures)}\n```" in (docs / "hardware.md").read_text()
    assert figures["stage"] == "pnr" and figures["config_hash"] == board("ulx3s_85f").config.hash_hex
    assert figures["array_only"] is name.startswith("array")


def test_the_boards_clock_is_one_that_was_reached() -> None:
    docs = Path(__file__).parents[2] / "docs"
    figures = json.loads((docs / "data" / "board_ulx3s_85f.json").read_text())
    page, item = (docs / "hardware.md").read_text(), board("ulx3s_85f")
    assert f"{figures['fmax_mhz']:.0f} MHz are" in page and item.clock_mhz <= figures["fmax_mhz"]
    steps = [(float(step.split()[0]), step.split()[2]) for step in figures["critical_path"]]
    wires = sum(delay for delay, kind in steps if kind == "routing")
    assert f"{wires:.1f} of its {sum(delay for delay, _ in steps):.1f} ns are wires" in page
