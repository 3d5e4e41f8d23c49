"""Cycles in which an EXEC takes a scratchpad bank from transfers."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode, ResidualOp
from sw.model.execute import VISIBLE, ExecCycles, pooled_vectors
from sw.model.operands import OperandReads, operand_reads
from sw.model.tiles import Ints, Rows, Tiles, exec_rows, exec_tiles

__all__ = ["REQUEST", "ExecAccesses"]

REQUEST = 2
"""From a row at the result writer to the read of its second operand."""

_CHUNK = 1 << 13
"""Operand reads that are looked up at once, about."""

_Spans = tuple[Ints, Ints, Ints]
"""Cycle, and banks of the first and the last byte, of accesses."""


class ExecAccesses:
    """Reads and writes of an EXEC in the activation scratchpad.

    Parameters
    ----------
    config, instruction, cost
        The EXEC, and what it takes on its own.
    begin, first_tile, done
        Cycle of its first operand read, of its first tile's last step, and of its end.
    late
        Cycles that its reads lose to the EXEC before it, behind its first tile.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        instruction: Instruction,
        cost: ExecCycles,
        begin: int,
        first_tile: int,
        done: int,
        late: int = 0,
    ) -> None:
        self.config, self.item, self.cost = config, instruction, cost
        self.begin, self.first_tile, self.done, self.late = begin, first_tile, done, late
        self._chunks: dict[int, OperandReads] = {}
        self._written: dict[int, Ints] = {}

    def writes(self, bank: int, begin: int, end: int) -> set[int]:
        """Return the cycles from `begin` to before `end` in which it writes to a bank."""
        if bank not in self._write_banks:
            return set()
        if bank not in self._written:
            times, low, high = self._writes
            self._written[bank] = times[(low == bank) | (high == bank)]
        return _within(self._written[bank], begin, end)

    def reads(self, bank: int, begin: int, end: int) -> set[int]:
        """Return the cycles from `begin` to before `end` in which it reads a bank."""
        found: set[int] = set()
        if bank in self._second_banks:
            times, low, high = self._seconds(self._rows)
            found |= _within(times[(low == bank) | (high == bank)], begin, end)
        if bank not in self._operand_banks:
            return found
        ends, size = self._tiles.ends, self._chunk_tiles
        first = int(np.searchsorted(ends, begin - self.first_tile))
        last = min(int(np.searchsorted(ends, end - self.first_tile)), len(ends) - 1)
        for chunk in range(first // size, last // size + 1):
            if chunk not in self._chunks:
                self._chunks[chunk] = self._operands(chunk * size, min((chunk + 1) * size, len(ends)))
            reads = self._chunks[chunk]
            hit = slice(*np.searchsorted(reads.times, (begin - self.first_tile, end - self.first_tile)))
            times = reads.times[hit][(reads.low[hit] == bank) | (reads.high[hit] == bank)]
            found.update((self.first_tile + times).tolist())
        return found

    @cached_property
    def _operand_banks(self) -> set[int]:
        item = self.item
        dense = item["mode"] == Mode.GEMM and not item["depthwise"]
        last = (item["cin" if dense else "cout"] - 1) * item["in_cs"] + (item["in_h"] - 1) * item["in_pitch"]
        return self._banks(item["in_base"], last + item["in_w"])

    @cached_property
    def _second_banks(self) -> set[int]:
        if not ResidualOp(self.item["res"]).reads:
            return set()
        scale = self.item["res"] == ResidualOp.SCALE
        return self._banks(self.item["res_base"], self.item["cout"] if scale else self._output_bytes)

    @cached_property
    def _write_banks(self) -> set[int]:
        pooled = self.item["cout"] if self.item["res"] == ResidualOp.POOL else 0
        return self._banks(self.item["out_base"], self._output_bytes) | self._banks(self.item["res_base"], pooled)

    @property
    def _output_bytes(self) -> int:
        """From the first to the last byte of the output, and of a second operand of its shape."""
        item = self.item
        return (item["cout"] - 1) * item["out_cs"] + (item["out_h"] - 1) * item["out_pitch"] + item["out_w"]

    def _banks(self, begin: int, size: int) -> set[int]:
        """Return the banks that some bytes lie in."""
        size_of_bank = self.config.act_bank_bytes
        last = (begin + size - 1) // size_of_bank
        return {bank % self.config.act_banks for bank in range(begin // size_of_bank, last + 1)} if size else set()

    @cached_property
    def _tiles(self) -> Tiles:
        tiles = exec_tiles(self.config, self.item, self.cost)
        tiles.ends[1:] += self.late
        return tiles

    @cached_property
    def _rows(self) -> Rows:
        return exec_rows(self.config, self.item, self.cost, self._tiles)

    @property
    def _chunk_tiles(self) -> int:
        return max(1, _CHUNK * len(self._tiles.ends) // self.cost.reads)

    def _operands(self, first: int, end: int) -> OperandReads:
        """Return the reads of some tiles, which may have different rows."""
        rows = self._tiles.rows[first:end]
        cuts = [first, *(first + 1 + np.flatnonzero(rows[1:] != rows[:-1])).tolist(), end]
        parts = [
            operand_reads(self.config, self.item, self._tiles, low, high, self.begin - self.first_tile)
            for low, high in zip(cuts[:-1], cuts[1:], strict=True)
        ]
        names = [field.name for field in fields(OperandReads)]
        return OperandReads(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def last_seconds(self) -> dict[int, tuple[int, int]]:
        """Return the reads of its second operand behind its last step: the banks that each needs, by cycle."""
        if not ResidualOp(self.item["res"]).reads:
            return {}
        ends, last_out = self._tiles.ends, self.cost.last_out
        first = int(np.searchsorted(ends, ends[-1] - last_out - REQUEST))
        times, low, high = self._seconds(exec_rows(self.config, self.item, self.cost, self._tiles, first))
        reads = zip(times.tolist(), zip(low.tolist(), high.tolist(), strict=True), strict=True)
        return {time: banks for time, banks in reads if time > self.first_tile + int(ends[-1])}

    def _seconds(self, rows: Rows) -> _Spans:
        item = self.item
        if item["res"] == ResidualOp.SCALE:
            first = last = item["res_base"] + rows.channels
        else:
            first = item["res_base"] + rows.places
            last = first + rows.pixels - 1
        return self.first_tile + rows.times + REQUEST, self._bank(first), self._bank(last)

    @cached_property
    def _writes(self) -> _Spans:
        rows, item, cost = self._rows, self.item, self.cost
        came, beside = self.first_tile + rows.times, item["res"] == ResidualOp.POOL
        if item["gap"] and not beside:
            first = item["out_base"] + rows.channels[rows.last] * item["out_cs"]
            return came[rows.last] + cost.write - VISIBLE, self._bank(first), self._bank(first)
        first = item["out_base"] + rows.places
        times, last = came + cost.result, first + rows.pixels - 1
        if item["gap"]:  # its pooled bytes come behind all else
            vectors = np.arange(pooled_vectors(self.config, item))
            pooled = item["res_base"] + vectors * self.config.cols
            times = np.append(times, self.done - VISIBLE + 1 - len(vectors) + vectors)
            first = np.append(first, pooled)
            last = np.append(last, np.minimum(pooled + self.config.cols, item["res_base"] + item["cout"]) - 1)
        return times, self._bank(first), self._bank(last)

    def _bank(self, address: Ints) -> Ints:
        return address // self.config.act_bank_bytes % self.config.act_banks


def _within(times: Ints, begin: int, end: int) -> set[int]:
    return set(times[np.searchsorted(times, begin) : np.searchsorted(times, end)].tolist())
