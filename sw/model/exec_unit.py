"""The execute unit: how EXECs follow each other, the next one's steps while the one before drains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode
from sw.model.accesses import ExecAccesses
from sw.model.execute import VISIBLE, ExecCycles
from sw.model.overtaken import Overtaken

__all__ = ["NEXT_INSTRUCTION", "ExecUnit"]

NEXT_INSTRUCTION = 3
"""Cycles from an instruction's last row at the result writer to the next one's first, at least."""

LONG_AGO = -(1 << 30)


@dataclass(frozen=True)
class _Before:
    """The EXEC before: its last row, its end, and what the next one waits for in the writer."""

    last_row: int = LONG_AGO
    done: int = LONG_AGO
    taken: int = LONG_AGO  # the writer is ready for the next one
    pooled: int = LONG_AGO  # a tile may end after pooling
    seconds: Mapping[int, tuple[int, int]] = field(default_factory=dict)  # banks it reads when the next one has begun


class ExecUnit:
    """Accepts EXECs one after another."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self._before = _Before()
        self._older_done = LONG_AGO  # end of the EXEC before that
        self._gemm_end, self._gemm_rows = LONG_AGO, 0  # of the last tile in GEMM mode

    def accept(self, now: int, instruction: Instruction, cost: ExecCycles) -> tuple[ExecAccesses, int]:
        """Accept an EXEC, given what it takes on its own; return what it does, and when the next one can be."""
        config, before = self.config, self._before
        mode = instruction["mode"]
        stos = mode in (Mode.STOS_CH, Mode.STOS_LN)

        begin = reads = max(now + cost.begin, self._older_done if instruction["overlap"] else before.done)
        if stos:  # lines follow the last GEMM step; the first one is captured when that has passed all PEs
            reads = max(reads, self._gemm_end + config.cols)
            begin = max(reads, self._gemm_end + config.cols + config.rows - 1 - cost.first_rows)
        # Rows of two EXECs are apart, those that are pooled until they are written (of ST-OS the capture is held).
        pooled = before.pooled + (instruction["kw"] if stos else 0)
        earliest = max(before.last_row + NEXT_INSTRUCTION - cost.first_out, pooled)
        if mode == Mode.GEMM:
            apart = self._gemm_rows if cost.first_rows == self._gemm_rows else config.rows + config.cols - 1
            earliest = max(earliest, self._gemm_end + apart)
        overtaken = Overtaken(config, instruction, cost, before.seconds)
        end = overtaken.first_tile(reads, begin, earliest)
        late = overtaken.further_tiles(end)
        last_step = end + cost.rest + late
        last_row = last_step + cost.last_out
        done = last_row + cost.write
        if mode == Mode.GEMM:
            self._gemm_end, self._gemm_rows = last_step, cost.last_rows

        taken = max(now + 1, before.taken)
        written = done - VISIBLE - config.pipeline_mac
        accesses = ExecAccesses(config, instruction, cost, reads, end, done, late)
        self._older_done = before.done
        self._before = _Before(
            last_row,
            done,
            written + 1 if instruction["gap"] else last_row + NEXT_INSTRUCTION - 1,
            written + 2 if instruction["gap"] else before.pooled,
            accesses.last_seconds(),
        )
        return accesses, max(last_step, taken) + 1 + config.pipeline_mac
