"""AXI bursts of LOAD and STORE instructions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction

__all__ = ["MAX_BURST_BEATS", "Bursts", "bursts"]

MAX_BURST_BEATS = 64
PAGE_BYTES = 4096


@dataclass(frozen=True)
class Bursts:
    """What a transfer asks the bus for.

    Parameters
    ----------
    beats
        Beats of each burst, in order.
    row_ends
        Number of bursts up to the end of each row.
    addresses
        On-chip address of each burst's first byte.
    """

    beats: list[int]
    row_ends: list[int]
    addresses: list[int]


def bursts(config: AcceleratorConfig, transfer: Instruction) -> Bursts:
    """Return a transfer's bursts: rows in whole beats, cut at multiples of the longest burst (regions begin at one)."""
    size = config.axi_bytes
    longest = min(MAX_BURST_BEATS, PAGE_BYTES // size)
    rows = np.arange(transfer["rows"], dtype=np.int64)
    start = transfer["dram_offset"] + rows * transfer["dram_stride"]
    inside = transfer["mem_addr"] + rows * transfer["mem_stride"]
    first, last = start // size, (start + transfer["row_bytes"] - 1) // size
    low, high = first // longest, last // longest
    ends = np.cumsum(high - low + 1)
    if int(ends[-1]) == len(start):
        return Bursts((last - first + 1).tolist(), ends.tolist(), inside.tolist())
    row = np.repeat(np.arange(len(start)), high - low + 1)
    block = np.arange(int(ends[-1])) - (ends - (high - low + 1))[row] + low[row]
    begin, end = np.maximum(first[row], block * longest), np.minimum(last[row], (block + 1) * longest - 1)
    addresses = inside[row] + np.maximum(begin * size - start[row], 0)
    return Bursts((end - begin + 1).tolist(), ends.tolist(), addresses.tolist())
