"""Gate-level netlists that a simulator runs in the place of the generated Verilog."""

from __future__ import annotations

import fnmatch
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from hw.errors import ToolError
from hw.report.liberty import Liberty
from hw.report.synthesis import netlist_text, synthesise
from hw.report.yosys_run import MEMORIES
from hw.yosys import YosysError, run_yosys

__all__ = ["DESIGN", "gate_verilog"]

DESIGN = "rowcast*"
"""Pattern of the names of a design's own modules; others are library cells."""

_MODULE = re.compile(r"^(?:\(\*.*\*\)\n)*module (\w+) *\(.*?^endmodule$", re.MULTILINE | re.DOTALL)


def gate_verilog(
    verilog: str,
    liberty: Liberty | None = None,
    *,
    modules: Sequence[str] = ("*",),
    progress: Callable[[str], None] = lambda text: None,
) -> str:
    """Return a design with its modules as gates, each gate an assignment, for simulation.

    The netlist is that of :func:`hw.report.synthesis.synthesise`, memories stay as they are.  What a gate computes says
    Yosys' cell library or, with a Liberty file, that: its functions and flip-flops are read back and put in the places
    of the cells.

    Parameters
    ----------
    verilog
        Text of :func:`hw.generate.accelerator_verilog`.
    liberty
        Cell library; None: generic gates.
    modules
        Patterns of the modules that become gates, with all modules that those use; the others stay RTL.
    progress
        Called with what is being done.

    Raises
    ------
    hw.errors.ToolError
        If Yosys refuses the design or the library.
    ValueError
        If no module matches a pattern.
    """
    rtl = {match[1]: match[0] for match in _MODULE.finditer(verilog)}
    design = [name for name in rtl if not fnmatch.fnmatch(name, MEMORIES)]
    chosen: set[str] = set()
    for pattern in modules:
        found = fnmatch.filter(design, pattern)
        if not found:
            raise ValueError(f"no module matches {pattern}; there are {', '.join(sorted(design))}")
        chosen.update(found)
    used = re.compile(rf"^  ({'|'.join(design)}) \w+ \($", re.MULTILINE)
    while more := {name for module in chosen for name in used.findall(rtl[module])} - chosen:
        chosen |= more
    needed = [text for name, text in rtl.items() if name in chosen or name not in design]  # with the memories' ports
    netlists = synthesise("\n".join(needed), liberty, progress=progress)
    progress(f"{len(chosen)} modules: gates as assignments")
    gates = _assignments(netlist_text(netlists), liberty)
    kept = [text for name, text in rtl.items() if name not in chosen]
    return "\n".join([gates, *kept]) + "\n"


def _assignments(netlist: str, liberty: Liberty | None) -> str:
    with tempfile.TemporaryDirectory(prefix="rowcast-") as name:
        folder = Path(name)
        (folder / "netlist.v").write_text(netlist)
        commands = [f"read_verilog -icells {folder}/netlist.v"]
        if liberty is not None:
            (folder / "cells.lib").write_text(liberty.text)
            commands += [
                "setattr -mod -set keep_hierarchy 1 *",
                f"read_liberty -ignore_miss_func -ignore_miss_dir {folder}/cells.lib",
                "flatten -noscopeinfo",
                f"delete * {DESIGN} %d",
                "rename -hide w:*.*",  # names inside cells: nets keep those that they have in the netlist
                "opt_clean",
            ]
        commands.append(f"write_verilog -noattr {folder}/gates.v")
        try:
            run_yosys(commands)
        except YosysError as error:
            raise ToolError(f"Yosys made no simulation model of the netlist: {str(error)[:500]}") from None
        return (folder / "gates.v").read_text()
