"""Pictures as files that are the same for the same content."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["svg"]


def svg(figure: Figure, description: str | None = None) -> bytes:
    """Return a figure as SVG without date or random names, text as text; `description` goes into its metadata."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "rowcast", "svg.fonttype": "none"}):
        metadata = {"Date": None, "Creator": None, "Description": description}
        figure.savefig(buffer, format="svg", metadata=metadata)
    return buffer.getvalue()
