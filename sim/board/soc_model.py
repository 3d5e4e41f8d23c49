"""A board's SoC as generated, compiled by Verilator, with the bits of its UART driven and sampled clock by clock."""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path

from hw.emit import emit
from hw.soc.soc import Soc
from hw.spec.config import AcceleratorConfig
from hw.spec.link import GAP_BITS
from sim.verilator.build import BuildOptions, build_library
from sim.verilator.compiled import TEXT, U64, Compiled, Prototypes

__all__ = ["SocModel"]

_HARNESS = Path(__file__).parent / "harness"
_PROTOTYPES: Prototypes = {
    "put": (None, (TEXT, U64)),
    "step": (None, (U64,)),
    "now": (U64, ()),
    "quiet": (U64, ()),
    "framing_errors": (U64, ()),
    "take": (U64, (TEXT, U64)),
}
_ROOM = 4096  # bytes taken at once


class SocModel(Compiled):
    """The SoC of a board with on-chip memory; one clock, one UART.

    Parameters
    ----------
    config
        Of the accelerator.
    memory_bytes
        Memory for its DRAM regions.
    clock_hz, bit_clocks
        Clock frequency, which the identity tells, and cycles of one bit on the wire.
    cache
        Directory of built models; default as :func:`sim.verilator.build.build_library`.

    Raises
    ------
    sim.verilator.toolchain.ToolchainError
        If it cannot be built.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        memory_bytes: int,
        clock_hz: int,
        bit_clocks: int,
        cache: Path | None = None,
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="rowcast-") as folder:
            source = Path(folder) / "soc.v"
            source.write_text(emit(Soc(config, memory_bytes, clock_hz=clock_hz, bit_clocks=bit_clocks)))
            library = build_library([source], BuildOptions(harness=_HARNESS), cache=cache)
        super().__init__(library, "rb_", _PROTOTYPES, bit_clocks)
        self._bit_clocks = bit_clocks
        self._buffer = ctypes.create_string_buffer(_ROOM)

    def exchange(self, data: bytes, cycles: int = 4096) -> bytes:
        """Put bytes on the wire to the SoC after those still there, run some cycles, return what it has sent."""
        self._call("put", data, len(data))
        self._call("step", cycles)
        sent = b""
        while count := self._call("take", self._buffer, _ROOM):
            sent += self._buffer.raw[:count]
        return sent

    @property
    def idle(self) -> bool:
        """Whether the wires were quiet for so long that the SoC has forgotten any half frame."""
        return bool(self._call("quiet") > (GAP_BITS + 20) * self._bit_clocks)

    @property
    def silent(self) -> bool:
        """Whether nothing was on the wires for the time of a byte."""
        return bool(self._call("quiet") > 10 * self._bit_clocks)

    @property
    def cycles(self) -> int:
        """Clock cycles so far."""
        return int(self._call("now"))

    @property
    def framing_errors(self) -> int:
        """Bytes that the SoC has sent without a proper start or stop bit."""
        return int(self._call("framing_errors"))
