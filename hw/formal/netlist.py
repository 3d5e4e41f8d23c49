"""From a harness (Amaranth) to what the solvers read: BTOR2 for the SMT solver, AIGER for the PDR engine."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Fragment, Signal, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring

from hw.errors import ToolError
from hw.yosys import YosysError, run_yosys

__all__ = ["Netlist", "netlist"]

_TO_BTOR = (
    "read_rtlil {folder}/design.il",
    "hierarchy -check -top harness",
    "proc",
    "flatten",
    "memory_map",
    "opt -full -nodffe -nosdff",
    "dffunmap",
    "chformal -lower",
    "opt_clean",
    "write_btor {folder}/design.btor",
    "write_btor -c {folder}/cover.btor",
)
_TO_AIGER = (
    "chformal -cover -remove",
    "delete -output o:*",
    "techmap",
    "dffunmap",
    "aigmap",
    "opt_clean",
    "write_aiger -B -zinit -no-startoffset {folder}/design.aig",
)
_ASSERT = re.compile(
    r'^    parameter \\FORMAT "(\w+)"\n(?:    parameter .*\n)*    parameter \\FLAVOR "assert"', re.MULTILINE
)
_CHECK = re.compile(r'^(  cell \$check )\S+(?=\n    parameter \\FORMAT "(\w+)")', re.MULTILINE)
CHECK_PREFIX = "check:"


@dataclass(frozen=True)
class Netlist:
    """A harness as text.

    Attributes
    ----------
    btor, cover : str
        BTOR2; bad states are the assertions, or the cover statements, by their messages.
    aiger : bytes
        Binary AIGER 1.9 with the chosen assertions, or nothing if none was chosen.
    """

    btor: str
    cover: str
    aiger: bytes


def _rtlil(harness: wiring.Component) -> str:
    """Return the harness's RTLIL: inputs are free, registers begin with their reset values and there is no reset."""
    fragment = Fragment.get(harness, None)
    sync = ClockDomain("sync", reset_less=True)
    fragment.add_domains(sync)
    ports: dict[str, tuple[Signal, PortDirection]] = {"clk": (sync.clk, PortDirection.Input)}
    for path, member, value in harness.signature.flatten(harness):
        direction = PortDirection.Input if member.flow == wiring.In else PortDirection.Output
        ports["_".join(map(str, path))] = (Value.cast(value), direction)
    text, _ = rtlil.convert_fragment(fragment, ports, "harness", emit_src=False)
    return str(text)


def netlist(harness: wiring.Component, *, aiger: Collection[str] = ()) -> Netlist:
    """Return a harness's netlist.

    Parameters
    ----------
    harness
        Its ``In`` members are free in every cycle; every Assert, Assume and Cover has a message that is a word.
    aiger
        Assertions for which AIGER is made.

    Raises
    ------
    ToolError
        If Yosys refuses the design.
    """
    raw = _rtlil(harness)
    text = _CHECK.sub(lambda match: f"{match[1]}\\{CHECK_PREFIX}{match[2]}", raw)
    with tempfile.TemporaryDirectory(prefix="rowcast-formal-") as folder:
        place = Path(folder)
        (place / "design.il").write_text(text)
        names = _ASSERT.findall(raw)
        others = " ".join(f"c:{CHECK_PREFIX}{name}" for name in names if name not in aiger)
        script = list(_TO_BTOR)
        if aiger:
            script += [*([f"delete {others}"] if others else []), *_TO_AIGER]
        try:
            run_yosys(line.replace("{folder}", folder) for line in script)
        except YosysError as error:
            raise ToolError(f"Yosys cannot read the harness: {error}") from None
        return Netlist(
            btor=(place / "design.btor").read_text(),
            cover=(place / "cover.btor").read_text(),
            aiger=(place / "design.aig").read_bytes() if aiger else b"",
        )
