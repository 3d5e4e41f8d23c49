from __future__ import annotations

import pytest

from hw.yosys import YosysError, run_yosys


def test_the_log_comes_back() -> None:
    assert "hello 42" in run_yosys(["log hello 42"])


def test_a_failing_command_is_an_error_with_its_message() -> None:
    with pytest.raises(YosysError, match="No such command: frobnicate") as caught:
        run_yosys(["log before", "frobnicate", "log after"])
    assert "before" in caught.value.log
    assert "after" not in caught.value.log
