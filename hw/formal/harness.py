"""What harnesses are made of: named properties, memory of the past, and the rules of a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Assert, Assume, Cat, Cover, Module, Signal, Value, ValueLike
from amaranth.lib import wiring

__all__ = ["Block", "held", "implies", "past", "reach", "require", "require_held",
           "require_progress", "suppose", "suppose_held"]  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A block under verification.

    Attributes
    ----------
    name
        How the command line calls it.
    harness
        Makes the block with its environment and properties; inputs of the harness are free.
    depth
        Cycles from reset that are searched for violations and in which every cover statement is reached.
    induction
        Longest induction step tried.
    pdr_seconds
        How long the PDR engine may try what induction leaves open; 0: leave that bounded.
    search_seconds
        After so long the bounded search of what is left begins no further cycle.
    independent
        Pairs of outputs and inputs of the harness: no combinational path leads from one of the inputs to one of the
        outputs.
    assumes
        What the environment is taken to do, in words.
    """

    name: str
    harness: Callable[[], wiring.Component]
    depth: int = 20
    induction: int = 3
    pdr_seconds: int = 0
    search_seconds: int = 20
    independent: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    assumes: str = "nothing"


def require(m: Module, name: str, value: ValueLike) -> None:
    """Assert a named property in every cycle."""
    m.d.comb += Assert(Value.cast(value).any(), name)


def suppose(m: Module, name: str, value: ValueLike) -> None:
    """Assume a named property of the environment in every cycle."""
    m.d.comb += Assume(Value.cast(value).any(), name)


def reach(m: Module, name: str, value: ValueLike) -> None:
    """Ask for a trace in which a value is true, so that no proof holds for want of cases."""
    m.d.comb += Cover(Value.cast(value).any(), name)


def implies(condition: ValueLike, consequence: ValueLike) -> Value:
    """Return that a consequence (1 bit) holds whenever a condition (1 bit) does."""
    return ~Value.cast(condition).any() | Value.cast(consequence).any()


def past(m: Module, value: ValueLike, *, init: int = 0) -> Signal:
    """Return a value as it was one cycle ago (`init` in the first cycle)."""
    value = Value.cast(value)
    before = Signal(value.shape(), init=init)
    m.d.sync += before.eq(value)
    return before


def held(m: Module, valid: ValueLike, ready: ValueLike, *payload: ValueLike) -> Value:
    """Return that VALID and payload are as they were if a transfer was offered and not taken a cycle ago."""
    waited = past(m, Value.cast(valid) & ~Value.cast(ready))
    what = Cat(*(Value.cast(item) for item in payload))
    return implies(waited, Value.cast(valid) & (what == past(m, what)))


def require_held(m: Module, name: str, valid: ValueLike, ready: ValueLike, *payload: ValueLike) -> None:
    """Assert that VALID and payload wait for READY."""
    require(m, name, held(m, valid, ready, *payload))


def suppose_held(m: Module, name: str, valid: ValueLike, ready: ValueLike, *payload: ValueLike) -> None:
    """Assume that VALID and payload wait for READY."""
    suppose(m, name, held(m, valid, ready, *payload))


def require_progress(m: Module, name: str, *, within: int, unless: ValueLike) -> None:
    """Assert that something happens, or is waited for, at least every `within` + 1 cycles (`unless`: it is)."""
    still = Signal(range(within + 2))
    with m.If(Value.cast(unless).any()):
        m.d.sync += still.eq(0)
    with m.Elif(still <= within):
        m.d.sync += still.eq(still + 1)
    require(m, name, still <= within)


def suppose_constant(m: Module, name: str, value: ValueLike) -> Value:
    """Assume that a free input keeps whatever value it has in the first cycle; return it."""
    value = Value.cast(value)
    first = Signal(init=1)
    m.d.sync += first.eq(0)
    suppose(m, name, first | (value == past(m, value)))
    return value


def free(**members: Any) -> dict[str, wiring.Member]:
    """Return ``In`` members of the given shapes: values that nothing determines."""
    return {name: wiring.In(shape) for name, shape in members.items()}
