"""The host's end of the link on a line that loses and damages bytes, and on boards that refuse."""

from __future__ import annotations

import random

import pytest

from hw.spec.config import PRESETS
from hw.spec.link import CSR_BASE, MAX_PAYLOAD, Command, Request, Response, Status, frame_bytes
from sw.runtime.board_link import BoardLink, LinkError
from tests.sw.board_line import ModelLine

TINY = PRESETS["tiny"]


def test_long_transfers_are_cut_into_frames_with_progress() -> None:
    line = ModelLine(TINY)
    link = BoardLink(line)
    link.ping()
    data, seen = random.Random(0).randbytes(2 * MAX_PAYLOAD + 40), []
    link.write(64, data, lambda done, total: seen.append((done, total)))
    assert seen == [(MAX_PAYLOAD, len(data)), (2 * MAX_PAYLOAD, len(data)), (len(data), len(data))]
    assert len(line.writes) == 4
    seen.clear()
    assert link.read(64, len(data), lambda done, total: seen.append((done, total))) == data
    assert seen[-1] == (len(data), len(data)) and len(seen) == 3
    assert link.repetitions == 0


@pytest.mark.parametrize("seed", range(5))
def test_damage_on_the_line_is_repaired(seed: int) -> None:
    line = ModelLine(TINY, noise=0.0003, seed=seed)
    link = BoardLink(line, attempts=20)
    link.ping()
    rng = random.Random(seed)
    memory = bytearray(TINY.act_bytes)
    for _ in range(60):
        length = 4 * rng.randint(1, 300)
        place = 4 * rng.randrange((len(memory) - length) // 4)
        if rng.random() < 0.5:
            memory[place : place + length] = data = rng.randbytes(length)
            link.write(place, data)
        else:
            assert link.read(place, length) == memory[place : place + length]
    assert line.model.memory[: len(memory)].tobytes() == memory
    assert line.noise.damaged > 0 and link.repetitions > 0


def test_a_lost_answer_repeats_the_frame_as_it_was() -> None:
    line = ModelLine(TINY)
    link = BoardLink(line)
    link.ping()
    before = len(line.writes)
    lost: list[bytes] = []

    def lose_one(data: bytes) -> bytes:
        if lost or len(line.writes) == before:
            return data
        lost.append(data)
        return b""

    exchange = line.model.exchange
    line.model.exchange = lambda data: lose_one(exchange(data))
    link.write_word(0, 0xAABBCCDD)
    assert lost and len(line.writes) == before + 2 and line.writes[-1] == line.writes[-2]
    assert link.repetitions == 1 and link.read_word(0) == 0xAABBCCDD


def test_sequence_numbers_wrap() -> None:
    link = BoardLink(ModelLine(TINY))
    link.ping()
    for value in range(600):
        link.write_word(0, value)
        assert link.read_word(0) == value


def test_late_and_strange_answers_are_passed_over() -> None:
    line = ModelLine(TINY)
    link = BoardLink(line)
    link.ping()
    late = Response(Status.OK, 200, bytes(4)).encode()
    line.answers = b"\x72\x00noise" + late + b"\x72\xff\xff\xff\xff" + late[:-1]
    link.write_word(8, 5)
    line.answers = late + late
    assert link.read_word(8) == 5


def test_refusals_name_what_was_asked() -> None:
    link = BoardLink(ModelLine(TINY, memory_bytes=4096))
    link.ping()
    with pytest.raises(LinkError, match="model: READ of 4 bytes at 0x00001000: BAD_ADDRESS"):
        link.read_word(4096)
    with pytest.raises(LinkError, match="WRITE of 4 bytes at 0x80000000: BUS_ERROR, error response"):
        link.write_word(CSR_BASE, 1)


def test_a_dead_line_is_given_up() -> None:
    line = ModelLine(TINY)
    line.write = line.writes.append  # into nothing
    link = BoardLink(line, timeout=0.5, attempts=3)
    with pytest.raises(LinkError, match="no intact answer to PING at 0x00000000 in 3 attempts of 0.5 s"):
        link.ping()
    assert len(line.writes) == 3 and line.writes[0] == Request(Command.PING, 1).encode()


def test_an_echo_is_no_board() -> None:
    line = ModelLine(TINY)

    def echo(data: bytes) -> None:
        line.answers += data

    line.write = echo
    with pytest.raises(LinkError, match="no intact answer"):
        BoardLink(line, attempts=2).ping()


def test_seconds_on_the_wire() -> None:
    link = BoardLink(ModelLine(TINY))
    frames = [frame_bytes(Command.WRITE, length) for length in (MAX_PAYLOAD, 100)]
    expected = sum(10 * sum(frame.values()) for frame in frames) / ModelLine.baud
    assert link.seconds(Command.WRITE, MAX_PAYLOAD + 100) == pytest.approx(expected)
