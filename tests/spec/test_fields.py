from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.spec.fields import Field, FieldError, FieldTable

TABLE = FieldTable("T", 32, (Field("a", 7, ""), Field("b", 5, "", signed=True), Field("c", 1, "")))


@given(st.integers(0, 127), st.integers(-16, 15), st.integers(0, 1))
def test_round_trip(a: int, b: int, c: int) -> None:
    values = {"a": a, "b": b, "c": c}
    word = TABLE.encode(values)
    assert word == a | (b & 31) << 7 | c << 12
    assert TABLE.decode(word) == values


@pytest.mark.parametrize(("name", "low", "high"), [("a", 0, 127), ("b", -16, 15), ("c", 0, 1)])
def test_limits(name: str, low: int, high: int) -> None:
    for value in (low, high):
        assert TABLE.decode(TABLE.encode({name: value}))[name] == value
    for value in (low - 1, high + 1):
        with pytest.raises(FieldError, match=rf"T: field {name} = {value} is out of range {low} to {high}"):
            TABLE.encode({name: value})


def test_300_in_7_bits_is_refused_not_truncated() -> None:
    with pytest.raises(FieldError, match="field a = 300 is out of range 0 to 127"):
        TABLE.encode({"a": 300})


@pytest.mark.parametrize("value", [1.0, 1.5, "3", None])
def test_only_integers(value: object) -> None:
    with pytest.raises(FieldError, match="field a = .* is no integer"):
        TABLE.encode({"a": value})


def test_numpy_integers_are_integers() -> None:
    assert TABLE.encode({"a": np.int8(5), "c": True}) == 5 | 1 << 12


def test_unknown_names_and_reserved_bits() -> None:
    with pytest.raises(FieldError, match=r"unknown field\(s\) x, y"):
        TABLE.encode({"y": 0, "x": 1})
    with pytest.raises(FieldError, match="reserved bits above 12"):
        TABLE.decode(1 << 13)


def test_impossible_tables() -> None:
    with pytest.raises(ValueError, match="a is declared twice"):
        FieldTable("T", 8, (Field("a", 1, ""), Field("a", 1, "")))
    with pytest.raises(ValueError, match="9 bits of 8"):
        FieldTable("T", 8, (Field("a", 5, ""), Field("b", 4, "")))
