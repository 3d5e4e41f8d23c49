"""Programs on a modelled board: same bytes as the simulator's, constants once, errors that say what to do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.spec.config import PRESETS
from hw.spec.csr import REGION_ALIGN, address
from hw.spec.isa import Region
from hw.spec.link import CSR_BASE, IdWord
from hw.spec.program import Program, ProgramError
from sim.broken_programs import broken_programs, sound_program
from sim.iss import IssBackend
from sw.backends import AcceleratorError
from sw.regions import InputError
from sw.runtime.board_link import BoardLink
from sw.runtime.device import BoardError, Device, place_regions
from tests.sw.board_line import ModelLine
from tests.sw.random_networks import networks_for

TINY = PRESETS["tiny"]
SOUND = sound_program(TINY)
NETWORKS = [program for _, program in networks_for(TINY, 2, macs=100_000)]


def inputs(program: Program, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {spec.name: rng.integers(-128, 128, spec.shape, np.int8) for spec in program.inputs}


def device(line: ModelLine, **arguments: object) -> Device:
    return Device(BoardLink(line), **arguments)


@pytest.mark.parametrize("program", NETWORKS, ids=lambda program: program.meta.get("name"))
def test_bytes_are_those_of_the_simulator_and_constants_go_once(program: Program) -> None:
    line = ModelLine(TINY)
    board = device(line)
    sent = []
    for seed in range(4):
        before = len(line.writes)
        given = inputs(program, seed)
        result = board.run(program, given)
        expected = IssBackend(TINY).run(program, given)
        assert result.outputs.keys() == expected.outputs.keys()
        for name, value in expected.outputs.items():
            np.testing.assert_array_equal(result.outputs[name], value)
        sent.append(sum(map(len, line.writes[before:])))
    assert sent[0] >= sent[1] + len(program.image) and sent[1] == sent[2] == sent[3]
    assert result.cycles is None and set(result.counters.values()) == {0}


def test_a_line_with_damage_gives_the_same_bytes() -> None:
    program = NETWORKS[0]
    line = ModelLine(TINY, noise=0.0003, seed=3)
    given = inputs(program, 7)
    board = Device(BoardLink(line, attempts=30))
    result = board.run(program, given)
    expected = IssBackend(TINY).run(program, given)
    for name, value in expected.outputs.items():
        np.testing.assert_array_equal(result.outputs[name], value)
    assert board.link.repetitions > 0


def test_another_program_replaces_the_first() -> None:
    board = device(ModelLine(TINY))
    board.run(SOUND, inputs(SOUND, 0))
    other = dataclasses.replace(SOUND, meta={"name": "again"})
    given = inputs(other, 5)
    expected = IssBackend(TINY).run(other, given)
    for name, value in expected.outputs.items():
        np.testing.assert_array_equal(board.run(other, given).outputs[name], value)


@pytest.mark.parametrize("broken", list(broken_programs(TINY)), ids=lambda broken: broken.name)
def test_errors_tell_cause_and_instruction_and_the_board_goes_on(broken: object) -> None:
    line = ModelLine(TINY)
    board = device(line)
    program = broken.program
    # the hardware's own check is meant, not the host's
    board.check = lambda program: None
    given = inputs(program, 0)
    with pytest.raises(AcceleratorError) as caught:
        board.run(program, given)
    assert (caught.value.cause, caught.value.pc) == (broken.cause, broken.pc)
    board.run(SOUND, inputs(SOUND, 0))


def test_regions_lie_one_after_the_other() -> None:
    assert place_regions((1, REGION_ALIGN, 0, 5), 3 * REGION_ALIGN) == (
        0, REGION_ALIGN, 2 * REGION_ALIGN, 2 * REGION_ALIGN,
    )  # fmt: skip


def test_too_little_memory_names_what_is_needed() -> None:
    big = dataclasses.replace(SOUND, region_sizes=(*SOUND.region_sizes[:1], 200_000, *SOUND.region_sizes[2:]))
    with pytest.raises(BoardError, match=r"the program needs 2\d\d,\d\d\d bytes .*WORK 200,000.*there are 131,072"):
        device(ModelLine(TINY)).load(big)


def test_another_configuration_is_refused_with_what_differs() -> None:
    other = TINY.twin(act_kib=32)
    program = dataclasses.replace(SOUND, config=other)
    with pytest.raises(ProgramError, match=r"differ in act_kib: 32 / 16 \(expected / hardware\)"):
        device(ModelLine(TINY)).run(program, inputs(program, 0))  # found among the presets
    board = device(ModelLine(TINY.twin(rows=6, act_kib=32)))
    with pytest.raises(ProgramError, match=r"differ in rows: 4 / 6 \(expected / hardware\)"):
        board.run(SOUND, inputs(SOUND, 0))  # by the registers
    known = device(ModelLine(other), config=other)
    with pytest.raises(ProgramError, match=r"they differ in act_kib: 16 / 32 \(program / accelerator\)"):
        known.run(SOUND, inputs(SOUND, 0))  # by the bitstream's manifest


def test_a_manifest_of_another_bitstream_is_noticed() -> None:
    board = device(ModelLine(TINY), config=TINY.twin(rows=8))
    with pytest.raises(ProgramError, match=r"rows: 8 / 4 \(expected / hardware\)"):
        board.load(SOUND)


@pytest.mark.parametrize(
    ("word", "why"), [(IdWord.MAGIC, "no board of ours"), (IdWord.VERSION, "link has version 1684234849, this host 1")]
)
def test_other_boards_are_refused(word: IdWord, why: str) -> None:
    line = ModelLine(TINY)
    words = bytearray(line.model._identity)
    words[4 * word : 4 * word + 4] = b"abcd"[::1]
    line.model._identity = bytes(words)
    with pytest.raises(BoardError, match=why):
        device(line)


def test_nobody_there() -> None:
    line = ModelLine(TINY)
    line.write = lambda data: None
    with pytest.raises(BoardError, match=r"no intact answer to PING.*--baud.*bitstream"):
        device(line)


def test_inputs_are_checked_before_anything_is_sent() -> None:
    line = ModelLine(TINY)
    board = device(line)
    before = len(line.writes)
    with pytest.raises(InputError, match="missing"):
        board.run(NETWORKS[0], {})
    assert len(line.writes) == before


def test_a_run_without_an_end_is_given_up() -> None:
    line = ModelLine(TINY)
    board = device(line)
    board.load(SOUND)
    line.model._run = lambda: line.model._set_fields("STATUS", busy=1)
    with pytest.raises(RuntimeError, match=r"did not end within 0\.05 s; the accelerator was reset"):
        board.run(SOUND, inputs(SOUND, 0), seconds=0.05)
    assert board.port.fields("STATUS")["busy"] == 0


def test_what_an_earlier_host_left_is_cleared() -> None:
    line = ModelLine(TINY)
    line.model._set_fields("STATUS", error=1)
    given = inputs(SOUND, 2)
    board = device(line)
    assert board.run(SOUND, given).outputs
    assert int.from_bytes(line.model._read(CSR_BASE + address("STATUS"), 4), "little") == 2
    assert board.identity.memory_bytes == 128 * 1024 and board.identity.baud == 1e6
    assert SOUND.region_sizes[Region.CONST] >= len(SOUND.image)
