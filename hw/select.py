"""Choosing by a run-time number with 2:1 multiplexers instead of shifts.

In a netlist every bit of a variable shift depends on every bit of its operand; these trees say no more than is meant,
and conversion and simulation take time in proportion.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike

__all__ = ["lanes_below", "select"]


def select(index: Value, values: Sequence[ValueLike]) -> Value:
    """Return ``values[index]``; some entry if `index` is beyond the last.

    Parameters
    ----------
    index
        Unsigned, wide enough to count the entries.
    values
        At least one, of equal shape.
    """
    if len(values) == 1:
        return Value.cast(values[0])
    return Mux(index[0], select(index[1:], values[1::2]), select(index[1:], values[::2]))


def lanes_below(m: Module, bound: Value, lanes: int, *, name: str) -> Value:
    """Return `lanes` bits, bit i set if i < `bound`: a thermometer code, one multiplexer stage per bit of `bound`.

    Parameters
    ----------
    m
        Module that gets the stages.
    bound
        Unsigned.
    lanes
        At least 1.
    name
        Prefix of the stages' names.
    """
    code: Value = Const(0, 1)
    for index, bit in enumerate(bound):
        stage = Signal(min(lanes, 2 * len(code)), name=f"{name}_{index}")
        m.d.comb += stage.eq(Cat(code | bit.replicate(len(code)), code & bit.replicate(len(code))))
        code = stage
    return Cat(code, Const(0, lanes - len(code)))
