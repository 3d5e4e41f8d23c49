"""The documents are those of the tables, and their bit positions are the encoder's."""

import random
import re
from pathlib import Path

from hw.docs_gen import documents, isa_markdown, main, registers_markdown
from hw.spec.config import PRESETS
from hw.spec.csr import REGISTERS, ErrorCause
from hw.spec.isa import OPCODES, Instruction, encode

DOCS = Path(__file__).parents[2] / "docs"


def test_documents_are_up_to_date(tmp_path: Path) -> None:
    """If this fails: python -m hw.docs_gen."""
    for name, text in documents().items():
        assert (DOCS / name).read_text() == text, f"{name} is stale: run python -m hw.docs_gen"
    assert main(["--out", str(tmp_path / "docs")]) == 0
    assert sorted(path.name for path in (tmp_path / "docs").iterdir()) == sorted(documents())


def test_documented_bits_are_where_the_encoder_puts_them() -> None:
    rng = random.Random(0)
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## )", isa_markdown(), re.MULTILINE | re.DOTALL))
    for code, table in OPCODES.items():
        values = {field.name: rng.randint(field.minimum, field.maximum) for field in table.fields[1:]}
        word = int.from_bytes(encode(Instruction(code, values)), "little")
        rows = re.findall(r"^\| (\d+)(?::(\d+))? \| `(\w+)` \|", sections[code.name], re.MULTILINE)
        assert [name for _, _, name in rows] == [field.name for field in table.fields]
        for high, low, name in rows:
            low = low or high
            mask = (1 << int(high) - int(low) + 1) - 1
            assert word >> int(low) & mask == ({**values, "opcode": code.value}[name] & mask), name


def test_registers_and_causes_are_complete() -> None:
    text = registers_markdown()
    shown = dict(re.findall(r"^\| `0x(\w+)` \| `(\w+)` \|", text, re.MULTILINE))
    assert {name: int(addr, 16) for addr, name in shown.items()} == {r.name: r.addr for r in REGISTERS.values()}
    assert all(f"| {cause.value} | `{cause.name}` |" in text for cause in ErrorCause)


def test_identity_values_of_a_configuration() -> None:
    config = PRESETS["tiny"]
    text = registers_markdown(config)
    assert f"of configuration {config.hash_hex}" in text
    values = dict(re.findall(r"`(\w+)` \| RO \| `0x(\w{8})`", text))
    assert values["HASH_HI"] + values["HASH_LO"] == config.hash_hex
    assert values["SHAPE"] == "00040004"
