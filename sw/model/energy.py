"""Energy of a run, estimated: counted events times published energies of each.

These are estimates, not measurements: the default energies are those of 45 nm at about 0.9 V and of DRAM of that time,
wires and clock tree are left out, and operands are taken to be random.  They rank designs and show where energy goes;
figures of another process come from a file (``python -m sw.profile --energy``).

Sources of the defaults:

* [Horowitz] M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure 1.1.9: 45 nm,
  0.9 V.
* [NanGate45] NanGate 45 nm Open Cell Library, typical corner, 1.1 V: Liberty tables of cell DFF_X1.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from hw.spec.config import SUB_BANKS, AcceleratorConfig
from sw.model.events import Events, parameter_line_bytes, weight_line_bytes
from sw.model.figures import FigureError, is_figure

__all__ = ["PARTS", "EnergyTable", "energy"]

PARTS = (
    "multiply-accumulate",
    "array registers",
    "scratchpad",
    "weights",
    "parameters",
    "output stage",
    "DRAM",
    "static",
)
"""What energy is told apart by, in :func:`energy`'s order."""


@dataclass(frozen=True)
class EnergyTable:
    """Energies per event in pJ.

    Parameters
    ----------
    multiply_8, add_8, multiply_32, add_32
        Integer operations of 8 and 32 bits [Horowitz].
    flip_flop
        A flip-flop clocked once.  A clock pulse takes 7 fJ, a changed output about 4 more [NanGate45]; half of them
        change.
    sram
        Pairs (bytes of one memory, energy of a 64-bit access), by size: 8 KiB, 32 KiB and 1 MiB [Horowitz].  Between
        them, and beyond, as a power of the size; in proportion to the width.
    dram_read_64, dram_write_64
        64 bits of DRAM; the middle of 1.3 to 2.6 nJ [Horowitz].
    static_cycle
        Per clock cycle, whatever happens: leakage and clock tree.  No figure is assumed.

    Raises
    ------
    sw.model.figures.FigureError
        If a figure is negative or no number, or the memories are not in order of size.
    """

    multiply_8: float = 0.2
    add_8: float = 0.03
    multiply_32: float = 3.1
    add_32: float = 0.1
    flip_flop: float = 0.009
    sram: tuple[tuple[float, float], ...] = ((8192, 10.0), (32768, 20.0), (1048576, 100.0))
    dram_read_64: float = 1950.0
    dram_write_64: float = 1950.0
    static_cycle: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name != "sram" and not is_figure(value := getattr(self, field.name)):
                raise FigureError(f"{field.name}={value!r} is no energy: a number of pJ, 0 or more, is expected")
        pairs = self.sram
        if not isinstance(pairs, list | tuple) or not all(isinstance(pair, list | tuple) for pair in pairs):
            raise FigureError(f"sram={pairs!r} is no list of pairs [bytes, pJ per 64 bits]")
        if len(pairs) < 2 or not all(len(pair) == 2 and all(is_figure(n) and n > 0 for n in pair) for pair in pairs):
            raise FigureError(f"sram={pairs!r}: two or more pairs [bytes, pJ per 64 bits] above 0 are expected")
        if any(a[0] >= b[0] for a, b in zip(pairs, pairs[1:], strict=False)):
            raise FigureError(f"sram={pairs!r}: the sizes must rise")
        # lists, as JSON has them, would make the table unhashable
        object.__setattr__(self, "sram", tuple((size, access) for size, access in pairs))

    def sram_access(self, size: int, width: int) -> float:
        """Return the energy of reading or writing `width` bytes of a memory of `size` bytes."""
        pairs = self.sram
        upper = next((i for i, (known, _) in enumerate(pairs) if known >= size and i), len(pairs) - 1)
        (low, least), (high, most) = pairs[upper - 1 : upper + 1]
        power = math.log(most / least) / math.log(high / low)
        return least * (size / low) ** power * width / 8

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as :func:`sw.model.figures.read_figures` reads them."""
        return {**dataclasses.asdict(self), "sram": [list(pair) for pair in self.sram]}


def energy(config: AcceleratorConfig, events: Events, cycles: int, table: EnergyTable) -> dict[str, float]:
    """Return the energy in pJ of each of :data:`PARTS`.

    Parameters
    ----------
    config
        The accelerator, for the sizes of its memories.
    events
        What happens.
    cycles
        Clock cycles that it takes.
    table
        Energies.
    """
    sub_bank = config.act_bank_bytes // SUB_BANKS
    # 32 x 16 bits take half the multiplier cells of 32 x 32
    output = table.multiply_32 / 2 + 3 * table.add_32  # bias, multiplier, rounding, zero point
    second = 2 * table.multiply_8 + table.add_32  # 8 x 16 bits
    parts = (
        events.macs * (table.multiply_8 + table.add_32),
        events.register_bits * table.flip_flop,
        events.scratchpad_words * table.sram_access(sub_bank, config.sub_bytes),
        events.weight_lines * table.sram_access(config.weight_bytes, weight_line_bytes(config)),
        events.parameter_lines * table.sram_access(config.param_bytes, parameter_line_bytes(config)),
        events.outputs * output + events.second_operands * second + events.comparisons * table.add_8,
        events.dram_read / 8 * table.dram_read_64 + events.dram_written / 8 * table.dram_write_64,
        cycles * table.static_cycle,
    )
    return dict(zip(PARTS, map(float, parts), strict=True))
