"""CONTRIBUTING.md: its worked examples are carried out in a copy of the tree, its table of sessions is nox's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(
    re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", PAGE.partition("## Worked examples\n")[2], re.MULTILINE | re.DOTALL)
)
TESTS = PAGE.partition("## Tests\n")[2].partition("## Style\n")[0]
STEP = re.compile(
    r"New file `(?P<new>[^`]+)`:\n\n```python\n(?P<text>.*?)```|```(?P<kind>\w+)\n(?P<body>.*?)```", re.DOTALL
)


def apply(diff: str, root: Path) -> str:
    """Apply a diff whose hunks are found by their lines, which must stand in the file once; return the file."""
    head, *hunks = re.split(r"^@@\n", diff, flags=re.MULTILINE)
    old, new = re.fullmatch(r"--- a/(\S+)\n\+\+\+ b/(\S+)\n", head).groups()
    assert old == new and hunks
    text = (root / old).read_text(encoding="utf-8")
    for hunk in hunks:
        lines = hunk.splitlines()
        assert {line[:1] for line in lines} <= {" ", "-", "+"}, hunk
        before, after = ("".join(f"{line[1:]}\n" for line in lines if line[0] != other) for other in "+-")
        assert before != after and text.count(before) == 1, (
            f"{old} has these lines {text.count(before)} times:\n{before}"
        )
        text = text.replace(before, after)
    (root / old).write_text(text, encoding="utf-8")
    return old


def run(block: str, root: Path) -> list[str]:
    """Run a console block's commands; return the lines that are shown and not printed, in this order."""
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    missing = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        program, *arguments = shlex.split(command)
        assert program == "python"
        done = subprocess.run([sys.executable, *arguments], cwd=root, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert "deselected" not in done.stdout or " passed" in done.stdout
        printed = iter(done.stdout.splitlines())
        missing += [line for line in shown if line not in printed]  # an iterator: found behind the one before
    return missing


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources, tests and settings."""
    root = tmp_path / "rowcast"
    root.mkdir()
    for name in ("hw", "sw", "sim", "tests", "docs"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def test_the_four_kinds_of_addition_are_shown() -> None:
    assert list(EXAMPLES) == ["A configuration", "A board", "A network", "An operator"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_works_as_it_stands(name: str, tree: Path) -> None:
    ran = 0
    changed = set()
    for step in STEP.finditer(EXAMPLES[name]):
        if step["new"]:
            path = tree / step["new"]
            assert not path.exists(), f"{step['new']} is in the project already"
            path.write_text(step["text"], encoding="utf-8")
            changed.add(step["new"])
        elif step["kind"] == "diff":
            changed.add(apply(step["body"], tree))
        else:
            assert step["kind"] == "console"
            assert run(step["body"], tree) == []
            ran += 1
    assert ran and changed
    for check in (["check"], ["format", "--check"]):
        style = [sys.executable, "-m", "ruff", *check, "--no-cache", *sorted(changed)]
        checked = subprocess.run(style, cwd=tree, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout


def test_a_diff_that_does_not_fit_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = 2\ny = 2\n")
    head = "--- a/a.py\n+++ b/a.py\n@@\n"
    for hunk in (" x = 3\n+z = 4\n", " y = 2\n+z = 4\n"):
        with pytest.raises(AssertionError, match="has these lines [02] times"):
            apply(head + hunk, tmp_path)
    apply(f"{head}-x = 1\n+x = 3\n y = 2\n", tmp_path)
    assert (tmp_path / "a.py").read_text() == "x = 3\ny = 2\ny = 2\n"


def test_output_that_is_not_printed_is_noticed(tmp_path: Path) -> None:
    block = "$ python -c \"print('one'); print('two')\"\none\n"
    assert run(block, tmp_path) == []
    assert run(f"{block}three\n", tmp_path) == ["three"]
    with pytest.raises(AssertionError, match="no_such_module"):
        run("$ python -m no_such_module\n", tmp_path)


def test_all_sessions_of_nox_are_listed_with_what_they_do() -> None:
    listed = dict(re.findall(r"^\| `([\w-]+)` \| (.*?) \|", TESTS, re.MULTILINE))
    source = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    session = r'^@nox\.session(?:\(name="([\w-]+)".*\))?\ndef (\w+).*\n    """(.*?)"""'
    found = {
        name or function: re.sub(r" \(arguments.*\)", "", text).rstrip(".")
        for name, function, text in re.findall(session, source, re.MULTILINE)
    }
    assert listed == found
    default = re.search(r"nox\.options\.sessions = \[(.*)\]", source)[1]
    assert list(listed)[:3] == re.findall(r'"(\w+)"', default)
