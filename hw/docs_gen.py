"""Documents derived from the specification's tables.

``python -m hw.docs_gen`` writes ``docs/configuration.md``, ``isa.md``, ``link.md``, ``registers.md``.  A test compares
the files with the tables, so that none can drift.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import enum
import functools
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from hw.csr_block import identity_values
from hw.spec import csr, isa, link, numerics, program
from hw.spec.config import LIMITS, PRESETS, AcceleratorConfig, ConfigError
from hw.spec.fields import FieldTable

__all__ = ["configuration_markdown", "isa_markdown", "link_markdown", "main", "registers_markdown"]

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
    """Turn a docstring into Markdown: indented blocks become fenced ones, marked as Python if they are."""
    out: list[str] = []
    block: list[str] = []
    for line in [*inspect.cleandoc(text).splitlines(), None]:
        if line is not None and (line.startswith("    ") or (block and not line)):
            block.append(line[4:])
            continue
        if block:
            code = "\n".join(block).rstrip()
            out += [f"```{'python' if _is_python(code) else 'text'}", code, "```", ""]
            block = []
        if line is not None:
            out.append(line.replace("::", ":").replace("``", "`"))
    return "\n".join(out).rstrip() + "\n"


def _is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


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


_REFUSED: tuple[dict[str, float], ...] = (
    {"rows": 16.5},
    {"rows": 0},
    {"act_kib": 24},
    {"cols": 3, "axi_data_width": 64},
    {"act_kib": 1, "act_banks": 16},
    {"cols": 4, "axi_data_width": 1024},
    {"rows": 256, "weight_kib": 1},
    {"rows": 2, "weight_kib": 4096},
)
"""Changes of the defaults that break each rule of a configuration once."""


def _refusal(changes: Mapping[str, float]) -> str:
    try:
        AcceleratorConfig(**changes)
    except ConfigError as error:
        return str(error)
    raise ValueError(f"{changes} is a legal configuration")


def _derived() -> list[tuple[str, str]]:
    """Return name and meaning of every size that follows from a configuration."""
    kinds = (property, functools.cached_property)
    sizes = [(name, item) for name, item in vars(AcceleratorConfig).items() if isinstance(item, kinds)]
    found = [(name, _prose(item.__doc__ or "").splitlines()[0].rstrip(".")) for name, item in sizes]
    return [(name, meaning) for name, meaning in found if not name.startswith("hash")]


def _memory_map() -> str:
    words = "words of `weight_word_bytes`: a lane per row"
    entries = "[parameter entries](isa.md#parameter-entry)"
    onchip = (
        (isa.Target.ACT, "byte", "`act_bytes`, in `act_banks` banks", "bytes"),
        (isa.Target.WEIGHT, "byte, by LOAD; word, by EXEC", "`weight_bytes`", words),
        (isa.Target.PARAM, "byte, by LOAD; entry, by EXEC", "`param_bytes`", entries),
    )
    regions = (
        (isa.Region.CONST, "instructions, from PROG_OFFSET; parameters and weights"),
        (isa.Region.WORK, "intermediate tensors"),
        (isa.Region.INPUT, "the network's inputs"),
        (isa.Region.OUTPUT, "its outputs"),
    )
    parts = [
        "## Memory map\n",
        "On chip, as instructions see it; every memory begins at address 0:\n",
        _table(
            ("`target`", "memory", "addressed by", "size in bytes", "holds"),
            ((target.value, f"`{target.name}`", unit, size, holds) for target, unit, size, holds in onchip),
        ),
        "In DRAM, wherever the host puts it: a region's base, a multiple of "
        f"{csr.REGION_ALIGN // 1024} KiB, and its size are [registers](registers.md).\n",
        _table(
            ("`region`", "name", "base", "size", "holds"),
            (
                (
                    region.value,
                    f"`{region.name}`",
                    f"`REGION{region.value}_BASE_LO` at `0x{csr.address(f'REGION{region.value}_BASE_LO'):03x}`, `_HI`",
                    f"`REGION{region.value}_SIZE` at `0x{csr.address(f'REGION{region.value}_SIZE'):03x}`",
                    holds,
                )
                for region, holds in regions
            ),
        ),
    ]
    return "\n".join(parts)


def configuration_markdown() -> str:
    """Return the reference of configurations: fields, presets, derived sizes, rules, memory map."""
    helps = AcceleratorConfig.field_help()
    fields = dataclasses.fields(AcceleratorConfig)
    presets = list(PRESETS.items())
    parts = [
        "# Configuration\n",
        "<!-- Generated from hw/spec/config.py by `python -m hw.docs_gen`; edit that. -->\n",
        "An accelerator is described by the fields of `hw.spec.config.AcceleratorConfig`.  `hw.generate` has\n"
        "an option for each; `manifest.json` keeps them, and a hash of them and of the ISA version, which hardware,\n"
        "programs and simulators compare.\n",
        "## Fields\n",
        _table(
            ("field", "option", "legal", "default", "meaning"),
            (
                (
                    f"`{field.name}`",
                    f"`--{field.name.replace('_', '-')}`",
                    LIMITS.get(field.name, "true, false"),
                    str(field.default).lower(),
                    helps[field.name].rstrip("."),
                )
                for field in fields
            ),
        ),
        "Options that switch something on have a twin that switches it off: `--no-stos`, `--no-pipeline-mac`, "
        "`--no-reset-low`.\n",
        "## Presets\n",
        _table(
            ("field", *(f"`{name}`" for name, _ in presets)),
            (
                (f"`{field.name}`", *(str(getattr(config, field.name)).lower() for _, config in presets))
                for field in fields
            ),
        ),
        "## What follows from the fields\n",
        _table(
            ("size", "meaning", *(f"`{name}`" for name, _ in presets)),
            (
                (f"`{name}`", meaning, *(f"{getattr(config, name):,}" for _, config in presets))
                for name, meaning in _derived()
            ),
        ),
        "## What is refused\n",
        "Each rule, broken once, and the message it is refused with:\n",
        _table(
            ("other than the defaults", "message"),
            (
                (", ".join(f"`{name}={value}`" for name, value in changes.items()), _refusal(changes))
                for changes in _REFUSED
            ),
        ),
        _memory_map(),
    ]
    return "\n".join(parts)


def documents() -> dict[str, str]:
    """Return file name to text of the documents under ``docs/``."""
    return {
        "configuration.md": configuration_markdown(),
        "isa.md": isa_markdown(),
        "link.md": link_markdown(),
        "registers.md": registers_markdown(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the documents; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hw.docs_gen", description=f"Write {', '.join(documents())}.")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder to write to (default: docs)")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        program.write_atomic(args.out / name, text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
