"""How often each signal changes while a program runs: SAIF files of the Verilator bench."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Scope", "read_saif"]

_TOKEN = re.compile(r'"[^"]*"|[()]|[^\s()]+')


@dataclass
class Scope:
    """An instance: how often each bit of its signals changed, and the instances in it.

    Bits are named as in Verilog, ``name`` or ``name[3]``.
    """

    bits: dict[str, int] = field(default_factory=dict)
    children: dict[str, Scope] = field(default_factory=dict)


def read_saif(path: Path, top: str) -> Scope:
    """Return the instance of module `top`, which has that name in the file.

    Raises
    ------
    ValueError
        If the file has no such instance.
    """
    root, stack = Scope(), []
    tokens = _TOKEN.findall(path.read_text())
    scopes, depth = [root], 0
    index, count = 0, len(tokens)
    while index < count:
        token = tokens[index]
        if token == "(":
            depth += 1
            word = tokens[index + 1]
            if word == "INSTANCE":
                name = _name(tokens[index + 2])
                scopes.append(scopes[-1].children.setdefault(name, Scope()))
                stack.append(depth)
                index += 2
            elif word == "T0":
                # ( NAME ( T0 a ) ( T1 b ) ( TZ .. ) ( TX .. ) ( TB .. ) ( TC n ) )
                values, at = {}, index
                name = _name(tokens[index - 1])
                while tokens[at] == "(":
                    values[tokens[at + 1]] = int(tokens[at + 2])
                    at += 4
                scopes[-1].bits[name] = values["TC"]
                index, depth = at - 1, depth - 1
        elif token == ")":
            if stack and stack[-1] == depth:
                stack.pop()
                scopes.pop()
            depth -= 1
        index += 1
    found = _find(root, top)
    if found is None:
        raise ValueError(f"{path}: no instance {top}")
    return found


def _name(token: str) -> str:
    """Return a name without the backslashes before brackets and other signs."""
    return re.sub(r"\\(.)", r"\1", token)


def _find(scope: Scope, name: str) -> Scope | None:
    for child, inner in scope.children.items():
        if child == name:
            return inner
        if (found := _find(inner, name)) is not None:
            return found
    return None
