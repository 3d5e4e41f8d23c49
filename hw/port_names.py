"""Names of ports in Amaranth's RTLIL that Verilog's readers can use, made from each module alone.

A net that crosses a module's border without being one whole signal inside gets ``port$<cell>$<bit>`` from Amaranth,
numbered through the whole netlist, and signals that share a name are numbered through their scope: a change anywhere
renames ports everywhere.  Here such a port is called after the signals it carries, so that a module's text depends on
the module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

__all__ = ["rename_ports"]

_MODULE = re.compile(r"^module \\(\S+)\n(?:.*\n)*?end$", re.MULTILINE)
_WIRE = re.compile(r"^  wire width (\d+) (?:(input|output) \d+ +)?(?:signed +)?\\(\S+)$", re.MULTILINE)
_ANONYMOUS = re.compile(r"port\$\d+\$\d+")
# A `connect` that is indented is a pin of a cell.
_ASSIGNMENT = re.compile(r"^(?:connect| +assign) \\(\S+)(?: \[(\d+)(?::(\d+))?\])? (.+)$", re.MULTILINE)
_CHUNK = re.compile(r"(?:\\(?P<wire>\S+)|\$\d+)(?: \[(?P<high>\d+)(?::(?P<low>\d+))?\])?|(?P<bits>\d+)'\S+")
_CELL = re.compile(r"^  cell \\(\S+) ")
_NAME = re.compile(r"\\(\S+)")

_KEYWORDS = frozenset({"edge", "event", "final", "force", "release", "table", "time", "wait"})
"""Verilog's words that are likely names of a port."""

_LONGEST = 60


class _Part(NamedTuple):
    """Bits of a port, first and last, that are a signal or a part of one: its name then ends in its bits."""

    low: int
    high: int
    partial: bool
    name: str


def rename_ports(text: str) -> str:
    """Return RTLIL in which ports with ``$``, ``.`` or a Verilog keyword in their names have plain, lasting ones.

    * A port without a name of its own: the signal that it is a part of, with the bits (``o__payload_67_1``), or the
      first and the last of the signals it holds (``axi__rdata_to_rlast``).
    * A port that shares its name with other signals of its module: the name and the first free number.

    Parameters
    ----------
    text
        Modules as Amaranth writes them, module names already plain.
    """
    modules = list(_MODULE.finditer(text))
    plain = {module[1]: names for module in modules if (names := _plain_names(module[0]))}
    if not plain:
        return text
    parts, done = [], 0
    for module in modules:
        parts += [text[done : module.start()], _renamed(module[0], plain.get(module[1], {}), plain)]
        done = module.end()
    return "".join([*parts, text[done:]])


def _plain_names(module: str) -> dict[str, str]:
    wires = _WIRE.findall(module)
    odd = [name for _, direction, name in wires if direction and ("$" in name or "." in name or name in _KEYWORDS)]
    if not odd:
        return {}
    widths = {name: int(width) for width, _, name in wires}
    taken, plain = set(widths), {}
    for name in odd:
        wanted = _of_signals(module, name, widths) if _ANONYMOUS.fullmatch(name) else _base(name)
        wanted += "_" * (wanted in _KEYWORDS)
        new, number = wanted, 2
        while new in taken:
            new, number = f"{wanted}_{number}", number + 1
        taken.add(new)
        plain[name] = new
    return plain


def _base(name: str) -> str:
    """Return a signal's name as it was given, plain: without Amaranth's number."""
    return re.sub(r"\W", "_", re.sub(r"\$\d+$", "", name)).lstrip("_") or "part"


def _of_signals(module: str, port: str, widths: Mapping[str, int]) -> str:
    parts = set(_parts(module, port, widths))
    if not parts:
        return "part"

    def rank(part: _Part) -> tuple[bool, int, int, str]:
        return part.partial, part.low - part.high, len(part.name), part.name

    bottom = min(part.low for part in parts)
    top = max(part.high for part in parts)
    first = min((part for part in parts if part.low == bottom), key=rank)
    last = min((part for part in parts if part.high == top), key=rank)
    if first.high >= last.low:
        return first.name
    scope = first.name.rpartition("__")[0]
    both = f"{first.name}_to_{last.name.removeprefix(f'{scope}__' if scope else '')}"
    return both if len(both) <= _LONGEST else first.name


def _parts(module: str, port: str, widths: Mapping[str, int]) -> Iterator[_Part]:
    """Yield the parts of a port that assignments of the module give to or take from a signal."""
    for match in _ASSIGNMENT.finditer(module):
        target, value = match[1], match[4]
        if target != port and f"\\{port} " not in f"{value} ":
            continue
        offset = int(match[3] or match[2] or 0)
        # RTLIL's concatenations begin with the highest bits
        for chunk in reversed(list(_CHUNK.finditer(value))):
            wire = chunk["wire"]
            low, high = _slice(chunk, widths)
            bits = high - low + 1
            if wire and target == port:
                yield _part(offset, wire, low, bits, widths)
            elif wire == port:
                yield _part(low, target, offset, bits, widths)
            offset += bits


def _slice(chunk: re.Match[str], widths: Mapping[str, int]) -> tuple[int, int]:
    """Return the bits (first, last) of a part of a concatenation."""
    if chunk["bits"]:
        return 0, int(chunk["bits"]) - 1
    if chunk["high"]:
        return int(chunk["low"] or chunk["high"]), int(chunk["high"])
    return 0, widths.get(chunk["wire"], 1) - 1


def _part(low: int, signal: str, first: int, bits: int, widths: Mapping[str, int]) -> _Part:
    name, last = _base(signal), first + bits - 1
    partial = bits < widths[signal]
    if partial:
        name += f"_{last}" if bits == 1 else f"_{last}_{first}"
    return _Part(low, low + bits - 1, partial, name)


def _renamed(module: str, names: Mapping[str, str], plain: Mapping[str, Mapping[str, str]]) -> str:
    """Return a module with its own ports renamed and, in its cells, those of the modules they are of."""

    def own(match: re.Match[str]) -> str:
        return "\\" + names.get(match[1], match[1])

    lines = []
    pins: Mapping[str, str] | None = None  # of the cell that the line is in
    for line in module.split("\n"):
        if line.startswith("  cell "):
            cell = _CELL.match(line)
            pins = plain.get(cell[1], {}) if cell else {}
            lines.append(line)
        elif line == "  end":
            pins = None
            lines.append(line)
        elif line.startswith("    connect \\") and pins is not None:
            pin, _, value = line.removeprefix("    connect \\").partition(" ")
            lines.append(f"    connect \\{pins.get(pin, pin)} {_NAME.sub(own, value)}")
        elif names and "\\" in line and not line.lstrip().startswith(("attribute", "parameter", "module")):
            lines.append(_NAME.sub(own, line))
        else:
            lines.append(line)
    return "\n".join(lines)
