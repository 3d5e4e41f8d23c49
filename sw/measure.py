"""Runs of compiled programs on hardware, measured: cycles, counters, and when each instruction ran."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from hw.spec.program import Program
from sw.backends import BackendError, RunError, find_backend
from sw.model.channels import Memory
from sw.model.timeline import Timeline
from sw.random_inputs import random_inputs

__all__ = ["Measured", "measure"]


@dataclass(frozen=True)
class Measured:
    """A run on hardware.

    Parameters
    ----------
    timeline
        Its cycles, and when each instruction ran.
    counters
        The hardware's own, by :class:`hw.spec.csr.Counter` name.
    """

    timeline: Timeline
    counters: dict[str, int]


def measure(program: Program, backend: str, memory: Memory | None = None) -> Measured:
    """Run a program once, on random inputs: cycles do not depend on them.

    Parameters
    ----------
    program
        What to run.
    backend
        Entry point (see :mod:`sw.backends`) of one with a clock and a memory of adjustable latency.
    memory
        Behind the bus.

    Raises
    ------
    sw.backends.BackendError
        If there is no such backend, it cannot be built, or it has no clock.
    sw.backends.RunError
        If the run fails.
    """
    memory = memory or Memory()
    factory = find_backend(backend)
    with ExitStack() as closing:
        try:
            made = factory(program.config, latency=memory.latency, outstanding=memory.outstanding)
        except (RuntimeError, TypeError) as error:
            raise BackendError(f"{backend}: {error}") from error
        if isinstance(made, AbstractContextManager):
            closing.enter_context(made)
        try:
            outcome = made.run(program, random_inputs(program))
        except RuntimeError as error:
            raise RunError(f"the accelerator did not finish: {error}") from error
    cycles, trace = getattr(outcome, "cycles", None), getattr(outcome, "trace", None)
    if cycles is None or not trace:
        raise BackendError(f"{backend} has no clock, or keeps no record of when instructions run")
    return Measured(Timeline(cycles, list(trace)), dict(getattr(outcome, "counters", {})))
