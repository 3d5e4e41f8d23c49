"""Cycles of one EXEC instruction, in closed form.

The array computes a tile while the one before drains, so a tile costs the longer of the two; an instruction adds the
time to its first step and from its last one to its last write.  Steps and tiles are those of
:data:`hw.spec.isa.EXEC`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode, Opcode, ResidualOp
from sw.model.banks import gemm_losses, shared_share

__all__ = [
    "ExecCycles",
    "exec_costs",
    "exec_cycles",
    "gemm_steps",
    "lane_sum_stages",
    "line_pixels",
    "pooled_vectors",
    "tile_cycles",
    "tile_rows",
]

FIRST_STEP = 5
"""From acceptance to the first operand read: check, two cycles of set-up, two of address and lanes (four with
``pipeline_mac``)."""

FIRST_LOAD = 6
"""The same for ST-OS, which needs one more for set-up, and another one with ``pipeline_mac``."""

OPERAND = 2
"""From an operand read to the array; one more with ``pipeline_mac``."""

OUTPUT = 7
"""Stages of the output stage; nine more with ``pipeline_mac``."""

POOLING = 5
"""Stages of pooling after the lane sum; three more with ``pipeline_mac``."""

WRITE = 3
"""Register before the output stage, and the write itself until it is visible; one more with ``pipeline_mac``."""

VISIBLE = 2
"""Of these, from the write's turn at the scratchpad on."""

COLLECT = 2
"""From the last pooled byte beside a map until the vectors of these bytes are written."""

_RADIX = 8
"""Lanes that pooling adds in a cycle."""


@dataclass(frozen=True)
class ExecCycles:
    """An EXEC that nothing holds up, in cycles.

    Parameters
    ----------
    begin
        From acceptance to the first operand read.
    first
        From there to the last step of the first tile.
    rest
        From there to the last step of all.
    first_rows, last_rows
        Rows of the first and the last tile.
    first_out, last_out
        From a tile's last step to its first row at the result writer (ST-OS: of a full tile); from the last step to
        the last row.
    result
        From a row at the result writer to the write of its pixels, if they are written.
    write
        From the last row to the last write that is visible.
    reads
        Operand reads.
    rows
        Rows that come to the result writer.
    steps
        Weight words read: steps of the array; 0 of modes that go past it.
    drain_moves
        Places that finished rows move in the array, each row by one at a time.
    """

    begin: int
    first: int
    rest: int
    first_rows: int
    last_rows: int
    first_out: int
    last_out: int
    result: int
    write: int
    reads: int
    rows: int
    steps: int
    drain_moves: int

    @property
    def last_step(self) -> int:
        """From acceptance to the last step."""
        return self.begin + self.first + self.rest

    @property
    def done(self) -> int:
        """From acceptance to the end."""
        return self.last_step + self.last_out + self.write


@dataclass(frozen=True)
class _Walk:
    """From the first operand read to the last step of the first tile, and from there to that of the last one."""

    first: int
    rest: int
    reads: int
    first_rows: int = 1
    last_rows: int = 1
    steps: int = 0
    drain_moves: int = 0


def lane_sum_stages(lanes: int) -> int:
    """Return the cycles that pooling takes to add up `lanes` pixels."""
    stages = 1
    while lanes > _RADIX**stages:
        stages += 1
    return stages


