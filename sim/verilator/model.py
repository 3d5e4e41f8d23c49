"""A compiled model in this process: thin, typed calls into the harness's C API."""

from __future__ import annotations

import ctypes
import enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.verilator.compiled import INT, POINTER, TEXT, U32, U64, Compiled, Prototypes

__all__ = ["EVENT_DTYPE", "LATENCY", "ControlPortError", "Model", "Outcome"]

LATENCY = 64
"""Cycles from an address to the first data of simulated DRAM, and from the last data to its answer, by default."""

EVENT_DTYPE = np.dtype([("cycle", "<u8"), ("pc", "<u4"), ("unit", "u1"), ("kind", "u1"), ("unused", "u1", 2)])
"""One trace event: cycle, instruction index, unit (:class:`hw.spec.isa.Queue`), kind (0 start, 1 done)."""

_PROTOTYPES: Prototypes = {
    "power_on": (None, ()),
    "configure": (None, (U32, U32, U32, ctypes.c_double, U64)),
    "map": (POINTER, (U64, U64)),
    "unmap_all": (None, ()),
    "fault": (None, (U64, U64, INT, INT)),
    "csr_read": (INT, (U32, ctypes.POINTER(U32))),
    "csr_write": (INT, (U32, U32)),
    "run": (INT, (U64,)),
    "step": (None, (U64,)),
    "irq": (INT, ()),
    "now": (U64, ()),
    "outstanding": (U32, ()),
    "read_beats": (U64, ()),
    "write_beats": (U64, ()),
    "failure_count": (U64, ()),
    "failure_text": (TEXT, ()),
    "clear_failures": (None, ()),
    "event_count": (U64, ()),
    "events": (POINTER, ()),
    "clear_events": (None, ()),
    "open_waves": (INT, (TEXT, U64, U64)),
    "close_waves": (None, ()),
}


class Outcome(enum.IntEnum):
    """Why :meth:`Model.run` returned."""

    INTERRUPT = 0
    LIMIT = 1
    VIOLATION = 2


class ControlPortError(RuntimeError):
    """The control port did not answer, or answered with an error response."""


class Model(Compiled):
    """One instance of a compiled model with its memory; several may live beside each other.

    After :meth:`close`, regions returned by :meth:`map` are invalid.

    Parameters
    ----------
    library
        What :func:`sim.verilator.build.build_library` returned.
    """

    def __init__(self, library: Path) -> None:
        super().__init__(library, "rc_", _PROTOTYPES)

    # --- memory ------------------------------------------------------------------------------------------------------

    def configure(
        self,
        *,
        read_latency: int = LATENCY,
        write_latency: int = LATENCY,
        outstanding: int = 16,
        stall_probability: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Set the memory's latencies (cycles), open bursts per direction, and random stalls of every channel."""
        self._call("configure", read_latency, write_latency, outstanding, stall_probability, seed)

    def map(self, base: int, size: int) -> npt.NDArray[np.uint8]:
        """Map `size` bytes at `base`; the array *is* the memory, valid until :meth:`unmap_all` or :meth:`close`."""
        pointer = ctypes.cast(self._call("map", base, size), ctypes.POINTER(ctypes.c_uint8))
        return np.ctypeslib.as_array(pointer, (size,))

    def unmap_all(self) -> None:
        """Forget all regions and faults; every address answers DECERR."""
        self._call("unmap_all")

    def fault(self, base: int, size: int, *, reads: bool = True, writes: bool = True) -> None:
        """Answer SLVERR to accesses that touch the range."""
        self._call("fault", base, size, reads, writes)

    # --- running -----------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Reset the design; memory keeps its bytes."""
        self._call("power_on")

    def run(self, cycles: int) -> Outcome:
        """Run until the interrupt, a protocol violation, or for `cycles` cycles."""
        return Outcome(self._call("run", cycles))

    def step(self, cycles: int) -> None:
        """Run exactly `cycles` cycles."""
        self._call("step", cycles)

    @property
    def irq(self) -> bool:
        """The interrupt line."""
        return bool(self._call("irq"))

    @property
    def now(self) -> int:
        """Cycles since the model was made."""
        return self._call("now")

    @property
    def outstanding(self) -> int:
        """AXI bursts without a complete answer."""
        return self._call("outstanding")

    @property
    def beats(self) -> tuple[int, int]:
        """AXI beats (read, written) since the model was made."""
        return self._call("read_beats"), self._call("write_beats")

    def read_csr(self, addr: int) -> int:
        """Read a register over AXI4-Lite; raise :class:`ControlPortError` on an error response."""
        data = U32()
        self._check(self._call("csr_read", addr, ctypes.byref(data)), "read", addr)
        return data.value

    def write_csr(self, addr: int, value: int) -> None:
        """Write a register over AXI4-Lite; raise :class:`ControlPortError` on an error response."""
        self._check(self._call("csr_write", addr, value), "write", addr)

    @staticmethod
    def _check(response: int, what: str, addr: int) -> None:
        if response:
            answer = "no answer" if response < 0 else f"response {response}"
            raise ControlPortError(f"{what} of register 0x{addr:03x}: {answer}")

    # --- observation -------------------------------------------------------------------------------------------------

    @property
    def failures(self) -> str:
        """Protocol violations so far, one line each; empty if none."""
        return self._call("failure_text").decode()

    def clear_failures(self) -> None:
        """Forget the violations."""
        self._call("clear_failures")

    def events(self) -> npt.NDArray[Any]:
        """Return the trace events so far, as :data:`EVENT_DTYPE`."""
        count = self._call("event_count")
        if not count:
            return np.empty(0, EVENT_DTYPE)
        raw = (ctypes.c_uint8 * (count * EVENT_DTYPE.itemsize)).from_address(self._call("events"))
        return np.frombuffer(raw, EVENT_DTYPE).copy()

    def clear_events(self) -> None:
        """Forget the trace events."""
        self._call("clear_events")

    def open_waves(self, path: Path, start: int = 0, stop: int | None = None) -> None:
        """Write FST waves of cycles `start` <= now < `stop`; needs a library built with ``traced``.

        Raises
        ------
        RuntimeError
            If the library has no waves compiled in or the file cannot be written.
        """
        if not path.parent.is_dir():
            raise RuntimeError(f"{path}: cannot write waves, there is no directory {path.parent}")
        if not self._call("open_waves", str(path).encode(), start, (1 << 64) - 1 if stop is None else stop):
            raise RuntimeError(f"{path}: cannot write waves: the library was built without (BuildOptions.traced)")

    def close_waves(self) -> None:
        """Finish the wave file."""
        self._call("close_waves")
