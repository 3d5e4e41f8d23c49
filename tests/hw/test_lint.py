"""Verilator, Icarus and Yosys accept the generated Verilog of every preset and of odd configurations."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hw.generate import accelerator_verilog
from hw.spec.config import PRESETS, preset
from sim.verilator.toolchain import find_toolchain

WAIVERS = Path(__file__).parents[2] / "hw" / "lint" / "waivers.vlt"
CONFIGURATIONS = {
    **PRESETS,
    "plain": preset("tiny").twin(stos=False, reset_low=True),
    "odd": preset("tiny").twin(rows=5, cols=7, max_kernel=5, pipeline_mac=True),
}
YOSYS = """
import sys
from pyosys import libyosys as ys
design = ys.Design()
for command in sys.argv[1:]:
    ys.run_pass("tee -q " + command, design)
"""


@pytest.fixture(scope="module", params=list(CONFIGURATIONS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a configuration's rowcast.v."""
    out = tmp_path_factory.mktemp(request.param)
    (out / "rowcast.v").write_text(accelerator_verilog(CONFIGURATIONS[request.param]))
    return out


def verilator(folder: Path, *files: str) -> subprocess.CompletedProcess[str]:
    toolchain = find_toolchain()
    command = [toolchain.verilator, "--lint-only", "-Wall", *files, "--top-module", "rowcast"]
    return subprocess.run(command, cwd=folder, env=dict(toolchain.env), capture_output=True, text=True, check=False)


def test_verilator(folder: Path) -> None:
    done = verilator(folder, str(WAIVERS), "rowcast.v")
    assert (done.returncode, done.stderr[:2000]) == (0, "")


def test_icarus(folder: Path) -> None:
    command = ["iverilog", "-g2005-sv", "-t", "null", "-s", "rowcast", "rowcast.v"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_yosys(folder: Path) -> None:
    script = ["read_verilog rowcast.v", "hierarchy -check -top rowcast", "proc", "check -assert"]
    command = [sys.executable, "-c", YOSYS, *script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_modules_are_not_repeated(folder: Path) -> None:
    verilog = (folder / "rowcast.v").read_text()
    names = re.findall(r"^module (\S+)\s*\(", verilog, re.MULTILINE)
    assert len(set(names)) == len(names)
    assert names.count("rowcast_pe") == 1 and names.count("rowcast_row") == 1
    assert all(re.fullmatch(r"\w+", name) for name in names)


def test_every_waiver_is_needed(tmp_path: Path) -> None:
    (tmp_path / "rowcast.v").write_text(accelerator_verilog(preset("tiny")))
    found = set(re.findall(r"%Warning-(\w+):", verilator(tmp_path, "rowcast.v").stderr))
    assert found == set(re.findall(r"^lint_off -rule (\w+)", WAIVERS.read_text(), re.MULTILINE))


def test_a_fault_is_found(tmp_path: Path) -> None:
    """The waivers leave real faults visible: an undriven output, a latch, an unconnected pin."""
    (tmp_path / "rowcast.v").write_text(
        "module part(input a, output b); assign b = a; endmodule\n"
        "module rowcast(input a, input en, output b, output c, output reg d);\n"
        "  part part(.b(b));\n  always @* if (en) d = a;\nendmodule\n"
    )
    found = set(re.findall(r"%Warning-(\w+):", verilator(tmp_path, str(WAIVERS), "rowcast.v").stderr))
    assert {"UNDRIVEN", "LATCH", "PINMISSING"} <= found


