"""Area of an accelerator, as a sum of counted parts: which of two configurations is larger, before synthesis.

The parts' areas are those of Yosys' hierarchical synthesis (``synth -booth``, NanGate45 typical, no wire load, memories
left out) of presets; ``python bench/area.py`` compares sum and synthesis.  Memories are an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from hw.spec.config import AcceleratorConfig
from sw.model.figures import FigureError, is_figure

__all__ = ["PARTS", "AreaTable", "area"]

PARTS = ("PEs", "halo", "skew", "columns", "scratchpad ports", "DMA", "control", "memories")
"""What area is told apart by, in :func:`area`'s order; the last one is no logic."""

_PIPELINE_BITS = 8 + 8 + 16
"""Of a PE's registers before its multiplier and behind it."""


@dataclass(frozen=True)
class AreaTable:
    """Areas of parts, in square micrometres.

    Parameters
    ----------
    pe, pe_plain
        Processing element with ST-OS and without, both without the registers of `pipeline_mac`.
    halo
        Pixel register left of column 0.
    flipflop
        Register bit of the skews, and of the registers that `pipeline_mac` adds to PEs: their area is computed,
        bits times this figure, not measured.
    lane
        All there is per column besides PEs: output stage, pooling, maximum, operand alignment.
    line_byte
        Rotators and multiplexers of the scratchpad's ports, per byte of a line.
    bus_bit
        Load, store and fetch, per bit of the memory bus.
    stos
        Sequencer of the ST-OS modes, and what it adds to the walk that all modes share.
    fixed
        All other control.
    memory_bit
        Of scratchpads, parameter memory and collected pooled bytes.  Estimate: a cell of 0.346 um2 (K. Mistry et
        al., IEDM 2007, 45 nm) at an array efficiency of 0.6.

    Raises
    ------
    sw.model.figures.FigureError
        If a figure is negative or no number.
    """

    pe: float = 1052.0
    pe_plain: float = 1013.0
    halo: float = 58.5
    flipflop: float = 4.522
    lane: float = 8500.0
    line_byte: float = 646.0
    bus_bit: float = 41.0
    stos: float = 4200.0
    fixed: float = 73900.0
    memory_bit: float = 0.58

    def __post_init__(self) -> None:
        for field in fields(self):
            if not is_figure(value := getattr(self, field.name)):
                raise FigureError(f"{field.name}={value!r} is no area: a number of um2, 0 or more, is expected")


def area(config: AcceleratorConfig, table: AreaTable | None = None) -> dict[str, float]:
    """Return the area in square micrometres of each of :data:`PARTS`."""
    t = table or AreaTable()
    rows, cols = config.rows, config.cols
    # operands of 8 bits enter both edges skewed, sums of 32 bits leave in deskewed columns
    skewed = 8 * _triangle(rows) + (8 + 32) * _triangle(cols)
    bits = 8 * (config.act_bytes + config.weight_words * config.weight_word_bytes + config.param_bytes)
    bits += 8 * config.param_entries  # pooled bytes, one per channel
    pipeline = _PIPELINE_BITS * t.flipflop if config.pipeline_mac else 0.0
    parts = (
        rows * cols * ((t.pe if config.stos else t.pe_plain) + pipeline),
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
