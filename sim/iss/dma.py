"""LOAD and STORE: rows of bytes between DRAM and the on-chip memories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.isa import Instruction, Opcode, Region, Target
from sim.iss.machine import Block, Bytes, FaultError, Machine

__all__ = ["Transfer", "move", "transfer"]


@dataclass(frozen=True)
class Transfer:
    """A checked LOAD or STORE: the same rows on both sides."""

    region: Region
    target: Target
    dram: Block
    onchip: Block


def transfer(config: AcceleratorConfig, instruction: Instruction, region_sizes: list[int]) -> Transfer:
    """Return what a LOAD or STORE moves.

    Raises
    ------
    FaultError
        BAD_FIELD, or what stops the first faulty row: MISALIGNED, MEM_RANGE or DRAM_RANGE, in this order.
    """
    load = instruction.opcode == Opcode.LOAD
    rows, row_bytes = instruction["rows"], instruction["row_bytes"]
    for name in ("rows", "row_bytes"):
        if instruction[name] < 1:
            raise FaultError(ErrorCause.BAD_FIELD, 0, f"{name}=0; at least 1 is needed")
    if load and instruction["target"] not in set(Target):
        raise FaultError(ErrorCause.BAD_FIELD, instruction["target"], f"target={instruction['target']} is no Target")
    target = Target(instruction["target"]) if load else Target.ACT
    region = Region(instruction["region"])
    # With one row the strides mean nothing.
    dram_stride, mem_stride = (instruction["dram_stride"], instruction["mem_stride"]) if rows > 1 else (0, 0)
    what = Transfer(
        region,
        target,
        Block(instruction["dram_offset"], 1, 0, rows, dram_stride, row_bytes),
        Block(instruction["mem_addr"], 1, 0, rows, mem_stride, row_bytes),
    )
    size = {Target.ACT: config.act_bytes, Target.WEIGHT: config.weight_bytes, Target.PARAM: config.param_bytes}[target]
    beat = 1 if target == Target.ACT else config.axi_bytes
    _check_rows(what, beat, size, region_sizes[region])
    return what


def _check_rows(what: Transfer, beat: int, size: int, region_size: int) -> None:
    """Raise the fault of the first row that breaks a rule (numpy: 65535 rows are many)."""
    dram, onchip = what.dram, what.onchip
    row = np.arange(dram.lines, dtype=np.int64)
    offset, address = dram.base + row * dram.pitch, onchip.base + row * onchip.pitch
    limits = f"the AXI beat of {beat} bytes", f"{what.target.name} of {size} bytes", f"{region_size} bytes of DRAM"
    rules = (
        (ErrorCause.MISALIGNED, (offset | address | dram.width) % beat != 0, offset, limits[0]),
        (ErrorCause.MEM_RANGE, address + dram.width > size, address, limits[1]),
        (ErrorCause.DRAM_RANGE, offset + dram.width > region_size, offset, limits[2]),
    )
    broken = np.any([wrong for _, wrong, _, _ in rules], axis=0)
    if not broken.any():
        return
    first = int(broken.argmax())
    cause, _, info, limit = next(rule for rule in rules if rule[1][first])
    raise FaultError(
        cause,
        int(info[first]),
        f"row {first}: {dram.width} bytes at {what.region.name} {offset[first]}, {what.target.name} {address[first]}; "
        f"the limit is {limit}",
    )


def move(machine: Machine, instruction: Instruction, what: Transfer) -> None:
    """Carry out a LOAD or STORE."""
    dram, onchip = machine.regions[what.region], machine.onchip[what.target]
    if instruction.opcode == Opcode.LOAD:
        _copy(dram, what.dram, onchip, what.onchip)
    else:
        _copy(onchip, what.onchip, dram, what.dram)


def _copy(source: Bytes, source_block: Block, sink: Bytes, sink_block: Block) -> None:
    rows_from, rows_to = source_block.view(source)[0], sink_block.view(sink)[0]
    if sink_block.distinct:
        rows_to[...] = rows_from
    else:  # later rows overwrite earlier ones
        for row_from, row_to in zip(rows_from, rows_to, strict=True):
            row_to[...] = row_from
