"""A serial port, or anything that looks like one: bytes out, bytes in before a deadline, errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from sw.backends import BackendError, RunError

if TYPE_CHECKING:
    from serial import Serial

__all__ = ["Line", "LineLostError", "PortError", "SerialLine"]

_POLL_SECONDS = 0.02


class PortError(BackendError):
    """A port that cannot be opened."""


class LineLostError(RunError):
    """A port that went away while it was used."""


class Line(Protocol):
    """Bytes to a board and back."""

    name: str
    baud: int

    def write(self, data: bytes) -> None:
        """Send bytes; raises :class:`LineLostError`."""
        ...

    def read(self, deadline: float) -> bytes:
        """Return what has come, at least a byte, or nothing at `deadline` (of time.monotonic)."""
        ...


class SerialLine:
    """A port of pyserial, for this program alone.

    Parameters
    ----------
    name
        Device, such as ``/dev/ttyUSB0`` or ``COM3``, or a pseudo-terminal's path.
    baud
        Bits per second.

    Raises
    ------
    PortError
        If pyserial is not installed, or there is no such port, no permission, or another program uses it.
    """

    def __init__(self, name: str, baud: int) -> None:
        self.name, self.baud = name, baud
        self._port = _open(name, baud)

    def write(self, data: bytes) -> None:
        """Send bytes; raise :class:`LineLostError` if the port is gone or takes none."""
        try:
            self._port.write(data)
        except OSError as error:  # pyserial's errors are some
            raise self._lost(error) from None

    def read(self, deadline: float) -> bytes:
        """Return what has come, at least a byte, or nothing at `deadline`; raise :class:`LineLostError`."""
        while True:
            try:
                found = self._port.read(max(self._port.in_waiting, 1))
            except OSError as error:
                raise self._lost(error) from None
            if found or time.monotonic() >= deadline:
                return bytes(found)

    def close(self) -> None:
        """Give the port back."""
        self._port.close()

    def __enter__(self) -> SerialLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lost(self, error: OSError) -> LineLostError:
        return LineLostError(f"{self.name}: the port is gone ({error}): unplugged, or its simulation has ended?")


def _open(name: str, baud: int) -> Serial:
    try:
        import serial
    except ImportError:
        raise PortError("boards need pyserial: pip install 'rowcast[runtime]'") from None
    try:
        port = serial.Serial(name, baud, timeout=_POLL_SECONDS, write_timeout=10, exclusive=True)
    except ValueError as error:
        raise PortError(f"{name}: {baud} bits per second: {error}") from None
    except OSError as error:
        raise PortError(f"{name}: {_reason(error)}") from None
    # USB adapters hold bytes back for 16 ms otherwise, for which a host that waits for answers would wait each time;
    # not every system and driver has this
    with contextlib.suppress(AttributeError, NotImplementedError, OSError, ValueError):
        port.set_low_latency_mode(True)
    return port


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        from serial.tools.list_ports import comports

        ports = ", ".join(sorted(port.device for port in comports()))
        return f"no such port; there are {ports or 'none: is the board plugged in?'}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission: add yourself to the port's group (on Linux often dialout) and log in again"
    if error.errno == errno.EBUSY or "lock" in str(error):
        return "another program uses it"
    return f"no serial port ({error})"
