"""What can go wrong in a build."""

from __future__ import annotations

__all__ = ["BuildError", "ToolError"]


class BuildError(ValueError):
    """A request that cannot be met: a clock, a design too big for the board, a missing tool; it says the way out."""


class ToolError(RuntimeError):
    """A tool failed on a request that is in order; the message is the tool's own."""
