"""Cycles of one EXEC instruction, in closed form, as long as its operand reads win their bank.

The array computes a tile while the one before drains, so a tile costs the longer of the two; an instruction adds the
time to its first step and from its last one to its last write.  Steps and tiles are those of
:data:`hw.spec.isa.EXEC`.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode

__all__ = ["ExecCycles", "exec_cycles", "lane_sum_stages"]

FIRST_STEP = 5
"""From acceptance to the first operand read: check, two cycles of set-up, two of address and lanes."""

FIRST_LOAD = 6
"""The same for ST-OS, which needs one more for set-up."""

OPERAND = 2
"""From an operand read to the array."""

OUTPUT = 7
"""Stages of the output stage; one more with ``pipeline_mac``."""

POOLING = 5
"""Stages of pooling after the lane sum; one more with ``pipeline_mac``."""

WRITE = 3
"""Register before the output stage, and the write itself until it is visible."""

_RADIX = 8
"""Lanes that pooling adds in a cycle."""


@dataclass(frozen=True)
class ExecCycles:
    """When an EXEC is through, in cycles after its acceptance.

    Parameters
    ----------
    last_step
        The sequencer has issued its last step.
    done
        Its last write is visible.
    drain
        Of these, cycles in which the next step waited for rows to drain.
    reads
        Operand reads.
    """

    last_step: int
    done: int
    drain: int
    reads: int


@dataclass(frozen=True)
class _Walk:
    """From the first operand read to the last step: cycles, waits in them, reads, and rows of the last tile."""

    cycles: int
    drain: int
    reads: int
    last_rows: int


def lane_sum_stages(lanes: int) -> int:
    """Return the cycles that pooling takes to add up `lanes` pixels."""
    stages = 1
    while lanes > _RADIX**stages:
        stages += 1
    return stages


def exec_cycles(config: AcceleratorConfig, instruction: Instruction) -> ExecCycles:
    """Return the cycles of an EXEC on its own."""
    mode, extra = instruction["mode"], int(config.pipeline_mac)
    mac = 1 + extra
    if mode in (Mode.STOS_CH, Mode.STOS_LN):
        walk = _channels(config, instruction) if mode == Mode.STOS_CH else _lines(config, instruction)
        last_step = FIRST_LOAD + walk.cycles
        rows = last_step + OPERAND + mac + config.rows
    elif mode == Mode.GEMM:
        walk = _gemm(config, instruction)
        last_step = FIRST_STEP + walk.cycles - 1
        rows = last_step + OPERAND + mac + config.rows + config.cols + walk.last_rows - 1
    else:
        reads = instruction["cout"] * _tiles(config, instruction) * instruction["kh"] * instruction["kw"]
        walk = _Walk(reads, 0, reads, 1)
        last_step = FIRST_STEP + walk.cycles - 1
        rows = last_step + OPERAND + 1
    pooling = lane_sum_stages(config.cols) + POOLING + extra if instruction["gap"] else 0
    return ExecCycles(last_step, rows + OUTPUT + extra + pooling + WRITE, walk.drain, walk.reads)


def _tiles(config: AcceleratorConfig, instruction: Instruction) -> int:
    """Tiles of all output lines of one block of rows."""
    return instruction["out_h"] * _line_tiles(config, instruction)


def _line_tiles(config: AcceleratorConfig, instruction: Instruction) -> int:
    """Tiles along a line; with stride 2 half of a tile's columns, of an odd number the larger half less one, count."""
    kept = config.cols // 2 if instruction["sx"] == 2 else config.cols
    return -(-instruction["out_w"] // kept)


def _blocks(count: int, rows: int) -> list[tuple[int, int]]:
    """Return (number of blocks, rows of each) for `count` things: the full ones, then the rest."""
    full, rest = divmod(count, rows)
    return [(number, size) for number, size in ((full, rows), (1, rest)) if number and size]


def _gemm(config: AcceleratorConfig, instruction: Instruction) -> _Walk:
    """Tiles follow each other after max(steps, rows); when the rows in use change, after rows + cols - 1 at least."""
    tiles, single = _tiles(config, instruction), bool(instruction["depthwise"])
    taps = instruction["kh"] * instruction["kw"]
    steps = taps if single else taps * instruction["cin"]
    groups = [(instruction["cout"], 1)] if single else _blocks(instruction["cout"], config.rows)
    cycles = total = 0
    for number, (blocks, rows) in enumerate(groups):
        change = max(steps, config.rows + config.cols - 1) if number else steps
        cycles += change + (blocks * tiles - 1) * max(steps, rows)
        total += blocks * tiles
    reads = total * steps
    return _Walk(cycles, cycles - reads, reads, groups[-1][1])


def _channels(config: AcceleratorConfig, instruction: Instruction) -> _Walk:
    """Row convolutions: a window is captured when its n lines are there and the kw taps before are through."""
    tiles, kh, kw = _tiles(config, instruction), instruction["kh"], instruction["kw"]
    groups = _blocks(instruction["cout"], config.rows)
    reads = sum(blocks * rows for blocks, rows in groups) * tiles * kh
    cycles = sum(blocks * max(rows, kw) for blocks, rows in groups) * tiles * kh
    # nothing runs before the first window, nothing is loaded during the last taps
    first = groups[0][1]
    return _Walk(cycles - max(first, kw) + first + kw, 0, reads, groups[-1][1])


def _lines(config: AcceleratorConfig, instruction: Instruction) -> _Walk:
    """Streamed lines: the first window of a phase as for :func:`_channels`, every further one after kw taps."""
    kh, kw, stride = instruction["kh"], instruction["kw"], instruction["sy"]
    captures = [len(range(phase, kh, stride)) for phase in range(min(stride, kh))]
    repeats = instruction["cout"] * _line_tiles(config, instruction)
    groups = _blocks(instruction["out_h"], config.rows)
    cycles = reads = 0
    for blocks, rows in groups:
        for count in captures:
            cycles += blocks * (max(rows, kw) + (count - 1) * kw)
            reads += blocks * (rows + count - 1)
    first = groups[0][1]
    return _Walk(cycles * repeats - max(first, kw) + first + kw, 0, reads * repeats, groups[-1][1])
