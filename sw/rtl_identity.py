"""What a measurement on RTL was of, so that figures taken elsewhere can be put beside it: program and hardware."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from hw.spec.isa import Instruction, Opcode, assemble
from hw.spec.program import Program
from sw.sources import ROOT, files_digest, imported_sources

__all__ = ["NUMBERS", "hardware_key", "schedule_key"]

NUMBERS = (
    *("in_zp", "out_zp", "q_lo", "q_hi", "post_shift", "act_offset", "act_limit", "res_zp", "res_mult"),
    *("gap_bias", "gap_mult", "gap_shift", "gap_zp"),
)
"""EXEC's fields that hold quantisation: they change results, and no cycle."""

_DESIGN = ("hw.accelerator", "hw.emit")
"""The top component and what writes its Verilog: with all that they import, the sources of the design."""

_BENCH = "sim/verilator"
"""Test bench and memory of measurements on RTL."""


def schedule_key(program: Program) -> str:
    """Return a SHA-256 of all in a program that decides its cycles.

    That is its image without parameters, weights and the fields :data:`NUMBERS`: instructions with their addresses,
    sizes and tokens, the configuration's hash and the version of the instruction set.  So a network has one key
    whatever it was trained on.
    """
    stream = []
    for instruction in program.instructions():
        if instruction.opcode == Opcode.EXEC:
            kept = {name: value for name, value in instruction.values.items() if name not in NUMBERS}
            stream.append(Instruction(Opcode.EXEC, kept))
        else:
            stream.append(instruction)
    return hashlib.sha256(assemble(stream)).hexdigest()


@cache
def hardware_key(root: Path = ROOT) -> str:
    """Return a SHA-256 of what a measurement on RTL ran: the design's sources, test bench and memory.

    Tools beside the design (reports, netlists, boards) are no part of it.

    Parameters
    ----------
    root
        The project's folder.
    """
    bench = {path for path in (root / _BENCH).rglob("*.*") if path.suffix in (".py", ".cpp", ".h")}
    return files_digest(sorted(imported_sources(_DESIGN, root) | bench), root)
