"""Command line of the disassembler: prints a program's instructions with pc, layer and fields."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from hw.spec.isa import ENUM_FIELDS, Instruction, Queue
from hw.spec.program import Program, ProgramError
from sw.printing import show

__all__ = ["listing", "main"]


def listing(program: Program) -> Iterator[tuple[int, str, Instruction]]:
    """Yield (pc, layer name or "", instruction) in program order."""
    layer_of = {pc: layer.name for layer in program.layers for pc in layer.instructions}
    for pc, instruction in enumerate(program.instructions()):
        yield pc, layer_of.get(pc, ""), instruction


def _json(pc: int, layer: str, instruction: Instruction) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for spec in instruction.table.fields[1:]:
        value = instruction[spec.name]
        if spec.name in ("wait", "signal"):
            fields[spec.name] = [queue.name for queue in Queue if value >> queue & 1]
        elif value in set(ENUM_FIELDS.get(spec.name, ())):
            fields[spec.name] = ENUM_FIELDS[spec.name](value).name
        elif spec.name == "config_hash":
            fields[spec.name] = f"{value:016x}"
        else:
            fields[spec.name] = value
    return {"pc": pc, "layer": layer or None, "opcode": instruction.opcode.name, "fields": fields}


def _text(lines: Sequence[tuple[int, str, Instruction]]) -> Iterator[str]:
    current = ""
    for pc, layer, instruction in lines:
        if layer and layer != current:
            yield f"; {layer}"
        current = layer
        yield f"{pc:6d}  {instruction}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sw.disasm",
        description="Print a program's instructions: pc, then fields that are not 0, under the layer it belongs to.",
    )
    parser.add_argument("program", metavar="PROG", help="program directory (program.bin and program.json)")
    parser.add_argument("--layer", metavar="NAME", help="only the instructions of one layer")
    parser.add_argument("--json", action="store_true", help="one JSON array with all fields")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status (2: the user's input is wrong)."""
    options = _parser().parse_args(argv)
    try:
        program = Program.load(options.program)
        names = [layer.name for layer in program.layers]
        if options.layer is not None and options.layer not in names:
            raise ProgramError(f"no layer {options.layer!r}; there are {', '.join(names)}")
    except ProgramError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    lines = [line for line in listing(program) if options.layer in (None, line[1])]
    shown = json.dumps([_json(*line) for line in lines], indent=1) if options.json else "\n".join(_text(lines))
    show(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
