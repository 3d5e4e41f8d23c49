"""Property-directed reachability: the ABC that comes with Yosys proves what induction does not."""

from __future__ import annotations

import importlib.util
import subprocess
import tempfile
from pathlib import Path

from hw.errors import RequestError, ToolError

__all__ = ["abc_program", "proved"]


def abc_program() -> Path:
    """Return the ABC program of the pyosys package.

    Raises
    ------
    RequestError
        If the package has none.
    """
    spec = importlib.util.find_spec("pyosys")
    folder = Path(spec.origin).parent if spec and spec.origin else Path("pyosys")
    program = folder / "yosys-abc"
    if not program.exists():
        raise RequestError(f"no ABC at {program}: install pyosys from its wheel, or run with --no-pdr")
    return program


def proved(aiger: bytes, seconds: int) -> bool:
    """Return whether PDR proves all assertions of an AIGER file within so many seconds."""
    with tempfile.TemporaryDirectory(prefix="rowcast-formal-") as folder:
        Path(folder, "design.aig").write_bytes(aiger)
        # Merging equal registers helps large systems; small ones it solves, about which PDR then says nothing.
        for merge, limit in (("", max(1, seconds // 4)), ("scorr; ", seconds)):
            script = f"read_aiger design.aig; fold; strash; {merge}pdr -T {limit}"
            command = [str(abc_program()), "-c", script]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode or "has failed" in done.stdout:
                raise ToolError(f"ABC failed: {(done.stderr or done.stdout)[-500:].strip()}")
            if "Property proved." in done.stdout:
                return True
            if "was asserted in frame" in done.stdout:
                return False
        return False
