"""Verilog of a component: every distinct module once, the same bytes for the same design and tool versions.

Amaranth's netlist of the top and of each shared module is concatenated as RTLIL text and written as Verilog by one run
of Yosys.
"""

from __future__ import annotations

import gc
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Fragment, Signal, Value
from amaranth.hdl._ir import PortDirection
from amaranth.hdl._nir import Netlist
from amaranth.lib import wiring

from hw.errors import ToolError
from hw.port_names import rename_ports
from hw.shared import Emitter
from hw.yosys import YosysError, run_yosys

__all__ = ["EmitError", "emit", "tool_versions", "verilog_modules"]

_SCRIPT = (
    "read_rtlil {source}",
    "proc -nomux -norom",
    "memory_collect",
    "attrmap -remove generator -remove top -remove src -remove amaranth.hierarchy -remove amaranth.decoding",
    "attrmap -modattr -remove generator -remove top -remove src -remove amaranth.hierarchy",
    "write_verilog {target}",
)


_MODULE = re.compile(r"^(module|  cell) \\(\S+)", re.MULTILINE)
_DIRECTION = re.compile(r"^(  wire width \d+ (?:input|output)) (\d+)", re.MULTILINE)
_ZERO_WIDTH = re.compile(r"^  wire width 0 .*\n\n?|^connect \\\S+ \{ *\}\n", re.MULTILINE)
_GUARD = re.compile(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ")


class EmitError(ToolError):
    """Yosys refused the netlist; the message is its own."""


def tool_versions() -> dict[str, str]:
    """Versions of the packages that determine the emitted bytes."""
    return {package: metadata.version(package) for package in ("amaranth", "pyosys")}


def _top_rtlil(component: wiring.Component, name: str, platform: Emitter, reset_low: bool) -> str:
    fragment = Fragment.get(component, platform)
    sync = ClockDomain("sync")
    fragment.add_domains(sync)
    ports: dict[str, tuple[Signal, PortDirection]] = {"clk": (sync.clk, PortDirection.Input)}
    if reset_low:
        aresetn = Signal()
        fragment.add_statements("comb", sync.rst.eq(~aresetn))
        ports["aresetn"] = (aresetn, PortDirection.Input)
    else:
        ports["rst"] = (sync.rst, PortDirection.Input)
    for path, member, value in component.signature.flatten(component):
        direction = PortDirection.Input if member.flow == wiring.In else PortDirection.Output
        ports["_".join(map(str, path))] = (Value.cast(value), direction)
    text, _ = rtlil.convert_fragment(fragment, ports, name, emit_src=False)
    return str(text)


@contextmanager
def _fast_netlists() -> Iterator[None]:
    """Leave out two things that take more than half of the time over millions of live tuples.

    The cyclic garbage collector, and Amaranth's search for combinational loops: it ends at the borders of shared
    modules anyway. Verilator's lint sees the whole design (UNOPTFLAT, on every preset in tests/hw/test_lint.py).
    """
    collecting, search = gc.isenabled(), Netlist.check_comb_cycles
    gc.disable()
    Netlist.check_comb_cycles = lambda self: None
    try:
        yield
    finally:
        Netlist.check_comb_cycles = search
        if collecting:
            gc.enable()


def to_rtlil(component: wiring.Component, name: str, platform: Emitter, *, reset_low: bool = False) -> str:
    """Return RTLIL of a component and of all shared modules below it (arguments: see :func:`emit`).

    Memories that `platform` turned into :class:`hw.ram.Ram` modules are left out.
    """
    with _fast_netlists():
        top = _top_rtlil(component, name, platform, reset_low)
    return _tidy("\n".join([*(module.text for module in platform.modules.values()), top]))


def _tidy(text: str) -> str:
    """Make RTLIL give readable Verilog.

    Private submodules ``a.b`` are renamed to plain identifiers ``a__b``; ports are numbered from 1, or Yosys puts
    number 0 last; wires without bits, which Yosys would give two, are dropped; ports get plain names
    (:func:`hw.port_names.rename_ports`).
    """
    text = _MODULE.sub(lambda m: f"{m[1]} \\{m[2].replace('.', '__').replace('$', '_')}", text)
    text = _ZERO_WIDTH.sub("", text)
    text = rename_ports(text)
    return _DIRECTION.sub(lambda m: f"{m[1]} {int(m[2]) + 1}", text)


def to_verilog(text: str) -> str:
    """Return RTLIL as Verilog.

    Raises
    ------
    EmitError
        If Yosys refuses it.
    """
    with tempfile.TemporaryDirectory(prefix="rowcast-") as folder:
        source, target = Path(folder, "design.il"), Path(folder, "design.v")
        source.write_text(text)
        script = [line.format(source=source, target=target) for line in _SCRIPT]
        try:
            run_yosys(script)
        except YosysError as error:
            raise EmitError(f"Yosys could not write Verilog: {error}") from None
        verilog = target.read_text()
    verilog = re.sub(r"\A/\* Generated by Yosys.*?\*/\n+", "", verilog)
    return _wake_constants(_GUARD.sub("_never_", verilog))


_SETTLED = re.compile(r"^  always @\*\n    (\S+(?: \S+)? = ([^;]+);)$", re.MULTILINE)
_LITERAL = re.compile(r"\d+'s?[hdb][0-9a-fxz_]+")


def _wake_constants(verilog: str) -> str:
    """Let blocks that assign constants run once: ``always @*`` without any input never does.

    The guard is the one that Yosys itself writes into blocks with branches: a register with an initial value, whose
    change at time 0 starts the block.
    """

    def wake(match: re.Match[str]) -> str:
        if re.search(r"[A-Za-z_\\]", _LITERAL.sub("", match[2])):
            return match[0]
        return f"  always @* begin\n    if (_never_) begin end\n    {match[1]}\n  end"

    modules = []
    for module in verilog.split("\nendmodule\n"):
        text = _SETTLED.sub(wake, module)
        if text != module and "reg _never_" not in text:
            text = re.sub(r"(?m)^(module .*\);\n)", r"\1  reg _never_ = 0;\n", text, count=1)
        modules.append(text)
    return "\nendmodule\n".join(modules)


def emit(
    component: wiring.Component, name: str = "rowcast", *, reset_low: bool = False, share: bool = True, header: str = ""
) -> str:
    """Return the Verilog of a component.

    Parameters
    ----------
    component
        The top; its only clock domain is ``sync``.
    name
        Name of the top module.  Its ports are ``clk``, ``rst`` and the signature's paths joined by ``_``.
    reset_low
        Name the reset ``aresetn``, active low, instead of ``rst``.
    share
        Emit each distinct :func:`hw.shared.shared` module once; False repeats it at every use.
    header
        Text put first, as a comment.

    Returns
    -------
    str
        Verilog-2005 without absolute paths, dates or source locations.

    Raises
    ------
    EmitError
        If Yosys refuses the netlist.
    hw.shared.ShareError
        If a shared component breaks the rules of :mod:`hw.shared`.
    """
    platform = Emitter(share=share)
    verilog = to_verilog(to_rtlil(component, name, platform, reset_low=reset_low))
    comment = "".join(f"// {line}".rstrip() + "\n" for line in header.splitlines())
    rams = [platform.rams[name].verilog() for name in sorted(platform.rams)]
    return "\n".join([comment, verilog, *rams])


def verilog_modules(verilog: str) -> list[str]:
    """Return the names of the modules in emitted Verilog, in order."""
    return re.findall(r"^module (\w+) *\(", verilog, re.MULTILINE)
