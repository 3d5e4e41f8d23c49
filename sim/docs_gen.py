"""Reference of all commands, from the parsers that read their arguments.

``python -m sim.docs_gen`` writes ``docs/commands.md``.  A test compares the file with the parsers: none can drift.
What follows from the specification alone is written by :mod:`hw.docs_gen`.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import itertools
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from unittest import mock

from hw.spec.program import write_atomic

__all__ = ["commands", "commands_markdown", "main", "parser_of", "scripts", "sessions"]

ROOT = Path(__file__).parents[1]

_PARTS = {
    "hw": "The accelerator: Verilog, synthesis, proofs, boards",
    "sw": "Networks, compiler, model, search, the host of a board",
    "sim": "Simulation, measurements, documents",
    "bench": "Benchmarks",
}


class _FoundParserError(Exception):
    """A parser that was about to read arguments."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser
        super().__init__(parser.prog)


def commands() -> list[str]:
    """Return every module that can be run with ``python -m``, by name."""
    return [module for part in _PARTS for module in _commands_of(part) if part != "bench"]


def scripts() -> list[str]:
    """Return every script of the benchmarks that reads arguments, e.g. ``bench/area.py``."""
    return [f"{module.replace('.', '/')}.py" for module in _commands_of("bench")]


def _commands_of(part: str) -> list[str]:
    found = []
    for path in sorted((ROOT / part).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.name == "__main__.py":
            found.append(module.removesuffix(".__main__"))
        elif re.search(r"^import argparse.*^if __name__ == .__main__.:", path.read_text(), re.M | re.S):
            found.append(module)
    return found


def parser_of(module: str) -> argparse.ArgumentParser:
    """Return the parser that a command or script reads its arguments with: the one its ``main`` makes.

    Raises
    ------
    ValueError
        If the command reads no arguments.
    """

    def found(self: argparse.ArgumentParser, *arguments: object, **named: object) -> None:
        raise _FoundParserError(self)

    name = module.removesuffix(".py").replace("/", ".")
    package = (ROOT / name.replace(".", "/")).is_dir()
    with mock.patch.object(sys, "path", [str(ROOT), *sys.path]):  # the benchmarks are not installed
        command = importlib.import_module(f"{name}.__main__" if package else name)
    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", found):
        try:
            command.main(*([[]] if inspect.signature(command.main).parameters else []))
        except _FoundParserError as error:
            if name != module:
                error.parser.prog = f"python {module}"
            return error.parser
    raise ValueError(f"{module}: main read no arguments")


def _code(text: str) -> str:
    """Return plain text as Markdown: options, commands and names as code, and nothing taken for markup."""
    parts = re.split(r"(`[^`]*`|(?<![\w-])--[a-z][\w-]*)", " ".join(text.replace("``", "`").split()))
    escaped = [re.sub(r"([*_<|\[\]])", r"\\\1", part) for part in parts[::2]]
    code = [f"`{part.strip('`')}`" for part in parts[1::2]]
    return "".join(piece for pair in itertools.zip_longest(escaped, code, fillvalue="") for piece in pair)


def _values(action: argparse.Action) -> str:
    """Return how an argument's values are written."""
    if action.nargs == 0:
        return ""
    name = str(action.metavar or action.dest.upper())
    if action.choices is not None and action.metavar is None:
        name = "{" + ",".join(map(str, action.choices)) + "}"
    return {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} [{name} ...]"}.get(str(action.nargs), name)


def _spelling(action: argparse.Action) -> str:
    shown = f"{', '.join(action.option_strings)} {_values(action)}".strip()
    return f"`{shown}`".replace("|", "\\|")


def _meaning(action: argparse.Action) -> str:
    values = {**vars(action), "prog": ""}
    text = (action.help or "") % values
    default = action.default
    if "default" not in text and default not in (None, False, True, argparse.SUPPRESS) and action.option_strings:
        text += f" (default: {default})"
    needed = " **required**" if action.required and action.option_strings else ""
    return _code(text.replace(f"{ROOT}{os.sep}", "")) + needed  # wherever the project lies


def _arguments(parser: argparse.ArgumentParser) -> Iterable[str]:
    """Yield a table for each group of a parser's arguments that has any."""
    for group in parser._action_groups:
        kinds = (argparse._HelpAction, argparse._SubParsersAction)
        actions = [
            action
            for action in group._group_actions
            if not isinstance(action, kinds) and action.help != argparse.SUPPRESS
        ]
        if actions:
            title = group.title or ""
            if title not in ("options", "positional arguments"):
                yield f"{_code(title[:1].upper() + title[1:])}:\n"
            rows = "".join(f"| {_spelling(action)} | {_meaning(action)} |\n" for action in actions)
            yield f"| argument | meaning |\n| --- | --- |\n{rows}"


def _stages(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {
        name: stage
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, stage in action.choices.items()
    }


def _usage(parser: argparse.ArgumentParser) -> str:
    places = [_values(action) for action in parser._actions if not action.option_strings]
    needed = [_spelling(action).strip("`") for action in parser._actions if action.option_strings and action.required]
    return " ".join([parser.prog, *needed, "[options]", *places])


def _section(parser: argparse.ArgumentParser, level: str) -> Iterable[str]:
    yield f"{level} {parser.prog}\n"
    if parser.description:
        yield _code(parser.description) + "\n"
    stages = _stages(parser)
    if not stages:
        yield f"```text\n{_usage(parser)}\n```\n"
    yield from _arguments(parser)
    if parser.epilog:
        laid_out = "\n" in parser.epilog.strip()
        yield f"```text\n{inspect.cleandoc(parser.epilog)}\n```\n" if laid_out else f"{_code(parser.epilog)}\n"
    for stage in stages.values():
        yield from _section(stage, f"{level}#")


def sessions() -> dict[str, str]:
    """Return name and description of the sessions of nox, from ``noxfile.py`` itself."""
    found = {}
    for node in ast.parse((ROOT / "noxfile.py").read_text()).body:
        for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            words = {word.arg: word.value for word in getattr(decorator, "keywords", ())}
            if ast.unparse(decorator).startswith("nox.session"):
                name = ast.literal_eval(words["name"]) if "name" in words else node.name
                found[name] = (ast.get_docstring(node) or "").splitlines()[0]
    return found


def commands_markdown() -> str:
    """Return the reference of all commands, and of the sessions of nox."""
    parts = [
        "# Commands\n",
        "<!-- Generated from the commands' parsers by `python -m sim.docs_gen`; edit those. -->\n",
        "What each reads from its command line; `--help` says the same.\n",
    ]
    for part, title in _PARTS.items():
        parts.append(f"## {title}\n")
        for command in scripts() if part == "bench" else _commands_of(part):
            parts += _section(parser_of(command), "###")
    parts += [
        "## Sessions of nox\n",
        "`nox -s NAME -- ARGUMENTS`; `nox -l` lists them too.\n",
        "| session | what it does |\n| --- | --- |\n"
        + "".join(f"| `{name}` | {_code(text)} |\n" for name, text in sessions().items()),
    ]
    return "\n".join(parts)


def documents() -> dict[str, str]:
    """Return file name to text of the documents under ``docs/``."""
    return {"commands.md": commands_markdown()}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the documents; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sim.docs_gen", description="Write docs/commands.md.")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder to write to (default: docs)")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        write_atomic(args.out / name, text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
