"""A pseudo-terminal whose other end is a simulated board, with damage to the line if wanted."""

from __future__ import annotations

import errno
import os
import random
import select
import threading
import tty
from typing import Protocol

__all__ = ["BoardThread", "Chip", "Noise", "PseudoTerminal"]

_CHUNK = 4096


class Chip(Protocol):
    """What is behind the UART."""

    def exchange(self, data: bytes) -> bytes:
        """Take bytes from the host, let some time pass, return bytes to the host."""
        ...

    @property
    def idle(self) -> bool:
        """Whether nothing happens until bytes come."""
        ...


class Noise:
    """Damages bytes at random: half of them get a flipped bit, half of them are lost.

    Parameters
    ----------
    probability
        Of damage to a byte.
    seed
        Of the series.

    Attributes
    ----------
    damaged
        Bytes that were.
    """

    def __init__(self, probability: float, seed: int = 0) -> None:
        self.probability = probability
        self._random = random.Random(seed)
        self.damaged = 0

    def __call__(self, data: bytes) -> bytes:
        """Return what is left of bytes on the line."""
        if not self.probability:
            return data
        left = bytearray()
        for byte in data:
            if self._random.random() >= self.probability:
                left.append(byte)
                continue
            self.damaged += 1
            if self._random.random() < 0.5:
                left.append(byte ^ 1 << self._random.randrange(8))
        return bytes(left)


class PseudoTerminal:
    """A port for a host, `path`, and its other end, which a chip is connected to.

    Parameters
    ----------
    chip
        What answers.
    noise
        Damage in both directions.
    """

    def __init__(self, chip: Chip, noise: Noise | None = None) -> None:
        self._chip, self._noise = chip, noise or Noise(0)
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        # the slave stays open here, so that a host may come and go
        self.path = os.ttyname(self._slave)
        os.set_blocking(self._master, False)
        self._unsent = b""

    def pump(self, wait_seconds: float) -> None:
        """Move bytes both ways and let the chip work; while it is idle, wait for bytes up to `wait_seconds`."""
        waiting = wait_seconds if self._chip.idle and not self._unsent else 0.0
        select.select([self._master], [], [], waiting)
        data = b""
        try:
            data = os.read(self._master, _CHUNK)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
        if data or not self._chip.idle:
            self._unsent += self._noise(self._chip.exchange(self._noise(data)))
        if self._unsent:
            try:
                self._unsent = self._unsent[os.write(self._master, self._unsent) :]
            except BlockingIOError:
                select.select([], [self._master], [], wait_seconds)  # nobody reads: as much is kept as fits

    def close(self) -> None:
        """Unplug the board."""
        for descriptor in (self._master, self._slave):
            os.close(descriptor)


class BoardThread:
    """A simulated board that runs in a thread until it is closed; the port's path is `path`.

    Parameters
    ----------
    chip, noise
        See :class:`PseudoTerminal`.
    """

    def __init__(self, chip: Chip, noise: Noise | None = None) -> None:
        self._terminal = PseudoTerminal(chip, noise)
        self.path = self._terminal.path
        self.error: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="board", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Unplug the board and wait for the thread's end."""
        self._stopping.set()
        self._thread.join()

    def __enter__(self) -> BoardThread:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _serve(self) -> None:
        try:
            while not self._stopping.is_set():
                self._terminal.pump(0.02)
        except BaseException as error:
            self.error = error
        finally:
            self._terminal.close()
