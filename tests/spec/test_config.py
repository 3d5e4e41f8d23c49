from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest

from hw.spec.config import PRESETS, SUB_BANKS, AcceleratorConfig, ConfigError, preset
from hw.spec.isa import ISA_VERSION


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "rows=0 is out of range: it must be from 1 to 256"),
        ({"rows": 257}, "rows=257"),
        ({"cols": 1}, "cols=1"),
        ({"max_kernel": 16}, "max_kernel=16"),
        ({"act_kib": 24}, "act_kib=24 is out of range: it must be a power of two"),
        ({"act_banks": 3}, "act_banks=3"),
        ({"weight_kib": 0}, "weight_kib=0"),
        ({"param_entries": 8}, "param_entries=8"),
        ({"axi_data_width": 32}, "axi_data_width=32"),
        ({"axi_data_width": 96}, "axi_data_width=96"),
        ({"axi_addr_width": 31}, "axi_addr_width=31"),
        ({"rows": 16.0}, "rows must be int, not 16.0"),
        ({"rows": True}, "rows must be int, not True"),
        ({"stos": 1}, "stos must be bool, not 1"),
        ({"cols": 3, "max_kernel": 7, "axi_data_width": 64}, "halo would be wider"),
        ({"act_kib": 1, "act_banks": 16}, "at least 4 are needed: raise act_kib or lower act_banks"),
        ({"cols": 4, "axi_data_width": 1024}, "lower axi_data_width or raise cols"),
        ({"weight_kib": 1, "rows": 256}, "at least 14 are needed: raise weight_kib"),
        ({"weight_kib": 4096, "rows": 2}, "instructions address only 1048576: lower weight_kib"),
    ],
)
def test_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AcceleratorConfig(**changes)


def _random(rng: random.Random) -> AcceleratorConfig | None:
    try:
        return AcceleratorConfig(
            rows=rng.randint(1, 256),
            cols=rng.randint(2, 256),
            stos=rng.random() < 0.5,
            max_kernel=rng.randint(1, 15),
            act_kib=1 << rng.randint(0, 13),
            act_banks=1 << rng.randint(0, 4),
            weight_kib=1 << rng.randint(0, 12),
            param_entries=1 << rng.randint(4, 16),
            axi_data_width=1 << rng.randint(6, 10),
        )
    except ConfigError:
        return None


def test_derived_sizes_of_random_configurations() -> None:
    rng = random.Random(3)
    configs = [config for _ in range(400) if (config := _random(rng)) is not None]
    assert len(configs) > 100
    for config in configs:
        # Any unaligned access of the array's, at stride 1 or 2, and of the bus's must touch each sub-bank at most once.
        assert config.read_span == max(config.read_lanes, len(range(0, 2 * config.cols, 2)) * 2 - 1)
        widest = max(config.read_span, config.axi_bytes)
        assert SUB_BANKS * config.sub_bytes >= widest + config.sub_bytes - 1
        assert config.sub_bytes & (config.sub_bytes - 1) == 0
        assert config.act_bank_lines * config.line_bytes * config.act_banks == config.act_bytes
        assert config.weight_words * config.weight_word_bytes == config.weight_bytes
        assert config.rows <= config.weight_word_bytes < 2 * config.rows
        assert config.read_lanes == config.cols + (config.max_kernel - 1 if config.stos else 0)
        assert config.weight_bytes % config.axi_bytes == config.param_bytes % config.axi_bytes == 0
        assert AcceleratorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_every_field_changes_the_hash() -> None:
    base = PRESETS["edge16"]
    changed = {
        "rows": 15, "cols": 17, "stos": False, "max_kernel": 5, "act_kib": 128, "act_banks": 2, "weight_kib": 32,
        "param_entries": 1024, "axi_data_width": 64, "axi_addr_width": 32, "pipeline_mac": True, "reset_low": True,
    }  # fmt: skip
    assert set(changed) == {field.name for field in dataclasses.fields(AcceleratorConfig)}
    twins = {name: base.twin(**{name: value}) for name, value in changed.items()}
    hashes = {config.hash for config in (base, *twins.values())}
    assert len(hashes) == len(changed) + 1
    assert all(0 <= value < 1 << 64 for value in hashes)
    for name, twin in twins.items():
        assert base.difference(twin) == f"{name}: {getattr(base, name)} / {changed[name]}"
    assert base.difference(AcceleratorConfig()) == ""


def test_hash_is_stable() -> None:
    # A program compiled today must be recognised tomorrow; this changes only together with ISA_VERSION or the fields.
    assert ISA_VERSION == 6
    assert PRESETS["tiny"].hash_hex == "9ade4aee62029143"


def test_dictionaries() -> None:
    data = PRESETS["tiny"].to_dict()
    with pytest.raises(ConfigError, match=r"unknown configuration field\(s\): rowz"):
        AcceleratorConfig.from_dict({**data, "rowz": 1})
    del data["rows"]
    with pytest.raises(ConfigError, match=r"missing configuration field\(s\): rows"):
        AcceleratorConfig.from_dict(data)
    with pytest.raises(ConfigError, match="a configuration is a dictionary"):
        AcceleratorConfig.from_dict([1])


def test_presets() -> None:
    assert preset("edge16") == AcceleratorConfig()
    assert all(config.axi_data_width >= 8 * config.cols for config in PRESETS.values())
    with pytest.raises(ConfigError, match="no preset 'huge'; there are tiny, edge8"):
        preset("huge")


def test_manifest(tmp_path: Path) -> None:
    config = PRESETS["tiny"]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"config": config.to_dict(), "config_hash": config.hash_hex, "more": 1}))
    assert AcceleratorConfig.from_manifest(path) == config
    path.write_text(json.dumps({"config": config.twin(rows=5).to_dict(), "config_hash": config.hash_hex}))
    with pytest.raises(ConfigError, match=f"hash {config.hash_hex} is not that of its configuration"):
        AcceleratorConfig.from_manifest(path)
    for text, message in (
        ("{", "not a readable manifest"),
        ("[]", "not a rowcast manifest"),
        ('{"config": {}}', "not a rowcast manifest"),
        ('{"config": 3, "config_hash": ""}', "a configuration is a dictionary"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            AcceleratorConfig.from_manifest(path)
    with pytest.raises(ConfigError, match=r"no such manifest; make one with 'python -m hw\.generate'"):
        AcceleratorConfig.from_manifest(tmp_path / "none.json")
