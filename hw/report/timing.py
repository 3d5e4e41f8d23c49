"""Longest path of a netlist by OpenSTA: no wires, ideal clock, inputs at the clock's edge, memories as black boxes."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hw.errors import RequestError, ToolError
from hw.report.liberty import Liberty

__all__ = ["LongestPath", "find_sta", "longest_path", "sta_version"]

_PERIOD = 1_000_000  # ps, beyond any path
_SCRIPT = """
read_liberty cells.lib
set_cmd_units -time ps
read_verilog netlist.v
link_design {top}
create_clock -name clk -period {period} [get_ports clk]
set inputs {{}}
foreach port [all_inputs] {{ if {{[get_property $port full_name] ne "clk"}} {{ lappend inputs $port }} }}
set_input_delay 0 -clock clk $inputs
puts "PATH"
report_checks -path_delay max -format full -digits 3
puts "END"
"""


@dataclass(frozen=True)
class LongestPath:
    """The path that limits the clock.

    Parameters
    ----------
    period_ps
        Shortest clock period: path and set-up time.
    start, end
        Instance or port.
    gates
        On the way.
    """

    period_ps: float
    start: str
    end: str
    gates: int

    @property
    def fmax_mhz(self) -> float:
        """Highest clock frequency."""
        return 1e6 / self.period_ps


def find_sta() -> str:
    """Return the path of OpenSTA's program; raise :class:`RequestError` if it is not installed."""
    if (program := shutil.which("sta")) is None:
        raise RequestError(
            "--sta needs OpenSTA, but there is no program 'sta' in PATH: install it (Debian: apt-get install opensta; "
            "sources: https://github.com/The-OpenROAD-Project/OpenSTA), or leave out --sta for abc's estimate"
        )
    return program


def sta_version() -> str:
    """Return the version that OpenSTA tells."""
    done = subprocess.run([find_sta(), "-version"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def longest_path(netlist: str, top: str, liberty: Liberty) -> LongestPath:
    """Return the longest path that ends in a register.

    Parameters
    ----------
    netlist
        Verilog of all modules but memories.
    top
        Module to begin with; its clock is the port ``clk``.
    liberty
        The library that the netlist is of.

    Raises
    ------
    RequestError
        If OpenSTA is not installed.
    ToolError
        If it fails, or finds no path.
    """
    program = find_sta()
    with tempfile.TemporaryDirectory(prefix="rowcast-") as name:
        folder = Path(name)
        (folder / "cells.lib").write_text(liberty.text)
        (folder / "netlist.v").write_text(netlist)
        (folder / "run.tcl").write_text(_SCRIPT.format(top=top, period=_PERIOD))
        command = [program, "-no_splash", "-exit", "run.tcl"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    return parse_path(done.stdout, done.stdout + done.stderr)


def parse_path(report: str, everything: str) -> LongestPath:
    """Return the path that OpenSTA's output tells; `everything` may hold its errors."""
    if done := re.search(r"^Error:.*$", everything, re.MULTILINE):
        raise ToolError(f"OpenSTA: {done[0].removeprefix('Error:').strip()}")
    start, end = (re.search(rf"^{what}: (\S+)", report, re.MULTILINE) for what in ("Startpoint", "Endpoint"))
    slack = re.search(r"^ *(-?[\d.]+) +slack", report, re.MULTILINE)
    if not (start and end and slack):
        raise ToolError(f"OpenSTA found no path that ends in a register: {everything.strip()[-500:]}")
    gates = len(re.findall(r"^[ \d].*[v^] \S+/\S+ \(\w+\)$", report, re.MULTILINE))
    # the clock pin and output of a launching flip-flop, data and clock pins of the capturing one are no gates
    ends = 4 if re.search(r"^Startpoint:.*flip-flop", report, re.MULTILINE) else 2
    return LongestPath(_PERIOD - float(slack[1]), start[1], end[1], max(gates - ends, 0))
