"""The host's end of the serial link (:mod:`hw.spec.link`): requests, answers, repetitions."""

from __future__ import annotations

import time
from collections.abc import Callable

from hw.spec.link import (
    CRC_BYTES,
    GAP_BITS,
    MAX_PAYLOAD,
    RESPONSE_HEADER,
    RESPONSE_SYNC,
    STATUS_HELP,
    WORD_BYTES,
    Command,
    FrameError,
    Request,
    Response,
    Status,
    frame_bytes,
)
from sw.backends import RunError
from sw.runtime.serial_line import Line

__all__ = ["BITS_PER_BYTE", "BoardLink", "LinkError"]

BITS_PER_BYTE = 10
"""On the wire: a start bit, eight of data, a stop bit."""

_SHORTEST = 1 + RESPONSE_HEADER.size + CRC_BYTES

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


class LinkError(RunError):
    """A request that the board did not answer, or refused."""


class BoardLink:
    """Reads and writes a board's memory and registers.

    Parameters
    ----------
    line
        What carries the bytes.
    timeout
        Seconds that an answer may take, besides the time on the wire.
    attempts
        How often a request is sent before the link counts as dead; repetitions have the same sequence number.

    Attributes
    ----------
    repetitions
        Requests that were sent again.
    """

    def __init__(self, line: Line, *, timeout: float = 1.0, attempts: int = 8) -> None:
        self.line, self.timeout, self.attempts = line, timeout, attempts
        self.repetitions = 0
        self._sequence = 0
        self._received = b""

    def ping(self) -> None:
        """Make the board forget the last host's requests; raise :class:`LinkError` if none is there."""
        self._ask(Command.PING)

    def read(self, address: int, length: int, progress: Progress | None = None) -> bytes:
        """Return `length` bytes; `address` and `length` are multiples of 4.

        Raises
        ------
        LinkError
            If the board does not answer, or refuses.
        LineLostError
            If the port goes away.
        """
        parts = []
        for start in range(0, length, MAX_PAYLOAD):
            parts.append(self._ask(Command.READ, address + start, min(MAX_PAYLOAD, length - start)))
            if progress is not None:
                progress(min(start + MAX_PAYLOAD, length), length)
        return b"".join(parts)

    def write(self, address: int, data: bytes, progress: Progress | None = None) -> None:
        """Write bytes; `address` and their number are multiples of 4.  Raises what :meth:`read` does."""
        for start in range(0, len(data), MAX_PAYLOAD):
            chunk = data[start : start + MAX_PAYLOAD]
            self._ask(Command.WRITE, address + start, len(chunk), chunk)
            if progress is not None:
                progress(start + len(chunk), len(data))

    def read_word(self, address: int) -> int:
        """Return a word."""
        return int.from_bytes(self.read(address, WORD_BYTES), "little")

    def write_word(self, address: int, value: int) -> None:
        """Write a word."""
        self.write(address, value.to_bytes(WORD_BYTES, "little"))

    def seconds(self, command: Command, length: int) -> float:
        """Return how long `length` bytes take on the wire in frames as long as possible."""
        bits = 0
        for start in range(0, max(length, 1), MAX_PAYLOAD):
            bits += BITS_PER_BYTE * sum(frame_bytes(command, min(MAX_PAYLOAD, length - start)).values())
        return bits / self.line.baud

    def _ask(self, command: Command, address: int = 0, length: int = 0, payload: bytes = b"") -> bytes:
        self._sequence = (self._sequence + 1) % 256
        request = Request(command, self._sequence, address, length, payload)
        frame, allowed = request.encode(), self.timeout + self.seconds(command, length)
        pause = GAP_BITS / self.line.baud
        for attempt in range(self.attempts):
            if attempt:
                # a board that still waits for the rest of a frame gives up meanwhile; a simulated one is slower
                self._discard_for(pause)
                pause = min(2 * pause, allowed)
                self.repetitions += 1
            self.line.write(frame)
            response = self._answer(request.sequence, time.monotonic() + allowed)
            if response is None or response.status == Status.BAD_CRC:
                continue
            what = f"{command.name} of {length} bytes at 0x{address:08x}"
            if response.status != Status.OK:
                raise LinkError(f"{self.line.name}: {what}: {response.status.name}, {STATUS_HELP[response.status]}")
            if len(response.payload) != (length if command == Command.READ else 0):
                raise LinkError(f"{self.line.name}: {what}: answered with {len(response.payload)} bytes")
            return response.payload
        raise LinkError(
            f"{self.line.name}: no intact answer to {command.name} at 0x{address:08x} in {self.attempts} attempts of "
            f"{allowed:.2g} s, at {self.line.baud:,} bits per second"
        )

    def _answer(self, sequence: int, deadline: float) -> Response | None:
        """Return the answer with a sequence number, None if it does not come; others are late ones."""
        while True:
            response = self._take()
            if response is None:
                found = self.line.read(deadline)
                if not found:
                    return None
                self._received += found
            elif response.sequence == sequence or response.status == Status.BAD_CRC:
                return response

    def _take(self) -> Response | None:
        """Take the first intact answer out of what was received; None if there is none yet."""
        while (start := self._received.find(RESPONSE_SYNC)) >= 0:
            self._received = self._received[start:]
            if len(self._received) < _SHORTEST:
                return None
            _, _, length = RESPONSE_HEADER.unpack_from(self._received, 1)
            if length <= MAX_PAYLOAD:
                if len(self._received) < _SHORTEST + length:
                    return None
                try:
                    response = Response.decode(self._received[: _SHORTEST + length])
                except FrameError:
                    pass
                else:
                    self._received = self._received[_SHORTEST + length :]
                    return response
            self._received = self._received[1:]  # that was no beginning
        self._received = b""
        return None

    def _discard_for(self, seconds: float) -> None:
        self._received = b""
        deadline = time.monotonic() + seconds
        while self.line.read(deadline):
            self._received = b""
            if time.monotonic() >= deadline:
                return
