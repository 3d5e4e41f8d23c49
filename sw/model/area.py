"""Area of an accelerator, as a sum of counted parts: which of two configurations is larger, before synthesis.

The parts' areas are those of Yosys' hierarchical synthesis (``synth -booth``, NanGate45 typical, no wire load, memories
left out) of presets; ``python bench/area.py`` compares sum and synthesis.  Memories are an estimate.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

from hw.spec.config import AcceleratorConfig

__all__ = ["PARTS", "AreaError", "AreaTable", "area"]

PARTS = ("PEs", "halo", "skew", "columns", "scratchpad ports", "DMA", "control", "memories")
"""What area is told apart by, in :func:`area`'s order; the last one is no logic."""


class AreaError(ValueError):
    """A file of areas that cannot be used; the message names the key, the value and what is expected."""


@dataclass(frozen=True)
class AreaTable:
    """Areas of parts, in square micrometres.

    Parameters
    ----------
    pe, pe_plain
        Processing element with ST-OS and without.
    halo
        Window register left of column 0, both its chains.
    flipflop
        Register bit of the skews.
    lane
        All there is per column besides PEs: output stage, pooling, maximum, operand alignment.
    line_byte
        Rotators and multiplexers of the scratchpad's ports, per byte of a line.
    bus_bit
        Load, store and fetch, per bit of the memory bus.
    stos
        Sequencer of the ST-OS modes.
    fixed
        All other control.
    memory_bit
        Of scratchpads and parameter memory.  Estimate: a cell of 0.346 um2 (K. Mistry et al., IEDM 2007, 45 nm) at an
        array efficiency of 0.6.

    Raises
    ------
    AreaError
        If a figure is negative or no number.
    """

    pe: float = 1088.0
    pe_plain: float = 1071.0
    halo: float = 104.5
    flipflop: float = 4.522
    lane: float = 8500.0
    line_byte: float = 690.0
    bus_bit: float = 41.0
    stos: float = 9500.0
    fixed: float = 70000.0
    memory_bit: float = 0.58

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise AreaError(f"{field.name}={value!r} is no area: a number of um2, 0 or more, is expected")

    @classmethod
    def from_file(cls, path: str | Path) -> AreaTable:
        """Read a JSON object with the areas to replace; the others stay.

        Raises
        ------
        AreaError
            If the file is missing or unreadable, or a key is unknown.
        """
        try:
            found = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise AreaError(f"{path}: not a readable JSON file of areas ({error})") from None
        known = [field.name for field in fields(cls)]
        if not isinstance(found, dict):
            raise AreaError(f"{path}: a JSON object with some of {', '.join(known)} is expected")
        if unknown := sorted(set(found) - set(known)):
            raise AreaError(f"{path}: unknown key {unknown[0]!r}; there are {', '.join(known)}")
        return cls(**found)


def area(config: AcceleratorConfig, table: AreaTable | None = None) -> dict[str, float]:
    """Return the area in square micrometres of each of :data:`PARTS`."""
    t = table or AreaTable()
    rows, cols = config.rows, config.cols
    # operands of 8 bits enter both edges skewed, sums of 32 bits leave in deskewed columns
    skewed = 8 * _triangle(rows) + (8 + 32) * _triangle(cols)
    bits = 8 * (config.act_bytes + config.weight_words * config.weight_word_bytes + config.param_bytes)
    parts = (
        rows * cols * (t.pe if config.stos else t.pe_plain),
        rows * config.halo * t.halo,
        skewed * t.flipflop,
        cols * t.lane,
        config.line_bytes * t.line_byte,
        config.axi_data_width * t.bus_bit,
        t.fixed + (t.stos if config.stos else 0.0),
        bits * t.memory_bit,
    )
    return dict(zip(PARTS, map(float, parts), strict=True))


def _triangle(size: int) -> int:
    return size * (size - 1) // 2
