"""Serial link of a board: frames between a host and the accelerator's memory and registers, and the address map.

The wire is a UART: 8 data bits, no parity, one stop bit, least significant bit first.  The host asks, the board
answers; the host waits for the answer before it asks again.  All numbers are little-endian::

    request  = sync 0x52, command, sequence, address (4 bytes), length (2 bytes), payload (WRITE only), CRC (4 bytes)
    response = sync 0x72, status,  sequence,                    length (2 bytes), payload (READ only),  CRC (4 bytes)

The length counts payload bytes: those that a WRITE or a response carries, or that a READ asks for.  The CRC is zlib's
CRC-32 of everything between it and the sync byte.

What the board does with a request:

* Bytes other than sync are ignored between frames, and all bytes from a frame's end to the end of its response.
* A payload follows the header if the command is WRITE and the length is legal: a multiple of 4, from 4 to 1024.
  Otherwise the CRC follows at once.
* If a byte does not come within 16384 bit times of the last one, the frame is forgotten without an answer.
* The first of these that is wrong decides the status: CRC, command, length, address.  Then nothing has been read or
  written.  A payload is written after its CRC has been checked, and data are read before the response begins, in words
  of 4 bytes in ascending order; an error response of the bus ends that and gives BUS_ERROR.
* A WRITE with the sequence number of the last request whose CRC was correct, if that one was answered OK and was no
  PING, is a repetition: it is answered OK and not carried out again, so that a lost answer does not, for instance,
  start a program twice.
* The response has the request's sequence number, also if the CRC is wrong; without status OK it has no payload.

A PING is answered OK without a payload; its address and length mean nothing.  A host sends one first, so that its
first WRITE is never taken for a repetition.  READ and WRITE take addresses that are multiples of 4 and lie in one area.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from hw.spec.csr import CSR_ADDR_WIDTH

__all__ = [
    "BAUD",
    "CRC_BYTES",
    "CSR_BASE",
    "CSR_BYTES",
    "GAP_BITS",
    "ID_BASE",
    "ID_BYTES",
    "LINK_MAGIC",
    "LINK_VERSION",
    "MAX_PAYLOAD",
    "MEMORY_BASE",
    "REQUEST_HEADER",
    "REQUEST_SYNC",
    "RESPONSE_HEADER",
    "RESPONSE_SYNC",
    "STATUS_HELP",
    "WORD_BYTES",
    "Command",
    "FrameError",
    "IdWord",
    "Request",
    "Response",
    "Status",
    "check_access",
    "frame_bytes",
    "identity",
    "legal_length",
]

LINK_VERSION = 1
BAUD = 1_000_000
"""Bits per second of boards, unless they say otherwise."""
LINK_MAGIC = int.from_bytes(b"ROWL", "little")

REQUEST_SYNC = 0x52
RESPONSE_SYNC = 0x72
WORD_BYTES = 4
MAX_PAYLOAD = 1024
"""Bytes in a frame at most: the board's frame buffer."""

GAP_BITS = 1 << 14
"""Bit times between two bytes of a frame at most: 16 ms at 1 Mbit/s."""

MEMORY_BASE = 0x0000_0000
CSR_BASE = 0x8000_0000
CSR_BYTES = 1 << CSR_ADDR_WIDTH
ID_BASE = 0xC000_0000

CRC_BYTES = 4
REQUEST_HEADER = struct.Struct("<BBIH")
"""Command, sequence, address, length."""
RESPONSE_HEADER = struct.Struct("<BBH")
"""Status, sequence, length."""


class Command(enum.IntEnum):
    """What a request asks for."""

    PING = 0
    READ = 1
    WRITE = 2


class Status(enum.IntEnum):
    """How a request ended."""

    OK = 0
    BAD_CRC = 1
    BAD_COMMAND = 2
    BAD_LENGTH = 3
    BAD_ADDRESS = 4
    BUS_ERROR = 5


STATUS_HELP: dict[Status, str] = {
    Status.OK: "done",
    Status.BAD_CRC: "the frame was damaged on the line",
    Status.BAD_COMMAND: "unknown command",
    Status.BAD_LENGTH: f"the length is no multiple of {WORD_BYTES} from {WORD_BYTES} to {MAX_PAYLOAD}",
    Status.BAD_ADDRESS: "the address is no multiple of 4, the bytes do not lie in one area, or a WRITE of the identity",
    Status.BUS_ERROR: "error response of the memory or the registers",
}
"""One line per status, for documents and error messages."""


class IdWord(enum.IntEnum):
    """Words of the identity area, read only; index into it."""

    MAGIC = 0
    VERSION = 1
    CLOCK_HZ = 2
    BIT_CLOCKS = 3
    MEMORY_BYTES = 4


