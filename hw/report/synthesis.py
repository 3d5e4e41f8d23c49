"""Synthesis by Yosys, module by module: each distinct module is mapped once, here and in later runs.

Without flattening nothing is optimised across modules' borders, so the netlist of a module depends on its own text and
on the ports of those it uses.  It is kept under the hash of these, of the library and of the flow.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from hw.errors import ToolError
from hw.generate import TOP
from hw.report.cache import Store, sources_hash
from hw.report.liberty import Liberty
from hw.report.yosys_run import MEMORIES, MULTIPLIER, PROGRESS, Job

__all__ = ["Mapped", "Progress", "netlist_text", "synthesise"]

Progress = Callable[[str], None]

_FLOW = ("hw/report/yosys_run.py", "hw/report/synthesis.py")
_TEXT = re.compile(r"^(?:\(\*.*\*\)\n)*module (\w+) *\(.*?^endmodule$", re.MULTILINE | re.DOTALL)
_PORTS = re.compile(r"^ *(?:input|output)\b.*$", re.MULTILINE)
_MAPPED = re.compile(r"^ABC: netlist .* lev = *(\d+)", re.MULTILINE)
_DELAY = re.compile(r"^ABC: WireLoad .* Delay = *([\d.]+) ps", re.MULTILINE)


@dataclass(frozen=True)
class Mapped:
    """A module as gates.

    Parameters
    ----------
    cells
        Cell type, or module used, to how many there are in this module.
    verilog
        Its netlist.
    levels
        Gates on the longest path through it, not through modules it uses.
    delay_ps
        Of the slowest such path, as abc estimates it: no wires, no flip-flop; None without a library.
    transistors
        Yosys' estimate without modules used; None with a library.
    """

    cells: dict[str, int]
    verilog: str
    levels: int = 0
    delay_ps: float | None = None
    transistors: int | None = None


@dataclass
class _Source:
    """A module's text, and the names of the modules in it."""

    text: str
    uses: list[str] = field(default_factory=list)


def synthesise(
    verilog: str, liberty: Liberty | None, *, flat: bool = False, store: Store | None = None, progress: Progress
) -> dict[str, Mapped]:
    """Return the modules of an accelerator as gates, memories left out.

    Parameters
    ----------
    verilog
        Text of :func:`hw.generate.accelerator_verilog`.
    liberty
        Cell library; None: generic gates.
    flat
        Make one module of all; takes minutes.
    store
        Where modules are kept.
    progress
        Called with what is being done.

    Raises
    ------
    ToolError
        If Yosys refuses the design or the library, or dies.
    """
    sources = _sources(verilog)
    store = store or Store("modules")
    facts = (sources_hash(*_FLOW), liberty.sha256 if liberty else "", flat)
    if flat:
        keys = {TOP: store.key(facts, verilog)}
    else:
        keys = {name: store.key(facts, source.text, _interfaces(source, sources)) for name, source in sources.items()}
    known: dict[str, dict[str, Mapped]] = {}
    for name, key in keys.items():
        if (kept := store.get(key)) is not None:
            known[name] = {part: Mapped(**record) for part, record in kept["modules"].items()}
    missing = [name for name in keys if name not in known]
    if missing:
        made = _run(verilog, liberty, TOP if flat else "", tuple(known), progress)
        if lost := sorted(set(missing) - set(made)):
            raise ToolError(f"Yosys wrote no netlist of {', '.join(lost)}")
        for name in missing:
            parts = {name: made[name]}
            if MULTIPLIER in made[name].cells:
                parts[MULTIPLIER] = made[MULTIPLIER]
            known[name] = parts
            store.put(keys[name], {"modules": {part: asdict(mapped) for part, mapped in parts.items()}})
        store.prune()
    return {part: mapped for parts in known.values() for part, mapped in parts.items()}


def netlist_text(modules: dict[str, Mapped]) -> str:
    """Return the netlist of a design as Verilog; memories are instances of modules that are not in it."""
    return "\n".join(modules[name].verilog for name in sorted(modules))


