"""Where the bytes of a small layer lie: in DRAM, in the memories on chip, and what one operand read touches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hw.spec.config import SUB_BANKS, AcceleratorConfig
from hw.spec.isa import INSTRUCTION_BYTES, Opcode, Target
from hw.spec.program import PARAM_DTYPE
from sim.iss import IssBackend
from sim.iss.dma import transfer
from sim.pictures.examples import Example
from sim.pictures.exec_trace import Read, before_exec, trace_exec
from sim.pictures.style import BLUE, GREY, INK, PALE, RED, TILES, arrow, box, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LayoutFacts", "Move", "layout_facts", "layout_figure"]

Place = tuple[int, int, int]
"""Channel, line, pixel."""


@dataclass(frozen=True)
class Move:
    """What a LOAD or STORE moves: its index, first byte and end on both sides."""

    pc: int
    opcode: str
    region: str
    dram: tuple[int, int]
    target: str
    onchip: tuple[int, int]


@dataclass(frozen=True)
class LayoutFacts:
    """Bytes and addresses of one compiled layer.

    Parameters
    ----------
    config
        Of the accelerator.
    instructions
        Bytes of the instruction stream, at the start of region CONST.
    moves
        In program order.
    image, result
        Address in the scratchpad to element.
    weights
        Words by row: filter and tap of each byte, None where a word is filled up.
    params
        Bias, multiplier and shift of each channel.
    read
        One operand read of the RTL that crosses the end of a scratchpad line.
    """

    config: AcceleratorConfig
    instructions: int
    moves: tuple[Move, ...]
    image: dict[int, Place]
    result: dict[int, Place]
    weights: tuple[tuple[tuple[int, int] | None, ...], ...]
    params: tuple[tuple[int, int, int], ...]
    read: Read

    def sub_banks(self) -> list[tuple[int, int]]:
        """Return line and sub-bank of each byte of the read."""
        addresses = range(self.read.address + self.read.low, self.read.address + self.read.high)
        return [divmod(address // self.config.sub_bytes, SUB_BANKS) for address in addresses]


def layout_facts(example: Example) -> LayoutFacts:
    """Compile an example and find its bytes: pixels and weights by their values in the memories."""
    program = example.program()
    config = program.config
    exec_, memories = before_exec(program, example.inputs)
    moves = []
    for pc, instruction in enumerate(program.instructions()):
        if instruction.opcode in (Opcode.LOAD, Opcode.STORE):
            what = transfer(config, instruction, list(program.region_sizes))
            dram, onchip = ((block.base, block.end) for block in (what.dram, what.onchip))
            moves.append(Move(pc, instruction.opcode.name, what.region.name, dram, what.target.name, onchip))

    act = memories[Target.ACT].view(np.int8)
    image = {
        int(address): tuple(int(index) for index in np.unravel_index(int(act[address]) - 1, example.image.shape))
        for address in np.flatnonzero(act)
    }
    outputs = IssBackend(config).run(program, example.inputs).outputs["result"]
    result = {
        exec_["out_base"] + c * exec_["out_cs"] + y * exec_["out_pitch"] + x: (c, y, x)
        for c, y, x in np.ndindex(outputs.shape)
    }
    taps = int(np.prod(example.weight.shape[1:]))
    words = memories[Target.WEIGHT].view(np.int8).reshape(-1, config.weight_word_bytes)
    weights = tuple(
        tuple(None if value == 0 else divmod(int(value) - 1, taps) for value in word) for word in words if word.any()
    )
    entries = memories[Target.PARAM].view(PARAM_DTYPE)
    params = tuple((int(one["bias"]), int(one["mult"]), int(one["shift"])) for one in entries if one["mult"])
    line = config.line_bytes
    read = next(
        read
        for read in trace_exec(program, example.inputs).reads
        if (read.address + read.low) // line != (read.address + read.high - 1) // line
    )
    return LayoutFacts(
        config=config,
        instructions=program.instruction_count * INSTRUCTION_BYTES,
        moves=tuple(moves),
        image=image,
        result=result,
        weights=weights,
        params=params,
        read=read,
    )


_BYTE = 0.86
_ROW = 0.52
_TARGETS = {"PARAM": "parameters", "WEIGHT": "weights", "ACT": "scratchpad"}


def layout_figure(facts: LayoutFacts) -> Figure:
    """Return the picture of a layer's bytes."""
    lines = -(-(max(facts.result) + 1) // facts.config.line_bytes)
    figure, axes = canvas(19.6, 9.9 + lines * _ROW, scale=0.52)
    _moves(axes, facts)
    _onchip(axes, facts)
    _scratchpad(axes, facts, 8.6, lines)
    return figure


def _heading(axes: Axes, x: float, y: float, text: str, more: str = "") -> None:
    axes.text(x, y, text, fontsize=9, weight="bold", color=INK, va="center")
    axes.text(x, y + 0.42, more, fontsize=7.5, color=INK, va="center")


def _moves(axes: Axes, facts: LayoutFacts) -> None:
    """Draw the regions of DRAM, and an arrow for each LOAD and STORE."""
    _heading(axes, 0.4, 0.5, "DRAM", "region, offset, bytes; not to scale")
    _heading(axes, 8.0, 0.5, "on chip", "memory, address")
    y = 1.35
    box(axes, (0.4, y), (4.8, 0.7), f"CONST 0x000: {facts.instructions} B instructions", fill=PALE, fontsize=7.5)
    y += 0.95
    for move in facts.moves:
        start, end = move.dram
        fill = (
            TILES[0]
            if move.target == "ACT" and move.opcode == "LOAD"
            else TILES[2]
            if move.target == "ACT"
            else TILES[1]
        )
        box(axes, (0.4, y), (4.8, 0.7), f"{move.region} 0x{start:03x}: {end - start} B", fill=fill, fontsize=7.5)
        first, last = move.onchip
        text = f"{_TARGETS[move.target]} 0x{first:03x} to 0x{last - 1:03x}"
        box(axes, (8.0, y), (4.8, 0.7), text, fill=fill, fontsize=7.5)
        ends = [(5.2, y + 0.35), (8.0, y + 0.35)]
        arrow(axes, ends if move.opcode == "LOAD" else ends[::-1], BLUE)
        axes.text(6.6, y + 0.17, f"{move.opcode} (pc {move.pc})", fontsize=7, color=BLUE, ha="center", va="center")
        y += 0.95


def _onchip(axes: Axes, facts: LayoutFacts) -> None:
    """Draw the words of weights, and the parameter entries."""
    left, top = 14.0, 0.5
    width = facts.config.weight_word_bytes
    _heading(axes, left, top, "weight words", f"a byte per row, {width} bytes; filter, tap: last first")
    for number, word in enumerate(facts.weights):
        y = top + 0.85 + number * _ROW
        axes.text(left + 0.3, y + _ROW / 2, f"{number}", fontsize=7, color=GREY, ha="right", va="center")
        for lane, weight in enumerate(word):
            text = "" if weight is None else f"{weight[0]},{weight[1]}"
            fill = "white" if weight is None else TILES[1]
            corner = (left + 0.5 + lane * _BYTE, y)
            box(axes, corner, (_BYTE, _ROW), text, fill=fill, fontsize=7, rounding=0.01, linewidth=0.6)
            if number == 0:
                row = f"row {lane}" if lane < facts.config.rows else "-"
                axes.text(corner[0] + _BYTE / 2, y - 0.14, row, fontsize=5.5, color=GREY, ha="center", va="center")
    y = top + 0.85 + len(facts.weights) * _ROW + 0.8
    _heading(
        axes, left, y, "parameters", f"an entry per channel, {PARAM_DTYPE.itemsize} bytes: bias, multiplier, shift"
    )
    for channel, values in enumerate(facts.params):
        level = y + 0.85 + channel * _ROW
        axes.text(left + 0.3, level + _ROW / 2, f"{channel}", fontsize=7, color=GREY, ha="right", va="center")
        box(
            axes,
            (left + 0.5, level),
            (4 * _BYTE, _ROW),
            ", ".join(map(str, values)),
            fill=TILES[1],
            fontsize=7,
            rounding=0.01,
            linewidth=0.6,
        )


def _scratchpad(axes: Axes, facts: LayoutFacts, top: float, lines: int) -> None:
    """Draw the lines of the scratchpad that hold the layer, and the bytes that one read touches."""
    config, left = facts.config, 1.6
    line, sub = config.line_bytes, config.sub_bytes
    more = f"lines of {line} bytes in {SUB_BANKS} sub-banks; blue: image, green: result, as channel,line,pixel"
    _heading(axes, 0.4, top - 1.15, "scratchpad", more)
    for number in range(SUB_BANKS):
        x = left + (number + 0.5) * sub * _BYTE
        axes.text(x, top - 0.25, f"sub-bank {number}", fontsize=7, color=GREY, ha="center", va="center")
    fills = {0: ("#a9c9ea", "#c6dbf1", "#dfeaf6"), 1: ("#b5dcb9", "#cce8cf", "#e2f2e4")}
    for number in range(lines):
        y = top + number * _ROW
        axes.text(left - 0.2, y + _ROW / 2, f"0x{number * line:03x}", fontsize=7, color=GREY, ha="right", va="center")
        for byte in range(line):
            address = number * line + byte
            tensor = 0 if address in facts.image else 1
            element = facts.image.get(address, facts.result.get(address))
            fill = "white" if element is None else fills[tensor][element[0] % 3]
            text = "" if element is None else ",".join(map(str, element))
            corner = (left + byte * _BYTE, y)
            box(axes, corner, (_BYTE, _ROW), text, fill=fill, fontsize=6, rounding=0.01, linewidth=0.4, edge="#9aa5b1")
    for number in range(SUB_BANKS + 1):
        x = left + number * sub * _BYTE
        axes.plot([x, x], [top, top + lines * _ROW], color=INK, linewidth=1.2, zorder=4)
    read = facts.read
    for address in range(read.address + read.low, read.address + read.high):
        y, x = divmod(address, line)
        corner = (left + x * _BYTE + 0.04, top + y * _ROW + 0.04)
        size = (_BYTE - 0.08, _ROW - 0.08)
        box(axes, corner, size, fill="none", edge=RED, rounding=0.02, linewidth=1.6, zorder=6)
    lanes = config.read_lanes
    text = (
        f"red: one operand read of {lanes} lanes at 0x{read.address:03x}; bytes {read.low} to {read.high - 1} "
        "are read, the other lanes are the zero point: padding, and halo not in use"
    )
    axes.text(left, top + lines * _ROW + 0.4, text, fontsize=7.5, color=RED, va="center")
    text = (
        f"each sub-bank is read at one line at most; bank 0 of {config.act_banks}, {config.act_bank_bytes} bytes each"
    )
    axes.text(left, top + lines * _ROW + 0.85, text, fontsize=7.5, color=INK, va="center")
