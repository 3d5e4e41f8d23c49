"""The documents are those of the tables, and their bit positions are the encoder's."""

import argparse
import dataclasses
import inspect
import random
import re
import traceback
from pathlib import Path

import pytest

from hw.docs_gen import _REFUSED, configuration_markdown, documents, isa_markdown, main, registers_markdown
from hw.generate import add_configuration
from hw.spec.config import LIMITS, PRESETS, AcceleratorConfig, ConfigError
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


def test_options_of_fields_are_the_generators() -> None:
    shown = re.findall(r"^\| `(\w+)` \| `(--[\w-]+)` \|", configuration_markdown(), re.MULTILINE)
    parser = argparse.ArgumentParser()
    add_configuration(parser)
    options = {option: action.dest for action in parser._actions for option in action.option_strings}
    assert [name for name, _ in shown] == [field.name for field in dataclasses.fields(AcceleratorConfig)]
    assert all(options[option] == name for name, option in shown)


def refused_at(changes: dict[str, object]) -> int | None:
    """Return the line of AcceleratorConfig's checks that refuses a configuration."""
    try:
        AcceleratorConfig(**changes)
    except ConfigError as error:
        return traceback.extract_tb(error.__traceback__)[-1].lineno
    return None


def test_every_rule_is_shown() -> None:
    source, first = inspect.getsourcelines(AcceleratorConfig.__post_init__)
    rules = {first + index for index, line in enumerate(source) if "raise ConfigError" in line}
    assert {refused_at(changes) for changes in _REFUSED} == rules


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_tight(name: str) -> None:
    """Beside generous other fields, both ends of a field's range are legal and nothing beyond them is."""
    limit = LIMITS[name]
    others = {"act_kib": 8192, "max_kernel": 1, "axi_data_width": 64, "cols": 256 if name == "axi_data_width" else 16}
    for value in (limit.low, limit.high):
        assert refused_at(others | {name: value}) is None, value
    for value in (limit.low // 2, limit.high * 2) if limit.pow2 else (limit.low - 1, limit.high + 1):
        assert refused_at(others | {name: value}) is not None, value
