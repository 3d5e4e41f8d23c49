"""Counterexamples as VCD."""

from __future__ import annotations

import io
from pathlib import Path

from vcd import VCDWriter

from hw.formal.solver import Trace
from hw.spec.program import write_atomic

__all__ = ["write_vcd"]

CYCLE = 10
"""Nanoseconds of a cycle; the clock rises at its beginning."""


def write_vcd(trace: Trace, path: Path) -> None:
    """Write a trace; the path's folder is made if need be.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    text = io.StringIO()
    with VCDWriter(text, timescale="1 ns", comment="Counterexample of hw.formal", date="") as writer:
        clock = writer.register_var("harness", "clk", "wire", size=1, init=0)
        variables = {}
        for name, width in trace.widths.items():
            *scope, leaf = name.replace("[", ".").replace("]", "").split(".")
            variables[name] = writer.register_var(("harness", *scope), leaf, "wire", size=width, init=0)
        for cycle, values in enumerate(trace.values):
            writer.change(clock, cycle * CYCLE, 1)
            for name, value in values.items():
                writer.change(variables[name], cycle * CYCLE, value)
            writer.change(clock, cycle * CYCLE + CYCLE // 2, 0)
        writer.close(len(trace.values) * CYCLE)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue().encode())
