"""docs/isa.md says what instructions do as Python: run on random programs, its blocks leave the ISS's bytes in DRAM."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import CodeType

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import ENUM_FIELDS, Activation, Instruction, Mode, Opcode, ResidualOp, Target
from hw.spec.program import PARAM_DTYPE, Program
from sim.backend import Int8Array
from sim.iss import IssBackend
from sim.random_programs import random_inputs, random_program
from sim.random_runs import random_run
from sw.regions import build_regions

PAGE = Path(__file__).parents[2] / "docs" / "isa.md"
SMALL = AcceleratorConfig(rows=3, cols=5, act_kib=16, act_banks=2, weight_kib=4, max_kernel=5, axi_data_width=64)


def page_code() -> dict[str, CodeType]:
    """Return the compiled Python block of every section that has one."""
    sections = re.split(r"^## (\w+)\n", PAGE.read_text(), flags=re.MULTILINE)[1:]
    code = {}
    for name, text in zip(sections[::2], sections[1::2], strict=True):
        blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        assert len(blocks) <= 1, name
        if blocks:
            code[name] = compile(blocks[0], f"{PAGE.name} {name}", "exec")
    return code


def run_page(config: AcceleratorConfig, program: Program, inputs: dict[str, Int8Array]) -> list[bytes]:
    """Run a program in its order by the page's blocks, and return the DRAM regions."""
    code = page_code()
    assert code.keys() == {"LOAD", "EXEC", "STORE", "Arithmetic"}
    regions = build_regions(program, inputs)
    memories = {
        Target.ACT: np.zeros(config.act_bytes, np.uint8),
        Target.WEIGHT: np.zeros(config.weight_bytes, np.uint8),
        Target.PARAM: np.zeros(config.param_bytes, np.uint8),
    }
    for instruction in program.instructions():
        names = {item.name: int(item) for kind in ENUM_FIELDS.values() for item in kind} | {"rows": config.rows}
        names |= {field.name: instruction[field.name] for field in instruction.table.fields}
        exec(code["Arithmetic"], names)
        match instruction.opcode:
            case Opcode.LOAD:
                names["target"] = memories[Target(instruction["target"])]
                names["region"] = regions[instruction["region"]]
            case Opcode.STORE:
                names["ACT"], names["region"] = memories[Target.ACT], regions[instruction["region"]]
            case Opcode.EXEC:
                names |= exec_memories(config, memories)
        if instruction.opcode.name in code:
            exec(code[instruction.opcode.name], names)
        if instruction.opcode == Opcode.EXEC:
            memories[Target.ACT].view(np.int8)[:] = names["ACT"]
    return [region.tobytes() for region in regions]


def exec_memories(config: AcceleratorConfig, memories: dict[Target, np.ndarray]) -> dict[str, list]:
    """Return the on-chip memories as lists of Python's integers, which do not overflow."""
    entries = memories[Target.PARAM].view(PARAM_DTYPE)
    return {
        "ACT": memories[Target.ACT].view(np.int8).tolist(),
        "WEIGHT": memories[Target.WEIGHT].view(np.int8).reshape(-1, config.weight_word_bytes).tolist(),
        "PARAM": [entry[:3] for entry in entries[["bias", "mult", "shift"]].tolist()],
    }


def cases(instruction: Instruction) -> list[str]:
    """Return what an EXEC exercises."""
    found = [Mode(instruction["mode"]).name, f"res {ResidualOp(instruction['res']).name}"]
    found += [Activation(instruction["act"]).name]
    names = ("depthwise", "gap", "fold", "seg", "seg_gap", "seg_missing")
    return found + [name for name in names if instruction[name]] + ["stride"] * (instruction["sx"] > 1)


def test_the_page_computes_what_the_simulator_does() -> None:
    seen: Counter[str] = Counter()
    for seed in range(6):
        config = SMALL if seed % 2 else PRESETS["tiny"]
        for program in (
            random_program(config, seed, execs=8, cycles=1500),
            random_run(config, seed, execs=24, cycles=6000),
        ):
            inputs = random_inputs(program, seed)
            wanted = IssBackend(config).run(program, inputs).regions
            assert run_page(config, program, inputs) == wanted, f"seed {seed}"
            for instruction in program.instructions():
                seen[instruction.opcode.name] += 1
                seen.update(cases(instruction) if instruction.opcode == Opcode.EXEC else [])
    wanted = {"LOAD", "STORE", "depthwise", "gap", "fold", "seg", "seg_gap", "seg_missing", "stride", "HSWISH"}
    wanted |= {mode.name for mode in Mode} | {f"res {res.name}" for res in ResidualOp}
    assert {name for name in wanted if seen[name] < 3} == set()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("kw - 1 - kx", "kx"),
        ("[n - 1 - i]", "[i]"),
        ("x + y // in_h * seg\n", "x - y // in_h * seg\n"),
        ("seg - seg_gap", "seg"),
        ("half - 1 + odd", "half"),
        ("not gap or res == POOL", "not gap"),
        ("w + act_offset", "w"),
    ],
)
def test_a_wrong_page_is_found(right: str, wrong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = PAGE.read_text()
    assert right in text
    (tmp_path / "isa.md").write_text(text.replace(right, wrong))
    monkeypatch.setitem(globals(), "PAGE", tmp_path / "isa.md")
    for seed in range(20):
        program = random_run(SMALL, seed, execs=24, cycles=4000)
        if run_page(SMALL, program, {}) != IssBackend(SMALL).run(program, {}).regions:
            return
    raise AssertionError(f"{wrong} instead of {right} makes no difference")