ID_HELP: dict[IdWord, str] = {
    IdWord.MAGIC: "the letters ROWL",
    IdWord.VERSION: "version of the link",
    IdWord.CLOCK_HZ: "clock frequency in hertz",
    IdWord.BIT_CLOCKS: "clock cycles of one bit on the wire",
    IdWord.MEMORY_BYTES: "bytes of memory from address 0, which the accelerator's DRAM regions are placed in",
}
"""One line per word, for documents."""

ID_BYTES = WORD_BYTES * len(IdWord)


def identity(*, clock_hz: int, bit_clocks: int, memory_bytes: int) -> dict[IdWord, int]:
    """Return the words of the identity area of a board."""
    return {
        IdWord.MAGIC: LINK_MAGIC,
        IdWord.VERSION: LINK_VERSION,
        IdWord.CLOCK_HZ: clock_hz,
        IdWord.BIT_CLOCKS: bit_clocks,
        IdWord.MEMORY_BYTES: memory_bytes,
    }


class FrameError(ValueError):
    """Bytes that are no frame."""


def legal_length(length: int) -> bool:
    """Return whether a READ or WRITE may have this many bytes."""
    return WORD_BYTES <= length <= MAX_PAYLOAD and length % WORD_BYTES == 0


def check_access(command: int, address: int, length: int, memory_bytes: int) -> Status:
    """Return the status that a request with a correct CRC gets before the bus sees it; OK if it may pass."""
    if command not in set(Command):
        return Status.BAD_COMMAND
    if command == Command.PING:
        return Status.OK
    if not legal_length(length):
        return Status.BAD_LENGTH
    areas = {MEMORY_BASE: memory_bytes, CSR_BASE: CSR_BYTES}
    if command == Command.READ:
        areas[ID_BASE] = ID_BYTES
    inside = any(base <= address and address + length <= base + size for base, size in areas.items())
    return Status.OK if inside and address % WORD_BYTES == 0 else Status.BAD_ADDRESS


def _crc(covered: bytes) -> bytes:
    return zlib.crc32(covered).to_bytes(CRC_BYTES, "little")


@dataclass(frozen=True)
class Request:
    """What the host sends.

    Parameters
    ----------
    command
        A :class:`Command`; other bytes are answered BAD_COMMAND.
    sequence
        0 to 255, returned in the response.
    address, length
        Where and how many bytes.
    payload
        `length` bytes for WRITE, else none.
    """

    command: int
    sequence: int
    address: int = 0
    length: int = 0
    payload: bytes = b""

    def encode(self) -> bytes:
        """Return the frame."""
        covered = REQUEST_HEADER.pack(self.command, self.sequence, self.address, self.length) + self.payload
        return bytes([REQUEST_SYNC]) + covered + _crc(covered)


@dataclass(frozen=True)
class Response:
    """What the board answers: status, the request's sequence number, data of a READ."""

    status: Status
    sequence: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """Return the frame."""
        covered = RESPONSE_HEADER.pack(self.status, self.sequence, len(self.payload)) + self.payload
        return bytes([RESPONSE_SYNC]) + covered + _crc(covered)

    @classmethod
    def decode(cls, frame: bytes) -> Response:
        """Read a whole frame.

        Raises
        ------
        FrameError
            If it is too short or too long, the CRC is wrong, or the status unknown.
        """
        covered, crc = frame[1:-CRC_BYTES], frame[-CRC_BYTES:]
        if len(covered) < RESPONSE_HEADER.size or frame[0] != RESPONSE_SYNC:
            raise FrameError(f"{len(frame)} bytes that are no response")
        if _crc(covered) != crc:
            raise FrameError(f"CRC {crc[::-1].hex()} of a response, {_crc(covered)[::-1].hex()} expected")
        status, sequence, length = RESPONSE_HEADER.unpack_from(covered)
        payload = covered[RESPONSE_HEADER.size :]
        if len(payload) != length or status not in set(Status):
            raise FrameError(f"a response of status {status} with {len(payload)} of {length} bytes")
        return cls(Status(status), sequence, payload)


def frame_bytes(command: Command, length: int = 0) -> Mapping[str, int]:
    """Return the bytes of a ``request`` for `length` bytes and of its ``response``, for times on the wire."""
    sent = length if command == Command.WRITE else 0
    received = length if command == Command.READ else 0
    return {
        "request": 1 + REQUEST_HEADER.size + sent + CRC_BYTES,
        "response": 1 + RESPONSE_HEADER.size + received + CRC_BYTES,
    }
