"""Bit-field tables with range-checked packing; instructions and registers are both declared with them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Field", "FieldError", "FieldTable"]


class FieldError(ValueError):
    """A value does not fit its field; the message names field, value and limits."""


@dataclass(frozen=True)
class Field:
    """One bit field: name, width in bits, signedness and meaning."""

    name: str
    width: int
    doc: str
    signed: bool = False

    @property
    def minimum(self) -> int:
        """Smallest value that fits."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest value that fits."""
        return (1 << (self.width - self.signed)) - 1

    def pack(self, value: int) -> int:
        """Return the field's bits for `value`; raise :class:`FieldError` if it does not fit."""
        if not self.minimum <= value <= self.maximum:
            raise FieldError(f"field {self.name} = {value} is out of range {self.minimum} to {self.maximum}")
        return value & ((1 << self.width) - 1)

    def unpack(self, bits: int) -> int:
        """Return the value of the field's bits."""
        bits &= (1 << self.width) - 1
        return bits - (1 << self.width) if self.signed and bits >> (self.width - 1) else bits


class FieldTable:
    """Fields packed from bit 0 upwards, without gaps, into words of at most `width` bits."""

    def __init__(self, name: str, width: int, fields: Iterable[Field], doc: str = "") -> None:
        self.name, self.width, self.doc = name, width, doc
        self.fields = tuple(fields)
        self.offsets: dict[str, int] = {}
        offset = 0
        for field in self.fields:
            if field.name in self.offsets:
                raise ValueError(f"{name}: field {field.name} is declared twice")
            self.offsets[field.name] = offset
            offset += field.width
        if offset > width:
            raise ValueError(f"{name}: fields take {offset} bits of {width}")
        self.used = offset

    def encode(self, values: Mapping[str, int]) -> int:
        """Pack `values` into one integer; fields not named are 0.

        Raises
        ------
        FieldError
            If a name is unknown, or a value is no integer or does not fit.
        """
        if unknown := sorted(set(values) - set(self.offsets)):
            raise FieldError(f"{self.name}: unknown field(s) {', '.join(unknown)}")
        word = 0
        for field in self.fields:
            try:
                word |= field.pack(operator.index(values.get(field.name, 0))) << self.offsets[field.name]
            except TypeError:
                value = values[field.name]
                raise FieldError(f"{self.name}: field {field.name} = {value!r} is no integer") from None
            except FieldError as error:
                raise FieldError(f"{self.name}: {error}") from None
        return word

    def decode(self, word: int) -> dict[str, int]:
        """Unpack an integer; raise :class:`FieldError` if bits that belong to no field are set."""
        if word >> self.used:
            raise FieldError(f"{self.name}: reserved bits above {self.used - 1} are set")
        return {field.name: field.unpack(word >> self.offsets[field.name]) for field in self.fields}
