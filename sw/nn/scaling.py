"""Find squeeze-and-excite (arXiv 1709.01507) in a traced network."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import fx, nn

__all__ = ["squeeze_excite"]

_MULTIPLY = (operator.mul, torch.mul)
_GLOBAL = (1, (1, 1), [1, 1])


def _pools_globally(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a node takes the mean of each channel and keeps the axes."""
    arguments = [*node.args[1:], *node.kwargs.values()]
    if node.op == "call_module":
        module = modules[str(node.target)]
        return isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in _GLOBAL
    if node.target is F.adaptive_avg_pool2d:
        return arguments == [1] or arguments == [(1, 1)]
    if node.target in (torch.mean, "mean"):
        return len(arguments) == 2 and tuple(arguments[0]) in ((2, 3), (-2, -1)) and arguments[1] is True
    return False


def squeeze_excite(
    node: fx.Node,
    modules: Mapping[str, nn.Module],
    transparent: Callable[[fx.Node], bool],
    channels: int,
) -> tuple[tuple[str, str], fx.Node] | None:
    """Return the two 1x1 convolutions that gate a tensor's channels, and the product with the gate.

    Parameters
    ----------
    node
        The tensor; its users must be a global mean and a product, and nothing else.
    modules
        Modules by name.
    transparent
        Whether a node is elementwise, so that it may stand between and behind the convolutions.
    channels
        Channels of the tensor.

    Returns
    -------
    tuple or None
        None if anything else happens to the tensor.
    """
    products = [user for user in node.users if user.target in _MULTIPLY or user.target == "mul"]
    others = [user for user in node.users if user not in products]
    if len(products) != 1 or len(others) != 1 or not _pools_globally(others[0], modules):
        return None
    found: list[str] = []
    gate = others[0]
    while len(gate.users) == 1 and products[0] not in gate.users:
        gate = next(iter(gate.users))
        module = modules[str(gate.target)] if gate.op == "call_module" else None
        if isinstance(module, nn.Conv2d):
            if module.kernel_size != (1, 1) or module.groups != 1:
                return None
            found.append(str(gate.target))
        elif not transparent(gate):
            return None
    if products[0] not in gate.users or len(gate.users) != 1 or len(found) != 2:
        return None
    squeeze, excite = (modules[name] for name in found)
    if squeeze.in_channels != channels or excite.out_channels != channels:
        return None
    return (found[0], found[1]), products[0]
