"""Examples in the documentation: found by their blocks, marked with what becomes of them, and run.

A comment in front of a block of commands or code says what becomes of it:

* ``<!-- run -->``: the default tests run it;
* ``<!-- run: docs -->``: ``nox -s docs`` runs it;
* ``<!-- tested: tests/sw/test_x.py -->``: that test reads the block off the page;
* ``<!-- not run: REASON -->``: nothing does.  Its commands are still read by their parsers.

The blocks of a page run in their order, in one folder, Python in one namespace.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = ("python", "console", "sh", "bash", "c", "verilog")
"""Languages whose blocks are examples, whatever is in them."""
_COMMAND = re.compile(r"^(\$ )?([A-Z_]+=\S+ )*(python3?|nox|make|pip|torchrun|openFPGALoader|git|\.) ", re.MULTILINE)
_MARK = re.compile(r"<!-- (run|run: docs|tested|not run)(?:: (.+?))? -->", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A block: where it is, its language ("" for an indented one), its text, and its mark with what follows it."""

    page: str
    line: int
    language: str
    text: str
    mark: str | None
    note: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Commands of a block that is no program, one string each, without prompts and comments."""
        if self.language not in ("", "console", "sh", "bash"):
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [command for line in lines if (command := re.sub(r"(^|\s)#.*", "", line).strip())]


def examples(page: Path) -> list[Example]:
    """Return all blocks of a page that hold commands or code."""
    found = []
    tokens = MarkdownIt("commonmark").parse(page.read_text())
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type not in ("fence", "code_block"):
            continue
        language = token.info.strip()
        if language not in CODE and not (language in ("", "text") and _COMMAND.search(token.content)):
            continue
        comment = _MARK.fullmatch(before.content.strip()) if before and before.type == "html_block" else None
        mark, note = (comment[1], comment[2] or "") if comment else (None, "")
        if mark == "run" and note:
            mark, note = f"run: {note}", ""
        found.append(Example(page.name, token.map[0] + 1, language, token.content, mark, " ".join(note.split())))
    return found


def run_page(page: Path, folder: Path, marks: set[str]) -> int:
    """Run the blocks of a page that have one of `marks`; return how many."""
    chosen = [example for example in examples(page) if example.mark in marks]
    names: dict[str, Any] = {"__name__": "__main__"}
    for example in chosen:
        if example.language == "python":
            exec(compile(example.text, str(example), "exec", dont_inherit=True), names)
            continue
        outputs = [_run(command, example, folder) for command in example.commands]
        if example.language == "console":
            _compare(example, outputs)
    return len(chosen)


def _run(command: str, example: Example, folder: Path) -> str:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{example}: {command}\nstatus {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _compare(example: Example, outputs: list[str]) -> None:
    """Compare the lines below each prompt with the command's: all must be there, in this order, as beginnings."""
    parts = re.split(r"^\$ .*\n", example.text, flags=re.MULTILINE)[1:]
    for part, output in zip(parts, outputs, strict=True):
        shown = [" ".join(line.split()) for line in output.splitlines()]
        for line in part.splitlines():
            wanted = " ".join(line.split())
            if wanted != "...":
                places = [place for place, text in enumerate(shown) if text.startswith(wanted)]
                assert places, f"{example}: no line {wanted!r} in\n{output}"
                shown = shown[places[0] + 1 :]
