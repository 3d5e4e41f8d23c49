"""Documents derived from the specification's tables.

``python -m hw.docs_gen`` writes ``docs/isa.md``, ``docs/registers.md`` and ``docs/link.md``.  A test compares the files
with the tables, so that none can drift.
"""

from __future__ import annotations

import argparse
import enum
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from hw.csr_block import identity_values
from hw.spec import csr, isa, link, numerics, program
from hw.spec.config import AcceleratorConfig
from hw.spec.fields import FieldTable

__all__ = ["isa_markdown", "link_markdown", "main", "registers_markdown"]

_NOTE = "<!-- Generated from the tables in hw/spec by `python -m hw.docs_gen`; edit those. -->\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |\n" for line in lines)


def _bits(offset: int, width: int) -> str:
    return str(offset) if width == 1 else f"{offset + width - 1}:{offset}"


def _fields(table: FieldTable) -> str:
    names = {name: kind.__name__ for name, kind in isa.ENUM_FIELDS.items()}
    return _table(
        ("bits", "field", "range", "meaning"),
        (
            (
                _bits(table.offsets[field.name], field.width),
                f"`{field.name}`",
                names.get(field.name) or f"{field.minimum} to {field.maximum}",
                field.doc,
            )
            for field in table.fields
        ),
    )


def _prose(text: str) -> str:
    """Turn a docstring into Markdown: indented blocks become fenced ones."""
    out: list[str] = []
    fenced = False
    for line in inspect.cleandoc(text).splitlines():
        literal = line.startswith("    ")
        if literal and not fenced:
            out.append("```text")
        elif fenced and line and not literal:
            while not out[-1]:
                out.pop()
            out += ["```", ""]
        fenced = literal or (fenced and not line)
        out.append(line[4:] if literal else line.replace("::", ":").replace("``", "`"))
    return "\n".join([*out, "```"] if fenced else out) + "\n"


def _body(module: ModuleType) -> str:
    """Return a module's docstring without its first line."""
    return _prose((module.__doc__ or "").partition("\n")[2])


def _enum(kind: type[enum.IntEnum], helps: Mapping[enum.IntEnum, str] | None = None) -> str:
    about = _prose(kind.__doc__ or "").splitlines()[0]
    rows = [(item.value, f"`{item.name}`", *([helps[item]] if helps else [])) for item in kind]
    header = ("value", "name", "meaning") if helps else ("value", "name")
    return f"**{kind.__name__}**: {about}\n\n{_table(header, rows)}\n"


def isa_markdown() -> str:
    """Return the instruction set's reference."""
    parts = [
        f"# Instruction set, version {isa.ISA_VERSION}\n",
        _NOTE,
        _body(isa),
        f"An instruction has {isa.INSTRUCTION_BYTES} bytes; bits above the last field are reserved and must be 0.\n",
        "## Opcodes\n",
        _table(("value", "opcode"), ((code.value, f"`{code.name}`") for code in isa.OPCODES)),
    ]
    for code, table in isa.OPCODES.items():
        parts += [f"## {code.name}\n", _prose(table.doc), _fields(table)]
    parts.append("## Named values\n")
    parts += [_enum(kind) for kind in (isa.Queue, *isa.ENUM_FIELDS.values())]
    widths = _table(("width", "bits"), ((f"`{name}`", value) for name, value in numerics.NUMERICS.to_dict().items()))
    parts += ["## Arithmetic\n", _body(numerics), widths]
    layout = program.PARAM_DTYPE
    parts += [
        "## Parameter entry\n",
        f"{layout.itemsize} bytes per output channel, little-endian.\n",
        _table(
            ("byte", "field", "type"),
            ((layout.fields[name][1], f"`{name}`", layout.fields[name][0].name) for name in layout.names or ()),
        ),
    ]
    return "\n".join(parts)


def registers_markdown(config: AcceleratorConfig | None = None) -> str:
    """Return the register map.

    Parameters
    ----------
    config
        With it, the identity registers' values in that configuration are shown.
    """
    values = identity_values(config) if config else {}
    header = ["address", "register", "access", *(["value"] if config else []), "meaning"]
    rows, details = [], []
    for register in csr.REGISTERS.values():
        value = [f"`0x{values[register.name]:08x}`" if register.name in values else ""] if config else []
        rows.append([f"`0x{register.addr:03x}`", f"`{register.name}`", register.access.name, *value, register.doc])
        if register.fields is not None:
            details += [f"### {register.name}\n", _fields(register.fields)]
    title = f" of configuration {config.hash_hex}" if config else ""
    parts = [
        f"# Registers{title}\n",
        _NOTE,
        f"32-bit registers on AXI4-Lite, {csr.CSR_ADDR_WIDTH} address bits, ISA version {isa.ISA_VERSION}.\n",
        _table(("access", "meaning"), ((access.name, access.value) for access in csr.Access)),
        _table(header, rows),
        "## Fields\n",
        *details,
        "## Error causes\n",
        _table(
            ("value", "cause", "meaning"),
            ((cause.value, f"`{cause.name}`", csr.ERROR_HELP[cause]) for cause in csr.ErrorCause),
        ),
    ]
    return "\n".join(parts)


def link_markdown() -> str:
    """Return the reference of a board's serial link."""
    areas = (
        (link.MEMORY_BASE, "word `MEMORY_BYTES` of the identity", "memory: the accelerator's DRAM"),
        (link.CSR_BASE, link.CSR_BYTES, "[registers](registers.md)"),
        (link.ID_BASE, link.ID_BYTES, "identity: the words below, read only"),
    )
    parts = [
        f"# Serial link of a board, version {link.LINK_VERSION}\n",
        _NOTE,
        _body(link),
        "## Addresses\n",
        _table(("address", "bytes", "what"), ((f"`0x{base:08x}`", size, what) for base, size, what in areas)),
        "## Named values\n",
        _enum(link.Command),
        _enum(link.Status, link.STATUS_HELP),
        _enum(link.IdWord, link.ID_HELP),
    ]
    return "\n".join(parts)


def documents() -> dict[str, str]:
    """Return file name to text of the documents under ``docs/``."""
    return {"isa.md": isa_markdown(), "registers.md": registers_markdown(), "link.md": link_markdown()}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the documents; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hw.docs_gen", description="Write docs/isa.md, docs/registers.md and docs/link.md."
    )
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder to write to (default: docs)")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        program.write_atomic(args.out / name, text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
