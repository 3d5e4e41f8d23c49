"""Pictures as files that are the same for the same content."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["need_matplotlib", "svg"]


def need_matplotlib(what: str) -> None:
    """Refuse to begin work whose picture could not be drawn.

    Raises
    ------
    ValueError
        If matplotlib is not installed; the message begins with `what`.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(f"{what} needs matplotlib: pip install 'rowcast[plot]'")


def svg(figure: Figure, description: str | None = None) -> bytes:
    """Return a figure as SVG without date or random names, text as text; `description` goes into its metadata."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "rowcast", "svg.fonttype": "none"}):
        metadata = {"Date": None, "Creator": None, "Description": description}
        figure.savefig(buffer, format="svg", metadata=metadata)
    return buffer.getvalue()
