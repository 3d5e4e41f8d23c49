"""Bounded model checking, k-induction and cover traces with Bitwuzla."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from hw.errors import RequestError, ToolError
from hw.formal.system import System

__all__ = ["Failure", "Trace", "Unrolling", "bitwuzla", "bounded", "covered", "inductive"]

_BINARY = {
    "add": "BV_ADD", "sub": "BV_SUB", "mul": "BV_MUL", "udiv": "BV_UDIV", "urem": "BV_UREM", "sdiv": "BV_SDIV",
    "srem": "BV_SREM", "and": "BV_AND", "or": "BV_OR", "xor": "BV_XOR", "nand": "BV_NAND", "nor": "BV_NOR",
    "xnor": "BV_XNOR", "concat": "BV_CONCAT", "sll": "BV_SHL", "srl": "BV_SHR", "sra": "BV_ASHR", "not": "BV_NOT",
    "neg": "BV_NEG", "redand": "BV_REDAND", "redor": "BV_REDOR", "redxor": "BV_REDXOR",
}  # fmt: skip
_COMPARE = {
    "eq": "EQUAL", "neq": "DISTINCT", "ult": "BV_ULT", "ulte": "BV_ULE", "ugt": "BV_UGT", "ugte": "BV_UGE",
    "slt": "BV_SLT", "slte": "BV_SLE", "sgt": "BV_SGT", "sgte": "BV_SGE", "iff": "EQUAL",
}  # fmt: skip


def bitwuzla() -> ModuleType:
    """Return the solver's module; raise :class:`hw.errors.RequestError` with the way out if it is not installed."""
    try:
        import bitwuzla
    except ImportError as error:
        raise RequestError(
            f"the SMT solver Bitwuzla cannot be imported ({error}): install it with pip install 'rowcast[formal]'"
        ) from None
    return bitwuzla


@dataclass
class Trace:
    """Values of inputs, registers and outputs, cycle by cycle.

    Attributes
    ----------
    widths : dict
        Name to bits.
    values : list of dict
        Name to value, by cycle.
    """

    widths: dict[str, int] = field(default_factory=dict)
    values: list[dict[str, int]] = field(default_factory=list)


class Unrolling:
    """A system unrolled in an incremental solver.

    Parameters
    ----------
    system
        What to unroll.
    initial
        Frame 0 is the initial state; otherwise any state.
    roots
        Nodes that will be asked about: only what they and the constraints depend on is built.
    """

    def __init__(self, system: System, *, initial: bool, roots: list[int]) -> None:
        self.bz = bitwuzla()
        self.system, self.initial = system, initial
        self.tm = self.bz.TermManager()
        options = self.bz.Options()
        options.set(self.bz.Option.PRODUCE_MODELS, True)
        self.solver = self.bz.Bitwuzla(self.tm, options)
        self.cone = system.cone([*roots, *system.constraints])
        self.order = sorted(self.cone)
        self.frames: list[dict[int, Any]] = []

    def _value(self, width: int, value: int) -> Any:
        return self.tm.mk_bv_value(self.tm.mk_bv_sort(width), value)

    def extend(self) -> None:
        """Add a frame, with its constraints."""
        frame: dict[int, Any] = {}
        index = len(self.frames)
        for number in self.order:
            frame[number] = self._term(number, frame, index)
        self.frames.append(frame)
        for number in self.system.constraints:
            self.solver.assert_formula(self.true(number, index))

    def _term(self, number: int, frame: dict[int, Any], index: int) -> Any:
        node, tm, kind = self.system.nodes[number], self.tm, self.bz.Kind
        if node.op == "value":
            return self._value(node.width, node.numbers[0])
        if node.op == "state" and index and number in self.system.next:
            return self._arg(self.system.next[number], self.frames[index - 1])
        if node.op == "state" and index == 0 and self.initial and number in self.system.init:
            return self._value(node.width, self._constant(self.system.init[number]))
        if node.op in ("input", "state"):
            return tm.mk_const(tm.mk_bv_sort(node.width), f"n{number}@{index}")
        args = [self._arg(arg, frame) for arg in node.args]
        if node.op == "slice":
            return tm.mk_term(kind.BV_EXTRACT, args, list(node.numbers))
        if node.op in ("uext", "sext"):
            extend = kind.BV_ZERO_EXTEND if node.op == "uext" else kind.BV_SIGN_EXTEND
            return tm.mk_term(extend, args, list(node.numbers)) if node.numbers[0] else args[0]
        if node.op == "ite":
            return tm.mk_term(kind.ITE, [self._bool(args[0]), args[1], args[2]])
        if node.op in _COMPARE:
            return self._bit(tm.mk_term(getattr(kind, _COMPARE[node.op]), args))
        if node.op not in _BINARY:
            raise ToolError(f"BTOR2 operation {node.op!r} is not known")
        return tm.mk_term(getattr(kind, _BINARY[node.op]), args)

    def _constant(self, number: int) -> int:
        node = self.system.nodes[abs(number)]
        if node.op != "value" or number < 0:
            raise ToolError(f"initial value {number} is no constant")
        return node.numbers[0]

    def _arg(self, number: int, frame: dict[int, Any]) -> Any:
        term = frame[abs(number)]
        return term if number > 0 else self.tm.mk_term(self.bz.Kind.BV_NOT, [term])

    def _bool(self, term: Any) -> Any:
        return self.tm.mk_term(self.bz.Kind.EQUAL, [term, self._value(1, 1)])

    def _bit(self, term: Any) -> Any:
        return self.tm.mk_term(self.bz.Kind.ITE, [term, self._value(1, 1), self._value(1, 0)])

    def true(self, number: int, index: int) -> Any:
        """Return the formula that a node is 1 in frame `index`."""
        return self._bool(self._arg(number, self.frames[index]))

    def never(self, number: int, index: int) -> Any:
        """Return the formula that a node is 0 in frame `index`."""
        return self.tm.mk_term(self.bz.Kind.NOT, [self.true(number, index)])

    def holds(self, numbers: list[int], index: int) -> bool:
        """Return whether one of the nodes can be 1 in frame `index`; the model is then there for :meth:`trace`."""
        bits = [self.true(number, index) for number in numbers]
        goal = bits[0] if len(bits) == 1 else self.tm.mk_term(self.bz.Kind.OR, bits)
        self.solver.push(1)
        self.solver.assert_formula(goal)
        result = self.solver.check_sat()
        if result == self.bz.Result.UNKNOWN:
            raise ToolError("the SMT solver gave up")
        return bool(result == self.bz.Result.SAT)

    def leave(self) -> None:
        """Forget the last question."""
        self.solver.pop(1)

    def is_one(self, number: int, index: int) -> bool:
        """Return whether a node is 1 in the model."""
        return self._model(self._arg(number, self.frames[index])) == 1

    def _model(self, term: Any) -> int:
        return int(self.solver.get_value(term).value(2), 2)

    def trace(self) -> Trace:
        """Return the model's inputs, registers and outputs."""
        system = self.system
        leaves = (*system.inputs, *system.states)
        shown = {system.nodes[number].name: number for number in leaves if number in self.cone}
        shown |= {name: number for name, number in system.outputs.items() if abs(number) in self.cone}
        shown.pop("clk", None)
        trace = Trace({name: system.nodes[abs(number)].width for name, number in shown.items()})
        for frame in self.frames:
            trace.values.append({name: self._model(self._arg(number, frame)) for name, number in shown.items()})
        return trace


