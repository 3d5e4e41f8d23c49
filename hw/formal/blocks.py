"""All blocks under verification."""

from __future__ import annotations

from hw.formal import arbiter, control_port, managers, queues, tokens
from hw.formal.harness import Block

__all__ = ["BLOCKS"]

_MODULES = (queues, tokens, control_port, arbiter, managers)

BLOCKS: dict[str, Block] = {block.name: block for module in _MODULES for block in module.BLOCKS}
"""By name, in the order in which they are verified."""
