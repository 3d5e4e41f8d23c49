"""Compiler from the graph IR to programs; see :func:`compile_graph`."""

from __future__ import annotations

from sw.compiler.driver import compile_graph, optimise
from sw.compiler.errors import CompileError

__all__ = ["CompileError", "compile_graph", "optimise"]
