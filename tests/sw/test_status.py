from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from sw.status import exit_status


class Failure(RuntimeError):
    pass


def caused() -> ValueError:
    error = ValueError("study.log: no space")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    return error


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (None, 0, ""),
        (KeyboardInterrupt(), 130, "interrupted; all is kept\n"),
        (Failure("the loss is nan"), 1, "error: the loss is nan\n"),
        (ValueError("--lr -1"), 2, "error: --lr -1\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.npz"), 2, "error: a.npz: No such file\n"),
        (OSError(errno.ENOSPC, "No space left", "a.npz"), 1, "error: a.npz: No space left\n"),
        (OSError("something else"), 2, "error: something else\n"),
        (caused(), 1, "error: study.log: no space\n"),
        (subprocess.CalledProcessError(3, ["x"]), 1, "error: a command ended with status 3; all is kept\n"),
    ],
)
def test_errors_are_a_line_and_a_status(
    error: BaseException | None, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        if error is not None:
            raise error

    assert exit_status(work, kept="all is kept", failures=(Failure,)) == status
    assert capsys.readouterr() == ("", message)


def test_errors_of_the_program_itself_are_not_hidden(tmp_path: Path) -> None:
    def work() -> None:
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        exit_status(work, kept="", failures=(Failure,))
