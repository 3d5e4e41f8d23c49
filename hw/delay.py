"""Shift registers that carry a value along a pipeline."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal

__all__ = ["delayed"]


def delayed(m: Module, value: Any, cycles: int, *, name: str, reset_less: bool = True) -> list[Any]:
    """Return `value` and its copies 1 to `cycles` cycles later.

    Parameters
    ----------
    m
        Module that gets the registers, in domain ``sync``.
    value
        Signal or view to carry.
    cycles
        Registers in the chain, at least 0.
    name
        Register k is called ``<name>_<k>``.
    reset_less
        False for control bits, whose registers are cleared by reset; data needs none.

    Returns
    -------
    list of cycles + 1 signals (views if `value` is one); entry k is `value` k cycles later
    """
    chain = [value]
    for stage in range(1, cycles + 1):
        register = Signal(value.shape(), name=f"{name}_{stage}", reset_less=reset_less)
        m.d.sync += register.eq(chain[-1])
        chain.append(register)
    return chain
