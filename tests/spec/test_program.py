from __future__ import annotations

import errno
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from hw.spec.config import PRESETS
from hw.spec.isa import INSTRUCTION_BYTES, ISA_VERSION, Instruction, Opcode, Region, assemble
from hw.spec.packing import Packing
from hw.spec.program import PARAM_DTYPE, Layer, Program, ProgramError, TensorSpec, write_atomic

CONFIG = PRESETS["tiny"]
SPEC = TensorSpec("x", Region.INPUT, 4, (2, 3, 5), 20, 0.125, -3)


def _header(count: int, **values: int) -> Instruction:
    return Instruction(
        Opcode.HEADER, {"isa_version": ISA_VERSION, "config_hash": CONFIG.hash, "count": count, **values}
    )


@pytest.fixture
def program() -> Program:
    load = Instruction(Opcode.LOAD, {"rows": 1, "row_bytes": 5, "dram_offset": 192})
    image = assemble([_header(3), load, Instruction(Opcode.HALT)]) + bytes(range(64))
    output = replace(SPEC, name="y", region=Region.OUTPUT)
    return Program(
        CONFIG, image, 3, (256, 0, 64, 64), (SPEC,), (output,), (Layer("conv", "gemm", 9, (1,), (2, 3, 5)),), (output,),
        {"classes": ["a", "b"]},
    )  # fmt: skip


def test_round_trip(program: Program, tmp_path: Path) -> None:
    program.save(tmp_path / "deep" / "prog")
    loaded = Program.load(tmp_path / "deep" / "prog")
    assert loaded == program
    assert loaded.macs == 9
    assert [instruction.opcode for instruction in loaded.instructions()] == [Opcode.HEADER, Opcode.LOAD, Opcode.HALT]
    assert sorted(path.name for path in (tmp_path / "deep" / "prog").iterdir()) == ["program.bin", "program.json"]


def test_packed_tensors_come_back(program: Program, tmp_path: Path) -> None:
    packed = replace(SPEC, packing=Packing(3, 5, 6, 2), plane_stride=24)
    assert packed.end == 4 + 24 + 22
    replace(program, inputs=(packed,)).save(tmp_path)
    assert Program.load(tmp_path).inputs == (packed,)


def test_tensor_end() -> None:
    assert SPEC.end == 4 + 20 + 15
    assert PARAM_DTYPE.itemsize == 8


@pytest.mark.parametrize("name", ["program.bin", "program.json"])
def test_missing_file(program: Program, tmp_path: Path, name: str) -> None:
    program.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ProgramError, match=f"{name}: missing"):
        Program.load(tmp_path)


