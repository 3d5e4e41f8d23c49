"""What every way of running a program has in common: its result, its errors, its interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from hw.spec.program import Program
from sw.backends import AcceleratorError, RunError
from sw.model.trace import TraceEvent
from sw.regions import Int8Array

__all__ = ["Backend", "ExecutionError", "Int8Array", "Result", "SimulationError", "TraceEvent", "UndefinedError"]


class SimulationError(RunError):
    """A run that could not be finished."""


class ExecutionError(AcceleratorError, SimulationError):
    """The simulated accelerator stopped in its error state."""


class UndefinedError(SimulationError):
    """The program relies on something that the ISA leaves undefined; the hardware would not notice.

    Parameters
    ----------
    pc
        Index of the instruction.
    detail
        The rule that is broken, with values.
    """

    def __init__(self, pc: int, detail: str) -> None:
        self.pc, self.detail = pc, detail
        super().__init__(f"instruction {pc}: {detail}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.pc, self.detail)


@dataclass(frozen=True)
class Result:
    """What a run leaves behind.

    Parameters
    ----------
    outputs
        Output tensors by name, int8 (channels, height, width).
    regions
        The four DRAM regions after the run, by :class:`~hw.spec.isa.Region`.
    counters
        Performance counters by :class:`~hw.spec.csr.Counter` name; empty where there is no clock.
    cycles
        Clock cycles from start to done, measured; None where there is no clock.
    trace
        When each instruction ran; empty where there is no clock.
    """

    outputs: dict[str, Int8Array]
    regions: list[bytes]
    counters: dict[str, int] = field(default_factory=dict)
    cycles: int | None = None
    trace: list[TraceEvent] = field(default_factory=list)


@runtime_checkable
class Backend(Protocol):
    """Anything that runs programs."""

    def run(self, program: Program, inputs: Mapping[str, Int8Array]) -> Result:
        """Run a program once on int8 inputs (by tensor name, shape (channels, height, width)).

        Raises
        ------
        hw.spec.program.ProgramError
            If the program was compiled for another configuration.
        sw.regions.InputError
            If an input is missing, unknown, or of the wrong shape or type.
        ExecutionError
            If the accelerator stops with an error.
        """
        ...
