"""Verilator, Icarus and Yosys accept the generated Verilog of every preset and of odd configurations."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hw.axi import AXI4LiteSignature, AXI4ReadSignature, AXI4WriteSignature
from hw.constraints import top_ports
from hw.control import UNITS as UNIT_NAMES
from hw.generate import accelerator_verilog
from hw.spec.config import PRESETS, preset
from sim.verilator.toolchain import find_toolchain

LONGEST_NAME = 64
UNITS = tuple(UNIT_NAMES.values())
AXI = {
    "s_axil": (AXI4LiteSignature(12),),
    "m_axi": (AXI4WriteSignature(40, 64), AXI4ReadSignature(40, 64)),
}
"""Prefix of a bus to its channels; the widths do not matter for the names."""
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


def test_names_are_readable(folder: Path) -> None:
    """Modules and ports are plain identifiers of bounded length; the top's buses have AXI's names, all of them."""
    verilog = (folder / "rowcast.v").read_text()
    modules = re.findall(r"^module (\S+) ?\(([^;]*)\);", verilog, re.MULTILINE)
    assert modules
    for name, ports in modules:
        # Hierarchical: rowcast, the instance's path, and only for what is shared its parameters.
        assert re.fullmatch(r"rowcast(__?[a-z]\w*)?", name) and len(name) <= LONGEST_NAME, name
        for port in re.findall(r"(\S+)(?:,|\s*$)", ports):
            assert re.fullmatch(r"[a-z]\w*", port) and len(port) <= LONGEST_NAME, f"{port} of {name}"
    top = set(top_ports(verilog))
    for prefix, signatures in AXI.items():
        wanted = {f"{prefix}_{member}" for signature in signatures for member in signature.members}
        assert {name for name in top if name.startswith(prefix)} == wanted
    rest = {name for name in top if not name.startswith(tuple(AXI))}
    assert rest - {f"trace_{unit}_{what}" for unit in UNITS for what in ("start", "pc", "done")} in (
        {"clk", "rst", "irq"}, {"clk", "aresetn", "irq"}
    )  # fmt: skip


def test_every_waiver_is_needed_and_counted(tmp_path: Path) -> None:
    """Every waived class occurs, no other does, and docs/hardware.md states how often, for preset tiny."""
    (tmp_path / "rowcast.v").write_text(accelerator_verilog(preset("tiny")))
    found = Counter(re.findall(r"%Warning-(\w+):", verilator(tmp_path, "rowcast.v").stderr))
    waived = re.findall(r"^lint_off -rule (\w+)", WAIVERS.read_text(), re.MULTILINE)
    assert len(waived) == len(set(waived)) and set(found) == set(waived)
    text = (WAIVERS.parents[2] / "docs" / "hardware.md").read_text()
    table = dict(re.findall(r"^\| `([A-Z]+)` \| ([\d,]+) \|", text[text.index("## Lint") :], re.MULTILINE))
    # The order of magnitude: any change of the hardware moves the counts a little.
    assert set(table) == set(found)
    for name, count in found.items():
        assert 0.5 <= count / int(table[name].replace(",", "")) <= 2, f"{name}: {count}, docs/hardware.md {table[name]}"


def test_a_fault_is_found(tmp_path: Path) -> None:
    """The waivers leave real faults visible: an undriven output, a latch, an unconnected pin."""
    (tmp_path / "rowcast.v").write_text(
        "module part(input a, output b); assign b = a; endmodule\n"
        "module rowcast(input a, input en, output b, output c, output reg d);\n"
        "  part part(.b(b));\n  always @* if (en) d = a;\nendmodule\n"
    )
    found = set(re.findall(r"%Warning-(\w+):", verilator(tmp_path, str(WAIVERS), "rowcast.v").stderr))
    assert {"UNDRIVEN", "LATCH", "PINMISSING"} <= found