def test_truncated_and_corrupt_image(program: Program, tmp_path: Path) -> None:
    program.save(tmp_path)
    image = (tmp_path / "program.bin").read_bytes()
    (tmp_path / "program.bin").write_bytes(image[:-1])
    with pytest.raises(ProgramError, match=r"255 bytes, 256 expected \(truncated\?\)"):
        Program.load(tmp_path)
    for position in (0, 100, 255):
        (tmp_path / "program.bin").write_bytes(image[:position] + bytes([image[position] ^ 1]) + image[position + 1 :])
        with pytest.raises(ProgramError, match="SHA-256 differs"):
            Program.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 99, f"format 99, ISA {ISA_VERSION}; these tools have format 2"),
        ("isa_version", 1, "compile the network again"),
        ("config_hash", "0" * 16, "is not that of its configuration"),
        ("config", {"rows": 1}, "missing configuration field"),
        ("instruction_count", 99, "99 instructions do not fit"),
        ("instruction_count", 2, "runs from HEADER to LOAD"),
        ("region_sizes", [100, 0, 64, 64], "CONST of 100 bytes is smaller than the image"),
        ("region_sizes", [256, 0, 64], "are not the sizes of 4 regions"),
        ("region_sizes", [256, 0, 38, 64], "takes bytes 4 to 39 of region INPUT, which has 38"),
    ],
)
def test_altered_description(program: Program, tmp_path: Path, key: str, value: object, message: str) -> None:
    program.save(tmp_path)
    path = tmp_path / "program.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ProgramError, match=message):
        Program.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"region": 4}, "there is no region 4"),
        ({"shape": (0, 1, 1)}, "each at least 1"),
        ({"scale": 0.0}, "no int8 scale"),
        ({"scale": float("nan")}, "no int8 scale"),
        ({"zero_point": 128}, "no int8 scale"),
        ({"plane_stride": 14}, "overlap at 14 bytes"),
        ({"packing": Packing(3, 5, 6, 2)}, "overlap at 20 bytes"),
        ({"packing": Packing(3, 4, 6, 2), "plane_stride": 24}, "no packing of shape"),
        ({"offset": -1}, "takes bytes -1"),
        ({"offset": 30}, "takes bytes 30 to 65"),
    ],
)
def test_malformed_tensors(program: Program, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        replace(program, inputs=(replace(SPEC, **changes),)).validate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments": 0}, "segments=0 must be at least 1"),
        ({"image_height": 3.5}, "image_height=3.5 must be an integer"),
        ({"image_width": "5"}, "image_width='5' must be an integer"),
        ({"pitch": 4}, "pitch=4 must be at least image_width=5"),
        ({"lines": 2}, "unexpected keyword argument 'lines'"),
    ],
)
def test_malformed_packings(program: Program, tmp_path: Path, change: dict[str, object], message: str) -> None:
    packed = replace(SPEC, packing=Packing(3, 5, 6, 2), plane_stride=24)
    replace(program, inputs=(packed,)).save(tmp_path)
    path = tmp_path / "program.json"
    description = json.loads(path.read_text())
    description["inputs"][0]["packing"] |= change
    path.write_text(json.dumps(description))
    with pytest.raises(ProgramError, match=message):
        Program.load(tmp_path)


def test_any_damage_to_the_description_is_a_program_error(program: Program, tmp_path: Path) -> None:
    """Every value in program.json exchanged for junk: it loads or is refused, and never crashes."""
    program.save(tmp_path)
    path = tmp_path / "program.json"
    text = path.read_text()
    rng = random.Random(0)
    refused = 0
    for junk in (None, -1, "junk", [], {}, 1e99):
        for key in json.loads(text):
            damaged = json.loads(text)
            target = damaged[key]
            if isinstance(target, list) and target and isinstance(target[0], dict):
                target[0][rng.choice(list(target[0]))] = junk
            else:
                damaged[key] = junk
            path.write_text(json.dumps(damaged))
            try:
                Program.load(tmp_path)
            except ProgramError:
                refused += 1
    assert refused > 50
    for length in range(0, len(text) - 2, 97):
        path.write_text(text[:length])
        with pytest.raises(ProgramError, match="program.json is unreadable"):
            Program.load(tmp_path)


def test_frame(program: Program) -> None:
    program.validate()
    stream = program.image[: 3 * INSTRUCTION_BYTES]
    bad = [
        (assemble([_header(3, config_hash=CONFIG.hash ^ 1)]) + stream[64:], "HEADER names configuration"),
        (assemble([_header(3, isa_version=9)]) + stream[64:], "ISA 9"),
        (stream[64:128] + stream[64:], "runs from LOAD to HALT"),
        (stream[:128] + stream[64:128], "runs from HEADER to LOAD"),
        (stream[:64] + bytes(64) + stream[128:], "instruction 1: unknown opcode 0"),
    ]
    for image, message in bad:
        with pytest.raises(ProgramError, match=message):
            replace(program, image=image + program.image[192:]).validate()
    with pytest.raises(ProgramError, match="layer conv names instructions beyond the 3"):
        replace(program, layers=(replace(program.layers[0], instructions=(3,)),)).validate()


def test_other_configuration_is_refused_with_the_difference(program: Program) -> None:
    program.check(CONFIG)
    with pytest.raises(ProgramError, match=r"they differ in rows: 4 / 8, stos: True / False \(program / accelerator\)"):
        program.check(CONFIG.twin(rows=8, stos=False))


def test_write_atomic_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=f"disk full: '{path}'"):
        write_atomic(path, b"new")
    with pytest.raises(FileNotFoundError, match=f"'{tmp_path / 'none' / 'file'}'"):
        write_atomic(tmp_path / "none" / "file", b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
