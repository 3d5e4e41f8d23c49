"""A board as a backend (:mod:`sw.backends`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from hw.spec.config import AcceleratorConfig
from hw.spec.link import BAUD
from hw.spec.program import Program
from sw.regions import Int8Array
from sw.runtime.board_link import BoardLink, Progress
from sw.runtime.device import BoardResult, Device
from sw.runtime.serial_line import PortError, SerialLine

__all__ = ["PORT_VARIABLE", "BoardBackend"]

PORT_VARIABLE = "ROWCAST_PORT"
"""Environment variable that names the port where no option does."""


class BoardBackend:
    """An accelerator behind a serial port; what runs one after the other shares the constants in its memory.

    Parameters
    ----------
    config
        Configuration the board's bitstream was made for, or that is expected; compared by hash.
    port, baud
        Serial port, by default the one that ``ROWCAST_PORT`` names, and bits per second.
    timeout
        Seconds that the board may take to answer.
    seconds
        After which a run is given up.
    upload
        Gives the progress callback of a program's upload.

    Raises
    ------
    PortError
        If there is no port, or it cannot be opened.
    BoardError
        If there is no board, or another.
    ProgramError
        If its accelerator has another configuration.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        port: str | None = None,
        baud: int = BAUD,
        timeout: float = 1.0,
        seconds: float = 60.0,
        upload: Callable[[], AbstractContextManager[Progress | None]] = nullcontext,
    ) -> None:
        self._seconds, self._upload = seconds, upload
        name = port or os.environ.get(PORT_VARIABLE)
        if not name:
            raise PortError(f"no port is named: give --port DEV, or set {PORT_VARIABLE}")
        self._line = SerialLine(name, baud)
        try:
            self.link = BoardLink(self._line, timeout=timeout)
            self.device = Device(self.link, config)
            self.device.port.check_identity(config)
        except BaseException:
            self._line.close()
            raise

    def run(self, program: Program, inputs: Mapping[str, Int8Array]) -> BoardResult:
        """Run a program once; see :meth:`sw.runtime.device.Device.run`."""
        return self.device.run(program, inputs, seconds=self._seconds, upload=self._upload)

    def close(self) -> None:
        """Give the port back."""
        self._line.close()

    def __enter__(self) -> BoardBackend:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
