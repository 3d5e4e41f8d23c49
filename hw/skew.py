"""Triangular shift registers: element i of a vector comes i cycles late, as a systolic array's edges need it."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, Value, ValueLike

__all__ = ["skewed"]


def skewed(m: Module, values: Sequence[ValueLike], *, name: str) -> list[Value]:
    """Return `values`, entry i delayed by i cycles.

    Stage k is one register ``<name>_<k>`` for all entries from k on: n wide registers convert in a fraction of the
    time of n**2 / 2 narrow ones.  No reset.

    Parameters
    ----------
    m
        Module that gets the registers, in domain ``sync``.
    values
        Values of equal width; the results are their bits, unsigned.
    name
        Prefix of the registers' names.
    """
    width = len(Value.cast(values[0]))
    rest = Cat(*values)
    result = [Value.cast(values[0]).as_unsigned()]
    for stage in range(1, len(values)):
        register = Signal(len(rest) - width, name=f"{name}_{stage}", reset_less=True)
        m.d.sync += register.eq(rest[width:])
        result.append(register[:width])
        rest = register
    return result
