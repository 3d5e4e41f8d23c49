"""Programs that a build runs: found or reported missing, their logs kept and told from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hw.errors import RequestError, ToolError
from hw.yosys import yosys_command

__all__ = ["Progress", "find_tool", "run_tool", "synthesise", "tool_version"]

Progress = Callable[[str], None]

_STAGE = re.compile(r"^\d+(?:\.\d+)?\. Executing (\w+) pass")
_TAIL = 12  # lines of a log in an error message


def find_tool(name: str) -> str:
    """Return the path of a tool of the FPGA flow.

    The environment variable of its name in capitals (``NEXTPNR_ECP5``) comes first, then the program itself, then
    YoWASP's of the same name, beside the interpreter or on the path.

    Raises
    ------
    RequestError
        If it is not installed.
    """
    variable = name.upper().replace("-", "_")
    if named := os.environ.get(variable):
        if found := shutil.which(named):
            return found
        raise RequestError(f"{variable}={named} is no program")
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    for candidate in (name, f"yowasp-{name}"):
        if found := shutil.which(candidate, path=places):
            return found
    raise RequestError(
        f"{name} is not installed: pip install 'rowcast[boards]' brings yowasp-{name}, or set {variable} to a program"
    )


def tool_version(tool: str) -> str:
    """Return what a tool says of its version."""
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[-1] if done.returncode == 0 else "unknown"


def run_tool(command: Sequence[str], folder: Path, log: str, tell: Callable[[str], None], *, name: str) -> None:
    """Run a program in a folder, its output in a log there, each line told.

    Raises
    ------
    ToolError
        If its exit status is not 0; the message holds the log's errors, or its end.
    """
    lines: list[str] = []
    with (folder / log).open("w") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                out.write(line)
                lines.append(line.rstrip())
                tell(line.rstrip())
        except BaseException:
            process.kill()
            raise
        finally:
            status = process.wait()
    if status:
        wrong = [line for line in lines if line.startswith("ERROR")] or lines[-_TAIL:]
        raise ToolError(f"{name} ended with status {status} (log: {folder / log}):\n" + "\n".join(wrong[:_TAIL]))


def synthesise(commands: Sequence[str], folder: Path, log: str, progress: Progress) -> None:
    """Run Yosys' commands in a process of its own; the passes that take long are told.

    Raises
    ------
    ToolError
        If Yosys refuses.
    """
    told = ""

    def tell(line: str) -> None:
        nonlocal told
        if (match := _STAGE.match(line)) and match[1] != told and match[1] in _TOLD:
            told = match[1]
            progress(f"Yosys: {_TOLD[told]}")

    run_tool(yosys_command(commands), folder, log, tell, name="Yosys")


_TOLD = {
    "VERILOG": "reading",
    "PROC": "processes",
    "FLATTEN": "flattening",
    "MEMORY_LIBMAP": "memories",
    "TECHMAP": "mapping",
    "ABC": "logic",
    "ABC9": "logic with delays",
    "STAT": "counting",
}
