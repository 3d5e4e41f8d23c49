"""What identifies a measurement: not the weights, but everything that decides cycles."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw.spec.config import preset
from hw.spec.isa import Instruction, Opcode, assemble
from hw.spec.program import Program
from sw.compiler import compile_graph
from sw.random_inputs import random_inputs
from sw.rtl_identity import NUMBERS, hardware_key, schedule_key
from sw.sources import ROOT, imported_sources
from tests.sw.ir_graphs import block_net


def changed(program: Program, **values: int) -> Program:
    """Return a program of as many instructions, with values in its first EXEC changed."""
    stream = program.instructions()
    index = next(i for i, item in enumerate(stream) if item.opcode == Opcode.EXEC)
    stream[index] = Instruction(Opcode.EXEC, stream[index].values | values)
    code = assemble(stream)
    return replace(program, image=code + program.image[len(code) :])


def test_schedule() -> None:
    program = compile_graph(block_net(0)[1], preset("tiny"))
    key = schedule_key(program)
    other_weights = replace(program, image=program.image[:-1] + bytes([program.image[-1] ^ 1]))
    assert schedule_key(other_weights) == key
    assert schedule_key(changed(program, **dict.fromkeys(NUMBERS, 1))) == key
    assert schedule_key(changed(program, in_base=program.instructions()[-2]["in_base"] + 8)) != key
    assert schedule_key(compile_graph(block_net(0)[1], preset("edge8"))) != key


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project's hardware and test bench."""
    root = tmp_path_factory.mktemp("project")
    for folder in ("hw", "sim"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        *((f"hw/{name}.py", True) for name in ("pe", "accelerator", "axi", "ram", "emit", "stos_sequencer")),
        *((f"hw/spec/{name}.py", True) for name in ("config", "isa")),
        *((f"sim/verilator/{name}", True) for name in ("model.py", "harness/harness.cpp", "harness/axi_memory.h")),
        *((f"hw/{name}.py", False) for name in ("gates", "build", "equivalence", "constraints", "docs_gen")),
        *((name, False) for name in ("hw/report/tables.py", "hw/formal/verify.py", "hw/soc/soc.py", "hw/spec/link.py")),
        *((name, False) for name in ("sim/netlist.py", "sim/board/harness/harness.cpp")),
    ],
)
def test_hardware_is_the_design_and_its_bench(project: Path, file: str, counts: bool) -> None:
    path = project / file
    text = path.read_text()
    path.write_text(f"{text}\n")
    try:
        assert (hardware_key.__wrapped__(project) != hardware_key()) == counts
    finally:
        path.write_text(text)


def test_reading_imports_finds_what_elaboration_loads() -> None:
    program = """
import sys
from hw.accelerator import Accelerator
from hw.emit import emit
from hw.spec.config import preset
emit(Accelerator(preset("tiny")))
print(*(path for name, module in sys.modules.items() if name.split(".")[0] == "hw" and (path := module.__file__)))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    assert imported_sources(["hw.accelerator", "hw.emit"]) == {Path(path) for path in done.stdout.split()}


def test_imports_are_followed_through_packages_and_functions(tmp_path: Path) -> None:
    sources = {
        "a/__init__.py": "",
        "a/top.py": "import json\nfrom a import left\ndef f():\n    import a.sub.deep",
        "a/left.py": "from a.sub import name",
        "a/sub/__init__.py": "from a.right import x",
        "a/sub/deep.py": "",
        "a/right.py": "x = 1",
        "a/tool.py": "import a.top",
    }
    for name, source in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    found = imported_sources(["a.top"], tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in found} == set(sources) - {"a/tool.py"}
    with pytest.raises(FileNotFoundError, match="no module a.other"):
        imported_sources(["a.other"], tmp_path)


def test_random_inputs_are_the_same_every_time() -> None:
    program = compile_graph(block_net(0)[1], preset("tiny"))
    once, again = random_inputs(program), random_inputs(program)
    assert set(once) == {spec.name for spec in program.inputs}
    assert all(np.array_equal(once[name], again[name]) and once[name].dtype == np.int8 for name in once)
