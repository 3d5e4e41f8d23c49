from __future__ import annotations

import random

import pytest

from hw.spec.fields import FieldError
from hw.spec.isa import (
    ENUM_FIELDS,
    EXEC_LIMITS,
    INSTRUCTION_BYTES,
    OPCODES,
    QUEUE_OF,
    Instruction,
    Opcode,
    Queue,
    assemble,
    decode,
    disassemble,
    encode,
)


def _random(rng: random.Random, opcode: Opcode) -> Instruction:
    def value(field) -> int:
        return rng.choice((field.minimum, field.maximum, rng.randint(field.minimum, field.maximum), 0))

    values = {field.name: value(field) for field in OPCODES[opcode].fields[1:]}
    return Instruction(opcode, {name: v for name, v in values.items() if v})


@pytest.mark.parametrize("opcode", Opcode)
def test_round_trip(opcode: Opcode) -> None:
    rng = random.Random(opcode)
    for _ in range(200):
        instruction = _random(rng, opcode)
        data = encode(instruction)
        assert len(data) == INSTRUCTION_BYTES
        assert decode(data) == instruction


@pytest.mark.parametrize("opcode", Opcode)
def test_every_field_has_its_own_bits(opcode: Opcode) -> None:
    table = OPCODES[opcode]
    seen = 0
    for field in table.fields[1:]:
        extreme = -1 if field.signed else field.maximum
        bits = int.from_bytes(encode(Instruction(opcode, {field.name: extreme})), "little") ^ opcode
        assert bits.bit_count() == field.width
        assert bits & seen == 0
        seen |= bits
    assert seen | 0xF == (1 << table.used) - 1
    assert table.used <= 8 * INSTRUCTION_BYTES


@pytest.mark.parametrize("opcode", Opcode)
def test_out_of_range_values_are_refused(opcode: Opcode) -> None:
    for field in OPCODES[opcode].fields[1:]:
        for value in (field.minimum - 1, field.maximum + 1):
            with pytest.raises(FieldError, match=f"{opcode.name}: field {field.name} = {value}"):
                encode(Instruction(opcode, {field.name: value}))


def test_streams() -> None:
    rng = random.Random(5)
    stream = [_random(rng, rng.choice(list(Opcode))) for _ in range(50)]
    assert list(disassemble(assemble(stream))) == stream


def test_undecodable() -> None:
    with pytest.raises(FieldError, match="unknown opcode 0"):
        decode(bytes(INSTRUCTION_BYTES))
    with pytest.raises(FieldError, match="64 bytes, not 63"):
        decode(bytes(63))
    reserved = bytearray(encode(Instruction(Opcode.HALT)))
    reserved[-1] = 1
    with pytest.raises(FieldError, match="HALT: reserved bits"):
        decode(bytes(reserved))
    with pytest.raises(FieldError, match="instruction 1: unknown opcode"):
        list(disassemble(encode(Instruction(Opcode.HALT)) + bytes(64)))
    with pytest.raises(FieldError, match="100 bytes are no whole number"):
        list(disassemble(bytes(100)))


def test_fields_not_given_are_zero_and_unknown_ones_are_errors() -> None:
    instruction = Instruction(Opcode.EXEC, {"cin": 3})
    assert (instruction["cin"], instruction["cout"], instruction["opcode"]) == (3, 0, Opcode.EXEC)
    assert Instruction(Opcode.STORE)["target"] == 0
    with pytest.raises(KeyError, match="no instruction has a field cinn"):
        instruction["cinn"]


def test_text_names_what_is_set() -> None:
    text = str(Instruction(Opcode.EXEC, {"mode": 2, "wait": 5, "cout": 7, "pad_x": -1}))
    assert text == "EXEC   wait=load+store mode=stos_ln pad_x=-1 cout=7"
    assert "config_hash=00000000000000ff" in str(Instruction(Opcode.HEADER, {"config_hash": 255}))


def test_tables_agree_with_their_enumerations() -> None:
    assert set(OPCODES) == set(Opcode)
    assert set(QUEUE_OF.values()) == set(Queue)
    for opcode, table in OPCODES.items():
        assert [field.name for field in table.fields[:3]] == ["opcode", "wait", "signal"], opcode
        assert table.fields[1].width == table.fields[2].width == len(Queue)
        for field in table.fields:
            if field.name in ENUM_FIELDS:
                assert max(ENUM_FIELDS[field.name]) <= field.maximum
    fields = {field.name: field for field in OPCODES[Opcode.EXEC].fields}
    for name, (low, high) in EXEC_LIMITS.items():
        field = fields[name]
        assert low > field.minimum or (high is not None and high < field.maximum), f"{name} may have all values"
