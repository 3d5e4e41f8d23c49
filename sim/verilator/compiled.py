"""A compiled harness in this process: the functions of its C API, called on one instance of the model."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

__all__ = ["INT", "POINTER", "TEXT", "U32", "U64", "Compiled", "Prototypes"]

U32, U64, INT, POINTER, TEXT = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p

Prototypes = Mapping[str, tuple[Any, tuple[Any, ...]]]
"""Function to its result and to its arguments after the instance."""


class Compiled:
    """One instance of a compiled model; several may live beside each other.

    Parameters
    ----------
    library
        What :func:`sim.verilator.build.build_library` returned.
    prefix
        What the harness's functions begin with.  ``<prefix>create`` makes an instance, ``<prefix>destroy`` frees it.
    prototypes
        The functions to be called, without these two.
    arguments
        Of ``create``, 32 bits each.
    """

    def __init__(self, library: Path, prefix: str, prototypes: Prototypes, *arguments: int) -> None:
        loaded = ctypes.CDLL(str(library))

        def function(name: str, result: Any, *types: Any) -> Callable[..., Any]:
            found = getattr(loaded, f"{prefix}{name}")
            found.restype, found.argtypes = result, types
            return found

        self._functions = {
            name: function(name, result, POINTER, *types) for name, (result, types) in prototypes.items()
        }
        self._destroy = function("destroy", None, POINTER)
        self._handle: int | None = function("create", POINTER, *[U32] * len(arguments))(*arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model; what it has lent is invalid afterwards."""
        if self._handle is not None:
            self._destroy(self._handle)
            self._handle = None

    def _call(self, name: str, *arguments: object) -> Any:
        if self._handle is None:
            raise RuntimeError("the model has been closed")
        return self._functions[name](self._handle, *arguments)
