"""python -m sw.disasm: every instruction with pc, layer and fields."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hw.spec.config import PRESETS
from hw.spec.isa import Activation, Instruction, Mode, Opcode, Queue, ResidualOp, encode
from hw.spec.program import Program
from sim.program_builder import ProgramBuilder
from sw import disasm
from sw.compiler import compile_graph
from tests.sw.ir_graphs import block_net

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_graph(block_net(0)[1], PRESETS["tiny"])


@pytest.fixture
def saved(program: Program, tmp_path: Path) -> Path:
    program.save(tmp_path / "prog")
    return tmp_path / "prog"


def test_text_shows_every_instruction_under_its_layer(
    program: Program, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert disasm.main([str(saved)]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if not line.startswith(";")]
    assert [int(line.split()[0]) for line in shown] == list(range(program.instruction_count))
    for line, instruction in zip(shown, program.instructions(), strict=True):
        assert line.split(maxsplit=1)[1] == str(instruction)
    # loads that come ahead of their layer are shown under its name too
    layer_of = {pc: layer.name for layer in program.layers for pc in layer.instructions}
    heading = ""
    for line in lines[1:-1]:
        heading = line[2:] if line.startswith(";") else heading
        assert line.startswith(";") or heading == layer_of[int(line.split()[0])]
    assert any("mode=stos_ln" in line and "kh=3" in line for line in shown)


def test_names_of_values_and_values_without_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = {"mode": Mode.MAX, "act": Activation.HSWISH, "res": ResidualOp.SCALE}
    builder = ProgramBuilder(PRESETS["tiny"])
    builder.instructions += [
        Instruction(Opcode.EXEC, fields),
        Instruction(Opcode.EXEC, {"mode": 7, "act": 3, "res": 3}),
    ]
    builder.finish().save(tmp_path / "names")
    assert disasm.main([str(tmp_path / "names")]) == 0
    assert [line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:-1]] == [
        ["EXEC", "mode=max", "act=hswish", "res=scale"],
        ["EXEC", "mode=7", "act=3", "res=pool"],
    ]
    assert disasm.main([str(tmp_path / "names"), "--json"]) == 0
    named, unnamed = (item["fields"] for item in json.loads(capsys.readouterr().out)[1:-1])
    assert [named[name] for name in fields] == ["MAX", "HSWISH", "SCALE"]
    assert [unnamed[name] for name in fields] == [7, 3, "POOL"]


def test_json_encodes_back_to_the_program(program: Program, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert disasm.main([str(saved), "--json"]) == 0
    image = b""
    for item in json.loads(capsys.readouterr().out):
        opcode = Opcode[item["opcode"]]
        values = {}
        for name, value in item["fields"].items():
            if name in ("wait", "signal"):
                value = sum(1 << Queue[queue] for queue in value)
            elif name == "config_hash":
                value = int(value, 16)
            elif isinstance(value, str):
                value = next(v for v in disasm.ENUM_FIELDS[name] if v.name == value)
            values[name] = int(value)
        image += encode(Instruction(opcode, values))
    assert image == program.image[: len(image)] and len(image) == 64 * program.instruction_count


def test_one_layer(program: Program, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = program.layers[2]
    assert disasm.main([str(saved), "--layer", layer.name, "--json"]) == 0
    items = json.loads(capsys.readouterr().out)
    assert [item["pc"] for item in items] == list(layer.instructions)
    assert {item["layer"] for item in items} == {layer.name}
    assert disasm.main([str(saved), "--layer", "nothing"]) == 2
    assert "no layer 'nothing'; there are layer0" in capsys.readouterr().err


def test_damaged_programs_are_refused(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert disasm.main([str(tmp_path / "nowhere")]) == 2
    assert "missing" in capsys.readouterr().err
    data = bytearray((saved / "program.bin").read_bytes())
    data[70] ^= 1
    (saved / "program.bin").write_bytes(data)
    assert disasm.main([str(saved)]) == 2
    assert "SHA-256" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error(saved: Path) -> None:
    command = f"{sys.executable} -m sw.disasm {saved} --json | head -c 1"
    shown = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout == "[" and not shown.stderr