@dataclass
class Failure:
    """A violated assertion: its names, the last cycle's index and how it comes about."""

    names: list[str]
    cycle: int
    trace: Trace


Tell = Callable[[str], None]


def bounded(
    system: System, depth: int, *, names: Collection[str] = (), seconds: float = 1e9, tell: Tell | None = None
) -> Failure | int:
    """Search for the shortest violation within `depth` cycles of the initial state.

    Parameters
    ----------
    system
        What to search.
    depth
        Cycles.
    names
        Assertions, all if there are none.
    seconds
        No cycle is begun after that.
    tell
        Called with the cycle, now and then.

    Returns
    -------
    Failure or int
        What was found, or the cycles that were searched.
    """
    bad = {name: system.bad[name] for name in names or system.bad}
    unrolling = Unrolling(system, initial=True, roots=list(bad.values()))
    start = told = time.monotonic()
    for cycle in range(depth):
        now = time.monotonic()
        if now - start > seconds:
            return cycle
        if tell and now - told > 2:
            tell(f"cycle {cycle + 1} of {depth}")
            told = now
        unrolling.extend()
        if unrolling.holds(list(bad.values()), cycle):
            broken = [name for name, number in bad.items() if unrolling.is_one(number, cycle)]
            return Failure(broken, cycle, unrolling.trace())
        unrolling.leave()
        for number in bad.values():
            unrolling.solver.assert_formula(unrolling.never(number, cycle))
    return depth


def inductive(system: System, k: int) -> list[str]:
    """Return the largest set of assertions such that, where they hold for `k` cycles, they hold in the next.

    With a bounded search of `k` cycles or more from the initial state that finds nothing, they hold for ever.
    """
    names = list(system.bad)
    while names:
        bad = {name: system.bad[name] for name in names}
        unrolling = Unrolling(system, initial=False, roots=list(bad.values()))
        for cycle in range(k):
            unrolling.extend()
            for number in bad.values():
                unrolling.solver.assert_formula(unrolling.never(number, cycle))
        unrolling.extend()
        if not unrolling.holds(list(bad.values()), k):
            break
        # Whoever fails goes; the others need not hold without it, so all are asked again.
        names = [name for name, number in bad.items() if not unrolling.is_one(number, k)]
    return names


def covered(system: System, depth: int, *, seconds: float = 1e9) -> dict[str, Trace | None]:
    """Return for each cover statement (a bad state of `system`) the shortest trace that reaches it, or None."""
    found: dict[str, Trace | None] = dict.fromkeys(system.bad)
    end = time.monotonic() + seconds
    unrolling = Unrolling(system, initial=True, roots=list(system.bad.values()))
    for cycle in range(depth):
        unrolling.extend()
        while left := [name for name in found if found[name] is None]:
            reached = unrolling.holds([system.bad[name] for name in left], cycle)
            if reached:
                trace = unrolling.trace()
                found |= {name: trace for name in left if unrolling.is_one(system.bad[name], cycle)}
            unrolling.leave()
            if not reached:
                break
        if all(trace is not None for trace in found.values()) or time.monotonic() > end:
            break
    return found
