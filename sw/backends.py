"""What runs programs, found by entry points, because this package is independent of the simulators.

A backend is a class named in the group :data:`GROUP` of ``pyproject.toml``.  It is created with the configuration of
the accelerator and runs programs; ``sim`` brings the instruction set simulator and Verilator, :mod:`sw.runtime` boards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import distributions
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hw.spec.csr import ERROR_HELP, ErrorCause
from hw.spec.program import Program

__all__ = [
    "GROUP",
    "AcceleratorError",
    "Backend",
    "BackendError",
    "Factory",
    "Outcome",
    "RunError",
    "find_backend",
]

GROUP = "rowcast.backends"
"""Entry points: name to ``module:class``."""


class BackendError(RuntimeError):
    """A backend that is not installed or cannot be built."""


class RunError(RuntimeError):
    """A run that a backend did not finish."""


class AcceleratorError(RunError):
    """The accelerator stopped in its error state.

    Parameters
    ----------
    cause
        Register ERR_CAUSE.
    pc
        Register ERR_PC: index of the instruction that failed.
    info
        Register ERR_INFO: offending address or value, low 32 bits.
    detail
        What the backend knows beyond the registers (field, value, limit).
    """

    def __init__(self, cause: ErrorCause, pc: int, info: int = 0, detail: str = "") -> None:
        self.cause, self.pc, self.info, self.detail = ErrorCause(cause), pc, info & 0xFFFF_FFFF, detail
        shown = detail or f"info 0x{self.info:08x}"
        super().__init__(f"instruction {pc}: {self.cause.name}: {ERROR_HELP[self.cause]} ({shown})")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.cause, self.pc, self.info, self.detail)


class Outcome(Protocol):
    """What a run returns, and perhaps more."""

    @property
    def outputs(self) -> Mapping[str, npt.NDArray[np.int8]]:
        """Output tensors by name, (channels, height, width)."""
        ...


class Backend(Protocol):
    """Anything that runs programs."""

    def run(self, program: Program, inputs: Mapping[str, npt.NDArray[np.int8]]) -> Outcome:
        """Run a program once on inputs by name, (channels, height, width); raises RuntimeError if that fails."""
        ...


Factory = Callable[..., Backend]
"""Makes a backend for an :class:`~hw.spec.config.AcceleratorConfig`; raises RuntimeError if a tool is missing.

Keywords are the backend's own; those with a clock take ``latency`` and ``outstanding`` of the memory, and their outcome
has ``cycles``, ``counters`` and ``trace`` (see :class:`sw.model.trace.TraceEvent`)."""


def find_backend(name: str) -> Factory:
    """Return a backend's class.

    Raises
    ------
    BackendError
        If there is none of that name, or what it needs is not installed.
    """
    # not entry_points(): of several distributions of one name, such as an old build's metadata in the source tree, it
    # sees only the first
    known = {entry.name: entry for found in distributions() for entry in found.entry_points.select(group=GROUP)}
    if name not in known:
        raise BackendError(
            f"no backend {name!r} among the entry points {GROUP} ({', '.join(sorted(known)) or 'none'}); the "
            f"installation is older than the source: reinstall with pip install --no-deps -e ."
        )
    try:
        factory: Factory = known[name].load()
    except (ImportError, AttributeError) as error:
        raise BackendError(f"backend {name} ({known[name].value}) cannot be loaded: {error}") from None
    return factory
