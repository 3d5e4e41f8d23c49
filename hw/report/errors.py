"""What can go wrong in a report."""

from __future__ import annotations

__all__ = ["ReportError", "ToolError"]


class ReportError(ValueError):
    """A request that cannot be met: a missing tool, an unreadable library; the message says the way out."""


class ToolError(RuntimeError):
    """A tool failed on a request that is in order; the message is the tool's own."""
