"""The imports hold the architecture: hw/spec below everything, hw and sw apart, sim on top, no cycles."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = ("hw", "sw", "sim")
TORCH_HOMES = ("sw.nn", "sw.quant", "sw.frontends", "sw.train", "sw.nos", "sw.search")
TORCH_FREE = (
    *("hw", "sw.compiler", "sw.inputs", "sw.preprocessing", "sw.regions", "sw.run_report", "sw.runtime"),
    *("sim.board", "sim.cocotb", "sim.iss", "sim.verilator"),
)
"""Packages that must stay importable without torch, through whatever they import."""


@dataclass(frozen=True)
class Import:
    """One import: what, from which module and line, and whether it runs when the module is loaded."""

    module: str
    target: str
    line: int
    eager: bool


def under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(root: Path) -> dict[str, Path]:
    return {module_name(path, root): path for top in PROJECT for path in sorted((root / top).rglob("*.py"))}


def visit(node: ast.AST, eager: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield the import statements below a node, those for type checkers only left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, eager
        else:
            yield from visit(
                child, eager and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            )


def imports(root: Path) -> list[Import]:
    known = modules(root)
    found = []
    for module, path in known.items():
        for node, eager in visit(ast.parse(path.read_text()), True):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            else:
                assert node.level == 0, f"{path}:{node.lineno}: relative import"
                base = node.module or ""
                targets = [sub if (sub := f"{base}.{alias.name}") in known else base for alias in node.names]
            found += [Import(module, target, node.lineno, eager) for target in dict.fromkeys(targets)]
    return found


def violation(item: Import) -> str | None:
    """Return why an import is against the rules, or None."""
    module, target = item.module, item.target
    if under(target, "torch", "torchao", "torchvision") and not under(module, *TORCH_HOMES):
        return "torch belongs to sw.nn, sw.quant, sw.frontends and training"
    if under(module, "hw.spec"):
        if not (under(target, "hw.spec", "numpy") or target.partition(".")[0] in sys.stdlib_module_names):
            return "hw.spec uses the standard library, numpy and itself only"
    elif under(module, "hw"):
        if under(target, "sw", "sim"):
            return "hw uses nothing of sw or sim"
    elif under(module, "sw"):
        if under(target, "sim", "amaranth", "pyosys"):
            return "sw neither simulates nor elaborates"
        if under(target, "hw") and not under(target, "hw.spec"):
            return "of hw, sw uses hw.spec only"
    return None


def violations(root: Path) -> list[str]:
    return [
        f"{item.module}:{item.line} imports {item.target}: {why}"
        for item in imports(root)
        if (why := violation(item)) is not None
    ]


def graph(root: Path, *, eager_only: bool) -> dict[str, set[str]]:
    """Return module to imported names; the packages around a project module count as imported with it."""
    edges: dict[str, set[str]] = {name: set() for name in modules(root)}
    for item in imports(root):
        if (item.eager or not eager_only) and item.target != item.module:
            edges[item.module].add(item.target)
    return edges


def cycle(root: Path) -> list[str] | None:
    edges = graph(root, eager_only=False)
    try:
        TopologicalSorter({name: targets & set(edges) for name, targets in edges.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def reach(edges: dict[str, set[str]], start: str) -> dict[str, str]:
    """Return everything that loading a module loads, with the module that asks for it."""
    seen, todo = {start: ""}, [start]
    while todo:
        module = todo.pop()
        parents = {module.rpartition(".")[0]} if module in edges else set()
        for target in sorted((edges.get(module, set()) | parents) - {""}):
            if target not in seen:
                seen[target] = module
                todo.append(target)
    return seen


def test_layers() -> None:
    assert len(modules(ROOT)) > 20
    assert violations(ROOT) == []


def test_no_cycles() -> None:
    assert cycle(ROOT) is None


def test_torch_is_not_loaded_below_the_front_end() -> None:
    edges = graph(ROOT, eager_only=True)
    for module in edges:
        if under(module, *TORCH_FREE):
            loaded = reach(edges, module)
            assert not any(under(name, "torch") for name in loaded), f"{module} loads torch through {loaded['torch']}"


def test_specification_and_software_load_without_amaranth() -> None:
    edges = graph(ROOT, eager_only=True)
    for module in edges:
        if under(module, "hw.spec", "sw"):
            assert not any(under(name, "amaranth") for name in reach(edges, module)), module


@pytest.mark.parametrize(
    ("path", "source", "why"),
    [
        ("hw/spec/a.py", "import amaranth", "hw.spec uses"),
        ("hw/spec/a.py", "def f():\n    from hw import shared", "hw.spec uses"),
        ("hw/a.py", "from sim import run", "nothing of sw or sim"),
        ("hw/a.py", "import torch.nn", "torch belongs"),
        ("sw/compiler/a.py", "import torch", "torch belongs"),
        ("sw/compiler/a.py", "from hw import emit", "hw.spec only"),
        ("sw/a.py", "from sim.iss import machine", "neither simulates"),
        ("sim/a.py", "from torch import Tensor", "torch belongs"),
    ],
)
def test_violations_are_found(tmp_path: Path, path: str, source: str, why: str) -> None:
    for name in ("hw/shared.py", "hw/emit.py", "hw/spec/isa.py", "sim/iss/machine.py", path):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source if name == path else "import json\n")
    assert [why in text for text in violations(tmp_path)] == [True]


def test_cycles_and_hidden_torch_are_found(tmp_path: Path) -> None:
    sources = {
        "sw/a.py": "def f():\n    import sw.b",
        "sw/b.py": "from sw import a",
        "sw/nn/net.py": "import torch",
        "sw/compiler/c.py": "from sw.nn import net",
    }
    for name, source in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    assert set(cycle(tmp_path) or []) == {"sw.a", "sw.b"}
    assert reach(graph(tmp_path, eager_only=True), "sw.compiler.c")["torch"] == "sw.nn.net"
