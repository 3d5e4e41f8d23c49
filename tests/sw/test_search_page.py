"""docs/search.md: its commands and defaults are those of the program."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from sw.search.__main__ import parser
from sw.search.study import TABLE_ERROR

PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text()


def test_commands_are_taken() -> None:
    stages = [
        parser().parse_args(shlex.split(command)).stage
        for command in re.findall(r"^    python -m sw\.search (.*)$", PAGE, re.MULTILINE)
    ]
    assert stages == ["train", "table", "search", "export"]


def test_stated_defaults_are_the_programs() -> None:
    options = parser().parse_args(["train", "--data", "d", "--out", "o"])
    assert (options.kernels, options.expansions, options.paths, options.holdout) == ((3, 5, 7), (3, 4, 6), 3, 0.1)
    assert f"within {TABLE_ERROR:.0%} of".replace("%", " %") in PAGE
