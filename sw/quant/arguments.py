"""Arguments of aten operators, which may stand in place, by name, or not at all."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

__all__ = ["arguments", "pair"]


def arguments(node: Node, names: str, **defaults: Any) -> list[Any]:
    """Return the call's arguments in the order of `names`; an absent one has its default, or None."""
    order = names.split()
    given = dict(zip(order, node.args, strict=False)) | dict(node.kwargs)
    return [given.get(name, defaults.get(name)) for name in order]


def pair(value: Any) -> tuple[int, int]:
    """Return a number or a list of one or two as (y, x)."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    return (int(items[0]), int(items[-1]))