def pooled_vectors(config: AcceleratorConfig, instruction: Instruction) -> int:
    """Return the vectors in which an EXEC writes pooled bytes beside a map."""
    return -(-instruction["cout"] // config.cols)


def exec_cycles(config: AcceleratorConfig, instruction: Instruction) -> ExecCycles:
    """Return the cycles of an EXEC on its own."""
    mode, extra = instruction["mode"], int(config.pipeline_mac)
    begin, operand = FIRST_STEP, OPERAND + extra
    mac = 1 + 3 * extra  # with registers before the rows, before multipliers and behind them
    if mode in (Mode.STOS_CH, Mode.STOS_LN):
        walk = _channels(config, instruction) if mode == Mode.STOS_CH else _lines(config, instruction)
        begin = FIRST_LOAD + extra
        last_out = operand + mac + config.rows + extra
        first_out = last_out - (config.rows - 1)
    elif mode == Mode.GEMM:
        walk = _gemm(config, instruction)
        first_out = operand + mac + config.rows + config.cols + extra
        last_out = first_out + walk.last_rows - 1
    else:
        taps = instruction["kh"] * instruction["kw"]
        reads = instruction["cout"] * _tiles(config, instruction) * taps
        walk = _Walk(taps - 1, reads - taps, reads)
        first_out = last_out = operand + 1 + extra
    # A second operand has the right of way: each of its reads but those of the last tile, whose operands are read by
    # then, costs an operand read its turn, unless the port has turns to spare.
    rows = instruction["cout"] * _tiles(config, instruction)
    if mode == Mode.GEMM:
        lost = gemm_losses(config, instruction, walk.first + 1, first_out)
    else:
        spare = walk.first + 1 + walk.rest - walk.reads
        lost = max(0, round(shared_share(config, instruction) * (rows - walk.last_rows)) - spare)
    pooling = lane_sum_stages(config.cols) + POOLING + 3 * extra if instruction["gap"] else 0
    if instruction["res"] == ResidualOp.POOL:
        pooling += COLLECT + pooled_vectors(config, instruction)
    return ExecCycles(
        begin=begin + 2 * extra,
        first=walk.first,
        rest=walk.rest + lost,
        first_rows=walk.first_rows,
        last_rows=walk.last_rows,
        first_out=first_out,
        last_out=last_out,
        result=OUTPUT + WRITE - VISIBLE + 10 * extra,
        write=OUTPUT + pooling + WRITE + 10 * extra,
        reads=walk.reads,
        rows=rows,
        steps=walk.steps,
        drain_moves=walk.drain_moves,
    )


def exec_costs(config: AcceleratorConfig, stream: Sequence[Instruction]) -> dict[int, ExecCycles]:
    """Return what the EXECs of a stream take on their own, by index."""
    return {pc: exec_cycles(config, item) for pc, item in enumerate(stream) if item.opcode == Opcode.EXEC}


def tile_rows(config: AcceleratorConfig, instruction: Instruction) -> int:
    """Return the rows of a full tile: channels, or lines of STOS_LN."""
    single = bool(instruction["depthwise"]) or instruction["mode"] in (Mode.VEC, Mode.MAX)
    return 1 if single else config.rows


def line_pixels(config: AcceleratorConfig, instruction: Instruction) -> int:
    """Return the pixels of a full tile; of windows of several taps at stride 2 every second column is kept."""
    halved = instruction["sx"] == 2 and instruction["kw"] > 1 and instruction["mode"] in (Mode.STOS_CH, Mode.STOS_LN)
    return config.cols // 2 if halved else config.cols


def gemm_steps(instruction: Instruction) -> int:
    """Return the operand reads of a tile past which no lines are shifted (GEMM, VEC, MAX)."""
    dense = instruction["mode"] == Mode.GEMM and not instruction["depthwise"]
    return instruction["kh"] * instruction["kw"] * (instruction["cin"] if dense else 1)


def tile_cycles(config: AcceleratorConfig, instruction: Instruction, rows: int) -> int:
    """Return the cycles from tile to tile of `rows` rows.

    A window is captured when its lines are there and the kw taps before are through.  Of streamed lines the first
    window of a phase needs all of them, every further one a single line.
    """
    mode, kh, kw = instruction["mode"], instruction["kh"], instruction["kw"]
    if mode == Mode.STOS_CH:
        return kh * max(rows, kw)
    if mode == Mode.STOS_LN:
        return sum(max(rows, kw) + (count - 1) * kw for count in _captures(instruction))
    return max(gemm_steps(instruction), rows)


def _captures(instruction: Instruction) -> list[int]:
    """Return the windows of each phase of streamed lines."""
    kh, stride = instruction["kh"], instruction["sy"]
    return [len(range(phase, kh, stride)) for phase in range(min(stride, kh))]


def _tiles(config: AcceleratorConfig, instruction: Instruction) -> int:
    """Tiles of all output lines of one block of rows."""
    return instruction["out_h"] * _line_tiles(config, instruction)


def _line_tiles(config: AcceleratorConfig, instruction: Instruction) -> int:
    """Tiles along a line."""
    return -(-instruction["out_w"] // line_pixels(config, instruction))


def _blocks(count: int, rows: int) -> list[tuple[int, int]]:
    """Return (number of blocks, rows of each) for `count` things: the full ones, then the rest."""
    full, rest = divmod(count, rows)
    return [(number, size) for number, size in ((full, rows), (1, rest)) if number and size]


def _drain_moves(config: AcceleratorConfig, groups: list[tuple[int, int]]) -> int:
    """Return the places that the rows of one tile of each block move: row i is rows - i above the bottom edge."""
    return sum(blocks * (rows * config.rows - rows * (rows - 1) // 2) for blocks, rows in groups)


def _gemm(config: AcceleratorConfig, instruction: Instruction) -> _Walk:
    """Tiles follow each other after max(steps, rows); when the rows in use change, after rows + cols - 1 at least."""
    tiles, steps = _tiles(config, instruction), gemm_steps(instruction)
    groups = _blocks(instruction["cout"], tile_rows(config, instruction))
    cycles = total = 0
    for number, (blocks, rows) in enumerate(groups):
        change = max(steps, config.rows + config.cols - 1) if number else 0
        cycles += change + (blocks * tiles - 1) * tile_cycles(config, instruction, rows)
        total += blocks * tiles
    moves = tiles * _drain_moves(config, groups)
    return _Walk(steps - 1, cycles, total * steps, groups[0][1], groups[-1][1], total * steps, moves)


def _channels(config: AcceleratorConfig, instruction: Instruction) -> _Walk:
    """Row convolutions: a window per line of the filter."""
    tiles, kh, kw = _tiles(config, instruction), instruction["kh"], instruction["kw"]
    groups = _blocks(instruction["cout"], config.rows)
    reads = sum(blocks * rows for blocks, rows in groups) * tiles * kh
    cycles = tiles * sum(blocks * tile_cycles(config, instruction, rows) for blocks, rows in groups)
    rows = groups[0][1]
    # nothing runs before the first window, nothing is loaded during the last taps
    first = rows + (kh - 1) * max(rows, kw) + kw
    steps = sum(blocks for blocks, _ in groups) * tiles * kh * kw
    moves = tiles * _drain_moves(config, groups)
    rest = cycles - tile_cycles(config, instruction, rows)
    return _Walk(first, rest, reads, rows, groups[-1][1], steps, moves)


def _lines(config: AcceleratorConfig, instruction: Instruction) -> _Walk:
    """Streamed lines: the first window of a phase as for :func:`_channels`, every further one after kw taps."""
    kh, kw, captures = instruction["kh"], instruction["kw"], _captures(instruction)
    repeats = instruction["cout"] * _line_tiles(config, instruction)
    groups = _blocks(instruction["out_h"], config.rows)
    cycles = repeats * sum(blocks * tile_cycles(config, instruction, rows) for blocks, rows in groups)
    reads = repeats * sum(blocks * (rows + count - 1) for blocks, rows in groups for count in captures)
    rows = groups[0][1]
    whole = tile_cycles(config, instruction, rows)
    first = whole - max(rows, kw) + rows + kw
    steps = repeats * sum(blocks for blocks, _ in groups) * kh * kw
    moves = repeats * _drain_moves(config, groups)
    return _Walk(first, cycles - whole, reads, rows, groups[-1][1], steps, moves)