def _sources(verilog: str) -> dict[str, _Source]:
    """Return the modules of a text, memories left out."""
    modules = [match for match in _TEXT.finditer(verilog) if not fnmatch(match[1], MEMORIES)]
    found = {match[1]: _Source(match[0]) for match in modules}
    used = re.compile(rf"^  ({'|'.join(found)}) \w+ \($", re.MULTILINE)
    for source in found.values():
        source.uses = sorted(set(used.findall(source.text)))
    return found


def _interfaces(source: _Source, sources: dict[str, _Source]) -> dict[str, list[str]]:
    return {name: _PORTS.findall(sources[name].text) for name in source.uses}


def _run(
    verilog: str, liberty: Liberty | None, top: str, black_boxes: tuple[str, ...], progress: Progress
) -> dict[str, Mapped]:
    """Run Yosys; return the modules it mapped."""
    with tempfile.TemporaryDirectory(prefix="rowcast-") as name:
        folder = Path(name)
        (folder / "design.v").write_text(verilog)
        if liberty is not None:
            (folder / "cells.lib").write_text(liberty.text)
        job = Job(str(folder), liberty is not None, top, black_boxes).save()
        said = []
        command = [sys.executable, "-m", "hw.report.yosys_run", str(job)]
        with (
            (folder / "log").open("w") as log,
            subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE, text=True, errors="replace") as process,
        ):
            assert process.stderr is not None
            try:
                for line in process.stderr:
                    if line.startswith(PROGRESS):
                        progress(line.removeprefix(PROGRESS).strip())
                    else:
                        said.append(line)
            except BaseException:
                process.kill()
                raise
        status = process.returncode
        text = (folder / "log").read_text(errors="replace")
        if status or not (folder / "stat.json").exists() or not (folder / "netlist.v").exists():
            reasons = [*re.findall(r"^ABC: (?:Error: |(?=.*cannot be used))(.*)$", text, re.MULTILINE), *said]
            reason = " ".join(part.strip() for part in reasons) or text[-1000:].strip()
            ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            raise ToolError(f"Yosys {ended}: {reason[-1500:]}".replace(f"{folder}/", ""))
        stat = json.loads((folder / "stat.json").read_text())["modules"]
        return _collect(stat, (folder / "netlist.v").read_text(), text)


def _collect(stat: dict[str, dict], netlist: str, log: str) -> dict[str, Mapped]:
    """Put together statistics, netlist and what abc said of each module."""
    texts = {match[1]: match[0] for match in _TEXT.finditer(netlist)}
    parts = re.split(rf"^{PROGRESS}", log, flags=re.MULTILINE)[1:]
    said = {part.partition("\n")[0].strip(): part for part in parts}
    counts = {name.removeprefix("\\"): entry for name, entry in stat.items()}
    found = {}
    for name, entry in counts.items():
        if name not in texts:
            continue
        cells = {cell.removeprefix("\\"): count for cell, count in entry.get("num_cells_by_type", {}).items()}
        levels, delay = _MAPPED.search(said.get(name, "")), _DELAY.search(said.get(name, ""))
        found[name] = Mapped(
            cells,
            re.sub(r"^(  (?:input|output|wire|inout)) signed\b", r"\1", texts[name], flags=re.MULTILINE),
            int(levels[1]) if levels else 0,
            float(delay[1]) if delay else None,
            _own_transistors(entry, cells, counts),
        )
    return found


def _own_transistors(entry: dict, cells: dict[str, int], counts: dict[str, dict]) -> int | None:
    """Return a module's transistors without those of modules it uses, which Yosys adds as far as it knows them."""

    def total(one: dict) -> int:
        return int(str(one["estimated_num_transistors"]).rstrip("+"))

    if "estimated_num_transistors" not in entry:
        return None
    return total(entry) - sum(count * total(counts[cell]) for cell, count in cells.items() if cell in counts)
