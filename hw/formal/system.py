"""Transition systems: BTOR2 as Yosys writes it, read into nodes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hw.errors import ToolError
from hw.formal.netlist import CHECK_PREFIX

__all__ = ["Node", "System", "read_btor"]


@dataclass(frozen=True)
class Node:
    """One line of BTOR2: operation, width in bits, nodes it uses (negative: inverted) and numbers it names."""

    op: str
    width: int
    args: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()
    name: str = ""


@dataclass
class System:
    """A synchronous system: registers with initial and next values, free inputs, constraints and bad states.

    Attributes
    ----------
    nodes : dict
        By BTOR2 number, arguments before users.
    inputs, states : list of int
        Nodes.
    init, next : dict
        State to node; a state without ``init`` begins with anything.
    constraints : list of int
        Nodes that are 1 in every cycle.
    bad : dict
        Name to node that must never be 1.
    outputs : dict
        Name to node.
    """

    nodes: dict[int, Node] = field(default_factory=dict)
    inputs: list[int] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    init: dict[int, int] = field(default_factory=dict)
    next: dict[int, int] = field(default_factory=dict)
    constraints: list[int] = field(default_factory=list)
    bad: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)

    def same_cycle(self, root: int) -> set[int]:
        """Return the nodes on which a node depends within one cycle."""
        seen: set[int] = set()
        todo = [abs(root)]
        while todo:
            number = todo.pop()
            if number not in seen:
                seen.add(number)
                todo.extend(map(abs, self.nodes[number].args))
        return seen

    def cone(self, roots: list[int]) -> set[int]:
        """Return the nodes on which nodes depend in any number of cycles."""
        seen: set[int] = set()
        todo = list(roots)
        while todo:
            fresh = self.same_cycle(todo.pop()) - seen
            seen |= fresh
            for state in fresh & self.next.keys():
                todo.append(self.next[state])
            todo.extend(self.init[state] for state in fresh & self.init.keys())
        return seen


_LITERALS = {"const": 2, "constd": 10, "consth": 16}


def read_btor(text: str) -> System:
    """Return the system that BTOR2 text describes.

    Raises
    ------
    ToolError
        For array sorts and anything else that Yosys does not write once memories are registers.
    """
    system, widths = System(), {}
    for line in text.splitlines():
        words = re.sub(r"(^| );.*", "", line).split()
        if not words:
            continue
        number, op, rest = int(words[0]), words[1], words[2:]
        if op == "sort":
            if rest[0] != "bitvec":
                raise ToolError(f"BTOR2 line {line!r}: only bit vectors are read")
            widths[number] = int(rest[1])
        elif op in ("init", "next"):
            (system.init if op == "init" else system.next)[int(rest[1])] = int(rest[2])
        elif op == "constraint":
            system.constraints.append(int(rest[0]))
        elif op == "bad":
            system.bad[rest[1].removeprefix(CHECK_PREFIX)] = int(rest[0])
        elif op == "output":
            system.outputs[rest[1]] = int(rest[0])
        else:
            system.nodes[number] = _node(op, widths[int(rest[0])], rest[1:])
            if op in ("input", "state"):
                (system.inputs if op == "input" else system.states).append(number)
    return system


def _node(op: str, width: int, rest: list[str]) -> Node:
    if op in ("input", "state"):
        return Node(op, width, name=rest[0] if rest else "")
    if op in ("zero", "one", "ones"):
        return Node("value", width, numbers=({"zero": 0, "one": 1, "ones": (1 << width) - 1}[op],))
    if op in _LITERALS:
        return Node("value", width, numbers=(int(rest[0], _LITERALS[op]) % (1 << width),))
    if op in ("uext", "sext") and int(rest[1]) == width:  # of nothing: Yosys extends operands without bits so
        return Node("value", width, numbers=(0,))
    if op in ("slice", "uext", "sext"):
        return Node(op, width, (int(rest[0]),), tuple(map(int, rest[1 : 3 if op == "slice" else 2])))
    numbers = [int(word) for word in rest if re.fullmatch(r"-?\d+", word)]
    return Node(op, width, tuple(numbers))
