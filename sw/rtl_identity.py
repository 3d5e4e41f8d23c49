"""What a measurement on RTL was of, so that figures taken elsewhere can be put beside it: program and hardware."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from hw.spec.isa import Instruction, Opcode, assemble
from hw.spec.program import Program

__all__ = ["NUMBERS", "hardware_key", "schedule_key"]

ROOT = Path(__file__).parents[1]

NUMBERS = (
    *("in_zp", "out_zp", "q_lo", "q_hi", "post_shift", "act_offset", "act_limit", "res_zp", "res_mult"),
    *("gap_bias", "gap_mult", "gap_shift", "gap_zp"),
)
"""EXEC's fields that hold quantisation: they change results, and no cycle."""

_HARDWARE = ("hw/*.py", "hw/spec/*.py", "sim/verilator/**/*.*")


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
def hardware_key() -> str:
    """Return a SHA-256 of the sources of hardware, generator, test bench and memory of measurements on RTL."""
    digest = hashlib.sha256()
    paths = {path for pattern in _HARDWARE for path in ROOT.glob(pattern) if path.suffix in (".py", ".cpp", ".h")}
    for path in sorted(paths):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()
