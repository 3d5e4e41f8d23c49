"""docs/commands.md is what the commands' parsers say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sim.docs_gen import commands, documents, main, parser_of, scripts, sessions

ROOT = Path(__file__).parents[2]


def test_documents_are_up_to_date(tmp_path: Path) -> None:
    for name, text in documents().items():
        assert (ROOT / "docs" / name).read_text() == text, f"{name} is stale: run python -m sim.docs_gen"
    assert main(["--out", str(tmp_path / "docs")]) == 0
    assert sorted(path.name for path in (tmp_path / "docs").iterdir()) == sorted(documents())


def test_every_parser_of_the_project_is_there() -> None:
    """A module that can be run and makes a parser is a command with its own heading."""
    text = (ROOT / "docs" / "commands.md").read_text()
    assert re.findall(r"^### python -m (\S+)", text, re.MULTILINE) == commands()
    assert re.findall(r"^### python (bench\S+)", text, re.MULTILINE) == scripts()
    assert {"hw.generate", "sw.compile", "sw.train", "sim.run", "sim.board"} <= set(commands())
    assert "bench/area.py" in scripts()


@pytest.mark.parametrize("module", ["hw.generate", "sw.disasm", "sim.run"])
def test_the_parser_is_the_one_that_runs(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env={"COLUMNS": "80"}).stdout
    options = {option for action in parser_of(module)._actions for option in action.option_strings}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", shown)) <= options
    assert all(option in shown for option in options)


def test_sessions_are_those_of_nox() -> None:
    command = [sys.executable, "-m", "nox", "--list"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^[*-] ([\w-]+)", shown, re.MULTILINE)) == sessions().keys()
