"""The compiler's error: always names the layer and the way out."""

from __future__ import annotations

__all__ = ["CompileError", "check"]


class CompileError(ValueError):
    """A network or layer that cannot be compiled.

    Parameters
    ----------
    layer
        Name of the layer in the source network.
    message
        What is wrong: value, limit and the way out.
    """

    def __init__(self, layer: str, message: str) -> None:
        super().__init__(f"layer {layer}: {message}")
        self.layer = layer


def check(condition: bool, layer: str, message: str) -> None:
    """Raise :class:`CompileError` for `layer` unless `condition` holds."""
    if not condition:
        raise CompileError(layer, message)
