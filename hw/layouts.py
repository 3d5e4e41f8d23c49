"""Amaranth layouts derived from the specification's field tables."""

from __future__ import annotations

from amaranth.hdl import Format, Shape, ShapeLike, Value, ValueLike, signed, unsigned
from amaranth.lib import data

from hw.spec.config import AcceleratorConfig
from hw.spec.csr import REGION_COUNT, ErrorCause
from hw.spec.fields import FieldTable
from hw.spec.isa import INSTRUCTION_BYTES
from hw.spec.numerics import NUMERICS

__all__ = [
    "CAUSE_WIDTH",
    "DMA_EVENTS_LAYOUT",
    "PARAM_LAYOUT",
    "PC_WIDTH",
    "REGIONS_LAYOUT",
    "Lanes",
    "act_addr_width",
    "pixels",
    "range_width",
    "table_layout",
    "unit_payload",
]

PC_WIDTH = 32
CAUSE_WIDTH = max(ErrorCause).bit_length()


class Lanes(data.ArrayLayout):
    """An array that netlists and waveforms show as one vector.

    ``data.ArrayLayout`` gives every element of every signal a wire of its own, which takes longer than the logic.
    """

    def format(self, value: ValueLike, format_spec: str) -> Format:
        """Return the format of the vector as a whole."""
        return Format("{}", Value.cast(value))


REGIONS_LAYOUT = Lanes(data.StructLayout({"base": 64, "size": 32}), REGION_COUNT)
"""The DRAM regions, as the region registers hold them."""

DMA_EVENTS_LAYOUT = data.StructLayout({"busy": 1, "dram": 1, "port": 1, "bytes": 16})
"""What a load or store unit reports to the performance counters in every cycle."""

PARAM_LAYOUT = data.StructLayout(
    {
        "bias": signed(NUMERICS.bias_width),
        "mult": unsigned(NUMERICS.mult_width),
        "shift": unsigned(8),
        "reserved": unsigned(8),
    }
)
"""One parameter entry, bit for bit :data:`hw.spec.program.PARAM_DTYPE`."""


def table_layout(table: FieldTable) -> data.StructLayout:
    """Return the struct of a field table's fields, bit 0 first (reserved bits above them are left out)."""
    members: dict[str, ShapeLike] = {
        field.name: Shape(field.width, signed=field.signed) for field in table.fields
    }
    return data.StructLayout(members)


def unit_payload() -> data.StructLayout:
    """Return the payload of a unit's instruction stream: the raw instruction word and its index."""
    return data.StructLayout({"word": unsigned(INSTRUCTION_BYTES * 8), "pc": unsigned(PC_WIDTH)})


def pixels(lanes: int) -> Lanes:
    """Return an array of `lanes` signed bytes, lane 0 in the low bits."""
    return Lanes(signed(8), lanes)


def range_width(lanes: int) -> int:
    """Bits of a lane bound 0..lanes."""
    return lanes.bit_length()


def act_addr_width(config: AcceleratorConfig) -> int:
    """Bits of a byte address in the activation scratchpad."""
    return (config.act_bytes - 1).bit_length()
