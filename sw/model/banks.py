"""What the second operand of an EXEC takes from its first one in the scratchpad's banks."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode, ResidualOp

__all__ = ["gemm_losses", "shared_share"]

_SAMPLES = 8
"""Places looked at along a line."""

_REQUEST = 2
"""From a row at the result writer to the read of its second operand."""

_WINDOWS, _WINDOW = 4, 12
"""Stretches of tiles, and tiles of each, that stand for those of a long EXEC."""


def gemm_losses(config: AcceleratorConfig, instruction: Instruction, steps: int, first_out: int) -> int:
    """Return the cycles by which reads of a second operand delay a GEMM.

    Its rows come a fixed time after their tile's last step, so whether a read meets that of an operand is a matter of
    which step is due then.  Short EXECs are walked tile by tile, of long ones some stretches.

    Parameters
    ----------
    steps
        Operand reads of a tile.
    first_out
        From a tile's last step to its first row at the result writer.
    """
    if not ResidualOp(instruction["res"]).reads or not shared_share(config, instruction):
        return 0
    tiles = _Tiles(config, instruction)
    warm = -(-first_out // max(steps, 1)) + 1  # tiles until the rows of the first one come
    if tiles.count <= _WINDOWS * (warm + _WINDOW):
        return _walk(tiles, range(tiles.count), steps, first_out)[-1]
    losses = 0
    for window in range(_WINDOWS):
        first = window * (tiles.count - warm - _WINDOW) // (_WINDOWS - 1)
        lost = _walk(tiles, range(first, first + warm + _WINDOW), steps, first_out)
        losses += lost[-1] - lost[warm - 1]
    return round(losses / (_WINDOWS * _WINDOW) * (tiles.count - warm))


class _Tiles:
    """Banks that the tiles of a GEMM read."""

    def __init__(self, config: AcceleratorConfig, instruction: Instruction) -> None:
        self.config, self.item = config, instruction
        self.rows = 1 if instruction["depthwise"] else config.rows
        self.along = -(-instruction["out_w"] // config.cols)
        self.count = -(-instruction["cout"] // self.rows) * instruction["out_h"] * self.along

    def _place(self, number: int) -> tuple[int, int, int]:
        """Return first channel, line and first pixel of a tile."""
        block, rest = divmod(number, self.item["out_h"] * self.along)
        line, tile = divmod(rest, self.along)
        return block * self.rows, line, tile * self.config.cols

    def operands(self, number: int) -> list[int]:
        """Return the bank of each operand read; -1 where a line is padding."""
        item = self.item
        channel, line, pixel = self._place(number)
        channels = np.arange(item["cin"])[:, None, None] if not item["depthwise"] else np.full((1, 1, 1), channel)
        lines = line * item["sy"] + np.arange(item["kh"])[:, None] - item["pad_y"]
        pixels = np.maximum(pixel * item["sx"] + np.arange(item["kw"]) - item["pad_x"], 0)
        address = item["in_base"] + channels * item["in_cs"] + lines * item["in_pitch"] + pixels
        inside = (lines >= 0) & (lines < item["in_h"]) & (pixels < item["in_w"])
        return np.where(inside, self._banks(address), -1).ravel().tolist()

    def seconds(self, number: int) -> list[int]:
        """Return the bank of each row's second operand."""
        item = self.item
        first, line, pixel = self._place(number)
        channels = np.arange(first, min(first + self.rows, item["cout"]))
        if item["res"] == ResidualOp.SCALE:
            return self._banks(item["res_base"] + channels).tolist()
        place = item["res_base"] + line * item["out_pitch"] + pixel
        return self._banks(place + channels * item["out_cs"]).tolist()

    def _banks(self, address: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return address // self.config.act_bank_bytes % self.config.act_banks


def _walk(tiles: _Tiles, numbers: range, steps: int, first_out: int) -> list[int]:
    """Return the cycles lost up to the end of each of some tiles that follow each other."""
    result, lost = [], 0
    end = -1
    before = 0
    waiting: deque[tuple[int, int]] = deque()  # reads of the second operand: time and bank
    for number in numbers:
        banks, begin, late = tiles.operands(number), end + 1, 0
        while waiting and waiting[0][0] < begin + steps + late:
            time, bank = waiting.popleft()
            if time >= begin and banks[time - begin - late] == bank:
                late += 1
        # rows of the tile before must have drained
        free = max(begin + steps - 1, end + before)
        end = max(begin + steps - 1 + late, end + before)
        lost += end - free
        result.append(lost)
        seconds = tiles.seconds(number)
        before = len(seconds)
        waiting.extend((end + first_out + row + _REQUEST, bank) for row, bank in enumerate(seconds))
    return result


def shared_share(config: AcceleratorConfig, instruction: Instruction) -> float:
    """Return how often a read of the second operand needs the bank of an operand read at its side, from 0 to 1.

    GEMM reads all input channels for every tile; the other modes walk through both tensors side by side.
    """
    if not ResidualOp(instruction["res"]).reads:
        return 0.0
    first, second = _operand_banks(config, instruction), _second_banks(config, instruction)
    if _dense(instruction):
        return float(_histogram(config, first) @ _histogram(config, second))
    return float((first == second).mean())


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
    lines = np.arange(count)[:, None] * (ins["out_h"] - 1) // max(count - 1, 1)
    return lines, np.arange(_SAMPLES) * (ins["out_w"] - 1) // (_SAMPLES - 1)


def _histogram(config: AcceleratorConfig, banks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.bincount(banks.ravel(), minlength=config.act_banks) / banks.size
