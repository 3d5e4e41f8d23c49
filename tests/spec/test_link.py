"""Frames of the serial link, byte for byte, and what a board refuses."""

from __future__ import annotations

import zlib

import pytest

from hw.spec import link
from hw.spec.link import Command, FrameError, Request, Response, Status


def test_request_frame_byte_for_byte() -> None:
    frame = Request(Command.WRITE, 7, 0x8000_0020, 4, b"\x01\x02\x03\x04").encode()
    assert frame[:-4] == bytes.fromhex("52 02 07 20000080 0400 01020304")
    assert frame[-4:] == zlib.crc32(frame[1:-4]).to_bytes(4, "little")
    assert len(frame) == link.frame_bytes(Command.WRITE, 4)["request"]


def test_response_frame_byte_for_byte() -> None:
    response = Response(Status.OK, 255, bytes(range(8)))
    frame = response.encode()
    assert frame[:-4] == bytes.fromhex("72 00 ff 0800 0001020304050607")
    assert Response.decode(frame) == response
    assert len(frame) == link.frame_bytes(Command.READ, 8)["response"]


def test_every_changed_bit_of_a_response_is_noticed() -> None:
    frame = Response(Status.OK, 3, bytes(range(16))).encode()
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            Response.decode(bytes(damaged))


@pytest.mark.parametrize("length", [0, 1, 9, 12])
def test_truncated_responses_are_refused(length: int) -> None:
    with pytest.raises(FrameError):
        Response.decode(Response(Status.OK, 3, bytes(4)).encode()[:length])


def test_unknown_status_is_refused() -> None:
    covered = link.RESPONSE_HEADER.pack(99, 0, 0)
    frame = bytes([link.RESPONSE_SYNC]) + covered + zlib.crc32(covered).to_bytes(4, "little")
    with pytest.raises(FrameError, match="status 99"):
        Response.decode(frame)


@pytest.mark.parametrize(
    ("command", "address", "length", "status"),
    [
        (Command.PING, 1, 1, Status.OK),
        (Command.READ, 0, 4, Status.OK),
        (Command.WRITE, 4096 - 1024, 1024, Status.OK),
        (Command.READ, link.CSR_BASE + link.CSR_BYTES - 4, 4, Status.OK),
        (Command.READ, link.ID_BASE, link.ID_BYTES, Status.OK),
        (3, 0, 4, Status.BAD_COMMAND),
        (Command.READ, 0, 0, Status.BAD_LENGTH),
        (Command.READ, 0, 6, Status.BAD_LENGTH),
        (Command.WRITE, 0, 1028, Status.BAD_LENGTH),
        (Command.WRITE, 4096 - 1020, 1024, Status.BAD_ADDRESS),
        (Command.READ, 2, 4, Status.BAD_ADDRESS),
        (Command.READ, 4096, 4, Status.BAD_ADDRESS),
        (Command.WRITE, link.CSR_BASE + link.CSR_BYTES - 4, 8, Status.BAD_ADDRESS),
        (Command.WRITE, link.ID_BASE, 4, Status.BAD_ADDRESS),
        (Command.READ, 0xFFFF_FFFC, 8, Status.BAD_ADDRESS),
    ],
)
def test_what_a_board_of_4_kib_answers(command: int, address: int, length: int, status: Status) -> None:
    assert link.check_access(command, address, length, 4096) == status


def test_areas_do_not_overlap_and_tables_are_whole() -> None:
    assert link.MEMORY_BASE < link.CSR_BASE < link.CSR_BASE + link.CSR_BYTES <= link.ID_BASE
    assert set(link.STATUS_HELP) == set(Status) and set(link.ID_HELP) == set(link.IdWord)
    assert set(link.identity(clock_hz=1, bit_clocks=1, memory_bytes=4)) == set(link.IdWord)
    assert max(link.identity(clock_hz=1, bit_clocks=1, memory_bytes=4).values()) < 1 << 32


def test_description_names_the_limits() -> None:
    text = link.__doc__ or ""
    assert f"from {link.WORD_BYTES} to {link.MAX_PAYLOAD}." in text and f"within {link.GAP_BITS} bit times" in text
    assert f"sync 0x{link.REQUEST_SYNC:02x}, command" in text and f"sync 0x{link.RESPONSE_SYNC:02x}, status" in text
