"""docs/train.md and docs/nos.md: their commands and defaults are those of the programs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sw.nos.__main__ import parser as nos_parser
from sw.train.__main__ import parser as train_parser

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["train.md", "nos.md"])
def test_commands_are_taken(page):
    text = (DOCS / page).read_text().replace("\\\n", " ")
    commands = re.findall(r"^    python -m sw\.(train|nos) (.*)$", text, re.MULTILINE)
    assert commands
    for program, arguments in commands:
        if arguments == "--help":
            continue
        options = {"train": train_parser, "nos": nos_parser}[program]().parse_args(shlex.split(arguments))
        assert options.network


def test_stated_defaults_are_the_programs():
    page = (DOCS / "nos.md").read_text()
    options = nos_parser().parse_args(["n", "--data", "d", "--out", "o", "--teacher-weights", "w"])
    for text, value in (
        ("p0 = {}", options.fuse_start),
        ("t1 = {}", options.fuse_all),
        ("a = {}", options.teacher_share),
        ("T = {:g}", options.temperature),
    ):
        assert text.format(value) in page
    assert options.start == "teacher"
