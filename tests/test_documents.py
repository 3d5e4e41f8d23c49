"""The documentation says what is: examples run, commands and options exist, references are those of the code."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from hw import docs_gen as hardware_documents
from sim import docs_gen as command_documents
from sim.docs_gen import commands, parser_of, sessions
from tests.document_examples import PAGES, ROOT, Example, examples, run_page

GENERATED = {*hardware_documents.documents(), *command_documents.documents()}
MARKS = {"run", "run: docs"} if os.environ.get("ROWCAST_EXAMPLES") == "all" else {"run"}
EXAMPLES = [example for page in PAGES if page.name not in GENERATED for example in examples(page)]
OTHERS = {"--lint-only", "--nproc-per-node", "--no-deps"}
"""Options of Verilator, torchrun and pip."""


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_every_example_is_run_or_says_why_not(example: Example) -> None:
    assert example.mark is not None, (
        f"{example}: put <!-- run -->, <!-- run: docs -->, <!-- tested: tests/... --> or <!-- not run: why --> in front"
    )
    if example.mark == "not run":
        assert len(example.note.split()) >= 3, f"{example}: no reason"
    if example.mark == "tested":
        assert example.page in (ROOT / example.note).read_text(), f"{example.note} does not name {example.page}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(e.mark in MARKS for e in EXAMPLES if e.page == page.name)],
    ids=lambda p: p.name,
)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(page, tmp_path, MARKS)


@cache
def refusal(module: str, arguments: tuple[str, ...]) -> str:
    """Return what a command's parser says against arguments; nothing if it takes them."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            parser_of(module).parse_args(arguments)
        except SystemExit as left:
            return said.getvalue() if left.code else ""
    return ""


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.commands], ids=str)
def test_commands_are_taken_by_their_parsers(example: Example) -> None:
    for command in example.commands:
        words = shlex.split(re.sub(r"^([A-Z_]+=\S+ )*", "", command))
        if words[:2] == ["python", "-m"]:
            assert words[2] in commands(), f"{example}: {words[2]} is no command"
            if "[" not in command:  # not a synopsis
                assert refusal(words[2], tuple(words[3:])) == "", (str(example), command)
        elif words[0] == "python":
            assert refusal(words[1], tuple(words[2:])) == "", (str(example), command)
        elif words[0] == "nox":
            named = words[words.index("-s") + 1 :] if "-s" in words else []
            for name in named[: named.index("--") if "--" in named else None]:
                assert name in sessions(), f"{example}: no session {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_the_text_are_options(page: Path) -> None:
    """Every `--option` that a page mentions belongs to a command that the page names."""
    text = page.read_text()
    named = [module for module in commands() if re.search(rf"(?<![\w.]){re.escape(module)}(?!\w)", text)]
    known = {option for module in named for option in options_of(module)} | OTHERS | {"--help"}
    scripts = re.findall(r"bench/\w+\.py", text) + ["bench/peers.py"] * ("nox -s bench-peers" in text)
    known = known.union(*(options_of(script) for script in scripts))
    for span in re.findall(r"`([^`\n]*--[^`\n]*)`", text):
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", span):
            assert option in known, f"{page.name}: {option}"


@cache
def options_of(module: str) -> set[str]:
    """Return the options of a command and its stages."""
    found, todo = set(), [parser_of(module)]
    while todo:
        for action in todo.pop()._actions:
            found |= set(action.option_strings)
            if isinstance(action.choices, dict):
                todo += action.choices.values()
    return found


@pytest.mark.slow
def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Every page is in the table of contents, every link and reference leads somewhere."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = {path.stem for path in tmp_path.glob("*.html")}
    assert {page.stem for page in PAGES if page.parent.name == "docs"} <= built
    assert (tmp_path / "generated" / "hw.spec.isa.html").stat().st_size > 10_000
    shutil.rmtree(tmp_path)


def test_a_broken_page_is_found(tmp_path: Path) -> None:
    """The checks of examples, run on a page with one mistake of each kind."""
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n    python -m sim.run prog\n\n<!-- run -->\n\n```python\nassert 1 == 2\n```\n\n"
        "<!-- run -->\n\n```console\n$ echo some words\nsome\nother\n```\n"
    )
    unmarked, wrong, output = examples(page)
    assert unmarked.mark is None and unmarked.commands == ["python -m sim.run prog"]
    with pytest.raises(AssertionError):
        run_page(page, tmp_path, {"run"})
    page.write_text(page.read_text().replace("1 == 2", "1 == 1"))
    with pytest.raises(AssertionError, match="no line 'other'"):
        run_page(page, tmp_path, {"run"})
    assert refusal("sim.run", ("prog", "--no-such-option")) and not refusal("sim.run", ("prog",))
    assert (wrong.language, output.language) == ("python", "console")
