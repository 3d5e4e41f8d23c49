"""Scratchpad banks that an EXEC reads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode, ResidualOp

__all__ = ["Shares", "read_share", "shared_share"]

Shares = npt.NDArray[np.float64]

_SAMPLES = 8
"""Places looked at along a line."""


def shared_share(config: AcceleratorConfig, instruction: Instruction) -> float:
    """Return how often a read of the second operand needs the bank of an operand read at its side, from 0 to 1.

    GEMM reads all input channels for every tile; the other modes walk through both tensors side by side.
    """
    if instruction["res"] == ResidualOp.NONE:
        return 0.0
    first, second = _operand_banks(config, instruction), _second_banks(config, instruction)
    if _dense(instruction):
        return float(_histogram(config, first) @ _histogram(config, second))
    return float((first == second).mean())


def read_share(config: AcceleratorConfig, instruction: Instruction, reads: int, rows: int, cycles: int) -> Shares:
    """Return the share of an EXEC's cycles in which it reads each bank.

    Parameters
    ----------
    reads, rows
        Reads of its operands, and rows that it puts out; for each a second operand is read, if there is one.
    cycles
        That they take.
    """
    used = reads * _histogram(config, _operand_banks(config, instruction))
    if instruction["res"] != ResidualOp.NONE:
        used += rows * _histogram(config, _second_banks(config, instruction))
    return np.minimum(used / max(cycles, 1), 1.0)


def _dense(instruction: Instruction) -> bool:
    return instruction["mode"] == Mode.GEMM and not instruction["depthwise"]


def _operand_banks(config: AcceleratorConfig, ins: Instruction) -> npt.NDArray[np.int64]:
    """Return the bank of places in the input, by channel, output line and place along it."""
    lines, places = _grid(ins)
    channels = np.arange(ins["cin"] if _dense(ins) else ins["cout"])[:, None, None]
    read = ins["in_base"] + channels * ins["in_cs"] + lines * ins["sy"] * ins["in_pitch"] + places * ins["sx"]
    return read // config.act_bank_bytes % config.act_banks


def _second_banks(config: AcceleratorConfig, ins: Instruction) -> npt.NDArray[np.int64]:
    """Return the same of the second operand."""
    lines, places = _grid(ins)
    channels = np.arange(ins["cout"])[:, None, None]
    if ins["res"] == ResidualOp.SCALE:
        second = ins["res_base"] + channels + 0 * (lines + places)
    else:
        second = ins["res_base"] + channels * ins["out_cs"] + lines * ins["out_pitch"] + places
    return second // config.act_bank_bytes % config.act_banks


def _grid(ins: Instruction) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return some of an EXEC's output lines, as a column, and places along a line."""
    count = min(ins["out_h"], 2 * _SAMPLES)
    lines = np.linspace(0, ins["out_h"] - 1, count, dtype=np.int64)[:, None]
    return lines, np.linspace(0, ins["out_w"] - 1, _SAMPLES, dtype=np.int64)


def _histogram(config: AcceleratorConfig, banks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.bincount(banks.ravel(), minlength=config.act_banks) / banks.size
