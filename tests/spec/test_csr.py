from __future__ import annotations

import pytest

from hw.spec.config import PRESETS
from hw.spec.csr import (
    COUNTERS,
    CSR_ADDR_WIDTH,
    ERROR_HELP,
    MAGIC,
    REGION_COUNT,
    REGISTERS,
    Counter,
    ErrorCause,
    address,
)
from hw.spec.isa import Region


def test_addresses_are_words_of_their_own() -> None:
    addresses = [register.addr for register in REGISTERS.values()]
    assert len(set(addresses)) == len(addresses)
    assert all(addr % 4 == 0 and 0 <= addr < 1 << CSR_ADDR_WIDTH for addr in addresses)
    assert all(name == register.name for name, register in REGISTERS.items())


def test_every_counter_region_and_cause_is_there() -> None:
    assert set(COUNTERS) == set(Counter)
    assert sorted(Counter) == list(range(len(Counter)))
    for counter in Counter:
        assert address(f"{counter.name}_HI") == address(f"{counter.name}_LO") + 4
    assert len(Region) == REGION_COUNT
    for region in Region:
        assert {f"REGION{int(region)}_{part}" for part in ("BASE_LO", "BASE_HI", "SIZE")} <= set(REGISTERS)
    assert set(ERROR_HELP) == set(ErrorCause)


def test_fields_fit_a_register() -> None:
    for register in REGISTERS.values():
        assert register.fields is None or register.fields.used <= 32
    for config in PRESETS.values():
        assert REGISTERS["SHAPE"].fields.encode({"rows": config.rows, "cols": config.cols})
        assert REGISTERS["FEATURES"].fields.encode({"stos": config.stos, "max_kernel": config.max_kernel})


def test_identity() -> None:
    assert MAGIC.to_bytes(4, "little") == b"ROWC"
    with pytest.raises(KeyError):
        address("NOWHERE")
