"""Errors that end a command become one line and a status; errors of the program stay what they are."""

from __future__ import annotations

import pytest

from hw.emit import EmitError
from hw.errors import RequestError, ToolError, exit_status
from hw.spec.config import ConfigError
from hw.yosys import YosysError


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("rows=0"), 2, "tool: invalid configuration: rows=0"),
        (RequestError("no such board"), 2, "tool: no such board"),
        (FileNotFoundError(2, "No such file", "a.v"), 2, "tool: cannot read or write a.v: No such file"),
        (OSError("disk full"), 2, "tool: cannot read or write a temporary file: disk full"),
        (ToolError("nextpnr ended"), 1, "tool: nextpnr ended"),
        (EmitError("Yosys refused"), 1, "tool: Yosys refused"),
        (YosysError("syntax", "log"), 1, "tool: syntax"),
        (KeyboardInterrupt(), 130, "tool: interrupted; stages are kept"),
    ],
)
def test_statuses(error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        raise error

    assert exit_status("tool", run, kept="stages are kept") == status
    assert capsys.readouterr() == ("", f"{line}\n")


def test_a_command_that_ends_has_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert (exit_status("tool", lambda: 0), exit_status("tool", lambda: 3)) == (0, 3)
    assert capsys.readouterr() == ("", "")


def test_mistakes_of_the_program_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_status("tool", lambda: 1 // 0)
    with pytest.raises(ValueError, match="invalid literal"):
        exit_status("tool", lambda: int("x"))
