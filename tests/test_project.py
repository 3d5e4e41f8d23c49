"""The project's own files: installable, documented, free of deprecated names and of the author's machine."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

from sim.docs_gen import parser_of

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = sorted(path for top in ("hw", "sw", "sim", "tests", "bench") for path in (ROOT / top).rglob("*.py"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "bench",
    "docs",
    "hw",
    "noxfile.py",
    "pyproject.toml",
    "sim",
    "sw",
    "tests",
}
"""All that the repository's root holds."""

PROVIDES = {
    "scikit-learn": ["sklearn"],
    "pillow": ["PIL"],
    "pyserial": ["serial"],
    "cocotb": ["cocotb", "cocotb_tools"],
    "cocotbext-axi": ["cocotbext"],
    "pyvcd": ["vcd"],
    "markdown-it-py": ["markdown_it"],
}
"""Import names of distributions that do not import under their own name."""


def declared() -> dict[str, str]:
    """Return import name to requirement of every declared dependency."""
    project = PYPROJECT["project"]
    requirements = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    names: dict[str, str] = {}
    for requirement in requirements:
        name = re.split(r"[\[<>=!~ ]", requirement)[0]
        names |= dict.fromkeys(PROVIDES.get(name, [name.replace("-", "_")]), requirement)
    return names


def third_party(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    tops = {name.partition(".")[0] for name in names}
    return (
        tops
        - set(sys.stdlib_module_names)
        - {"hw", "sw", "sim", "tests", "bench"}
        - {file.stem for file in path.parent.glob("*.py")}
    )


def test_imports_are_declared() -> None:
    known = set(declared())
    unknown = {str(path.relative_to(ROOT)): extra for path in SOURCES if (extra := third_party(path) - known)}
    assert unknown == {}


def test_extras_cover_everything() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(re.fullmatch(r"rowcast\[(.*)\]", everything)[1].split(","))
    assert named == set(extras) - {"all", "dev", "docs", "pretrained", "peers"}  # these come only by name


def test_torch_is_pinned() -> None:
    assert declared()["torch"] == "torch==2.13.0"


def test_packages_are_typed_and_found() -> None:
    for package in ("hw", "sw", "sim"):
        assert (ROOT / package / "py.typed").exists()


def deprecated(source: str) -> list[str]:
    """Return uses of what ruff's banned APIs cannot see: keywords, methods, empty cases."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr == "add_sync_process":
            found.append(f"line {node.lineno}: add_sync_process: use add_testbench")
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("Signal", "Const", "am.Signal") and any(word.arg == "reset" for word in node.keywords):
                found.append(f"line {node.lineno}: reset=: use init=")
            if called == "m.Case" and not node.args:
                found.append(f"line {node.lineno}: empty Case: use m.Default()")
    return found


def test_no_deprecated_amaranth() -> None:
    assert {str(path): uses for path in SOURCES if (uses := deprecated(path.read_text()))} == {}


@pytest.mark.parametrize("source", ["sim.add_sync_process(f)", "Signal(8, reset=1)", "with m.Case(): pass"])
def test_deprecated_amaranth_is_found(source: str) -> None:
    assert len(deprecated(source)) == 1


def text_files() -> list[Path]:
    suffixes = {".py", ".md", ".toml", ".v", ".vlt", ".h", ".cpp", ".json", ".f"}
    tops = [path for path in ROOT.iterdir() if path.is_file() and (path.suffix in suffixes or path.name == "Makefile")]
    folders = ("hw", "sw", "sim", "tests", "docs", "bench", ".ci")
    inside = [
        path for top in folders for path in (ROOT / top).rglob("*") if path.suffix in suffixes or path.name == "run"
    ]
    return sorted([*tops, *inside])


def test_no_absolute_home_paths() -> None:
    pattern = re.compile(r"(?<![\w.])/(?:" + "home|root|work|Users" + r")/\w")
    offenders = [str(path.relative_to(ROOT)) for path in text_files() if pattern.search(path.read_text())]
    assert len(text_files()) > 50
    assert offenders == []


def test_files_are_short() -> None:
    """One file, one idea."""
    sources = [path for path in SOURCES if not path.is_relative_to(ROOT / "tests")]
    long = {str(path.relative_to(ROOT)): n for path in sources if (n := len(path.read_text().splitlines())) > 450}
    assert long == {}


def top_of(root: Path) -> set[str]:
    """Return what git tracks in a folder, top level only; of a copy outside git, all that .gitignore does not name."""
    try:
        command = ["git", "ls-files", "-z"]
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        listed = ""
    if listed:
        return {name.partition("/")[0] for name in listed.split("\0") if name}
    patterns = [".git", *(root / ".gitignore").read_text().split()]

    def ignored(path: Path) -> bool:
        return any(fnmatch(path.name, p.rstrip("/")) and (path.is_dir() or p[-1] != "/") for p in patterns)

    return {path.name for path in root.iterdir() if not ignored(path)}


def test_the_root_holds_only_what_belongs_there() -> None:
    assert top_of(ROOT) == TOP


@pytest.mark.parametrize("git", [True, False])
def test_stray_files_in_the_root_are_found(git: bool, tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("build/\n*.vcd\n")
    for name in ("hw/a.py", "notes.txt", "build/x.o", "a.vcd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    if git and shutil.which("git"):  # without it, both cases are the second
        for command in ("init -q", "add ."):
            subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    assert top_of(tmp_path) == {".gitignore", "hw", "notes.txt"}


def stages_of(module: str, rest: str) -> list[str]:
    """Return the stage that a command names, of a tool that has stages."""
    return rest.split()[:1] if module == "sw.search" else []


@cache
def options_of(module: str, *stage: str) -> set[str]:
    """Return the long options of a tool, or of one of its stages."""
    parser = parser_of(module)
    for name in stage:
        (stages,) = (action.choices for action in parser._actions if isinstance(action.choices, dict))
        parser = stages[name]
    return {option for action in parser._actions for option in action.option_strings if option.startswith("--")}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_only_what_exists(path: Path) -> None:
    text = path.read_text()
    for module, rest in re.findall(r"python -m (?!pytest\b)(\w+(?:\.\w+)*)([^\n`#]*)", text):
        source = ROOT / module.replace(".", "/")
        assert source.with_suffix(".py").exists() or source.is_dir(), module
        if "--" in rest:
            known = options_of(module, *stages_of(module, rest))
            assert set(re.findall(r"--[a-z][\w-]*", rest)) <= known, (module, rest)
    for file in re.findall(r"(?<!New file )`((?:hw|sw|sim|tests|docs|bench)/[\w/.]+)`", text):
        assert (ROOT / file).exists(), file
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in link or (path.parent / link).exists(), link
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_changelog_names_the_version() -> None:
    assert f"## [{PYPROJECT['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_make_names_missing_programs(tmp_path: Path) -> None:
    """Without a compiler, one line says what to install."""
    for name in ("python3", "make", "sh"):
        found = subprocess.run(["sh", "-c", f"command -v {name}"], capture_output=True, text=True, check=True)
        (tmp_path / name).symlink_to(found.stdout.strip())
    done = subprocess.run(
        [str(tmp_path / "make"), "venv", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert (
        "rowcast: not found: g++ perl. Install with your package manager, e.g. apt-get install g++ perl" in done.stderr
    )
