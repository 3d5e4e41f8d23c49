"""Run programs on the generated Verilog."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.accelerator import Accelerator
from hw.emit import emit
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import REGION_COUNT
from hw.spec.isa import Queue
from hw.spec.program import Program
from sim.backend import ExecutionError, Int8Array, Result, SimulationError, TraceEvent
from sim.verilator.build import BuildOptions, build_library
from sim.verilator.model import LATENCY, Model, Outcome
from sw.regions import build_regions, read_outputs
from sw.runtime.control_port import ControlPort

__all__ = ["HangError", "ProtocolError", "VerilatorBackend", "trace_of"]

REGION_SPACING = 1 << 32
"""Distance of the regions' bases: far apart, so that an address that runs off one never hits the next."""

FIRST_BASE = 0x1000_0000

INTERRUPT_DELAY = 1
"""Cycles from the last one that CYCLES counts to the end of a run, which the interrupt line shows."""


class HangError(SimulationError):
    """The program did not end within the allowed cycles; the message shows where it stands."""


class ProtocolError(SimulationError):
    """The hardware broke a rule of AXI; the message lists the violations with their cycles."""


class VerilatorBackend:
    """The accelerator as generated, compiled by Verilator, with an AXI memory behind it.

    The model is built once per configuration and kept (see :mod:`sim.verilator.build`); one backend runs any number of
    programs after each other.

    Parameters
    ----------
    config
        Hardware to generate.
    build_dir
        Directory that keeps compiled models; default ``$ROWCAST_CACHE`` or the user's cache directory.
    latency
        Cycles from an address (or the last write beat) to the first answer.
    stall_probability, seed
        Chance per cycle and channel that the memory and the control port hold back, and where that series starts.
    waves, waves_start, waves_stop
        FST file to write, and the first and one-past-last cycle in it (cycles since power-on).
    max_cycles
        Cycles after which a run is given up.
    outstanding
        AXI bursts the memory accepts per direction.
    library
        A model built elsewhere, instead of generating one.

    Raises
    ------
    sim.verilator.toolchain.ToolchainError
        If the model cannot be built.
    hw.spec.program.ProgramError
        If `library` is a model of another configuration.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        build_dir: str | Path | None = None,
        latency: int = LATENCY,
        stall_probability: float = 0.0,
        seed: int = 0,
        waves: str | Path | None = None,
        waves_start: int = 0,
        waves_stop: int | None = None,
        max_cycles: int = 1 << 28,
        outstanding: int = 16,
        library: Path | None = None,
    ) -> None:
        self.config, self.max_cycles = config, max_cycles
        if library is None:
            options = BuildOptions(traced=waves is not None)
            library = generate_library(config, options, Path(build_dir) if build_dir is not None else None)
        self.model = Model(library)
        self.set_memory(latency=latency, stall_probability=stall_probability, seed=seed, outstanding=outstanding)
        if waves is not None:
            self.model.open_waves(Path(waves), waves_start, waves_stop)
        self.port = ControlPort(self.model.read_csr, self.model.write_csr)
        self.port.check_identity(config)
        self.reset()
        self._faults: list[tuple[int, int, int, bool, bool]] = []

    def close(self) -> None:
        """Finish waves and free the model."""
        self.model.close()

    def __enter__(self) -> VerilatorBackend:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def set_memory(
        self, *, latency: int = LATENCY, stall_probability: float = 0.0, seed: int = 0, outstanding: int = 16
    ) -> None:
        """Change the memory's behaviour for further runs (parameters: see the class)."""
        self.model.configure(
            read_latency=latency,
            write_latency=latency,
            outstanding=outstanding,
            stall_probability=stall_probability,
            seed=seed,
        )

    def reset(self) -> None:
        """Reset the hardware by its reset pin and forget noted violations.

        Raises
        ------
        HangError
            If it does not become ready.
        """
        self.model.power_on()
        self.model.clear_failures()
        if not self.port.wait_ready():
            raise HangError(f"the hardware does not become ready after a reset: {self.state()}")

    def inject_fault(self, region: int, offset: int, size: int, *, reads: bool = True, writes: bool = True) -> None:
        """Answer SLVERR to accesses to bytes `offset` to `offset + size` of a region, in all further runs."""
        self._faults.append((region, offset, size, reads, writes))

    def clear_faults(self) -> None:
        """Forget the injected faults."""
        self._faults.clear()

    def run(self, program: Program, inputs: Mapping[str, Int8Array]) -> Result:
        """Run a program once (see :class:`sim.backend.Backend`).

        Raises
        ------
        ProgramError
            If the program was compiled for another configuration.
        ExecutionError
            If the accelerator stops with an error; :meth:`soft_reset` makes it ready again.
        HangError
            If it does not end within ``max_cycles``.
        ProtocolError
            If it breaks a rule of AXI.
        """
        program.check(self.config)
        return self.run_regions(program, build_regions(program, inputs))

    def run_regions(self, program: Program, regions: Sequence[npt.NDArray[np.uint8]]) -> Result:
        """Run without checking the program first, on given region contents: the hardware's own checks must hold."""
        model, port = self.model, self.port
        views = self._map(regions)
        port.set_regions([_base(index) for index in range(REGION_COUNT)], [region.size for region in regions])
        model.clear_events()
        port.start(program.instruction_count)
        outcome = model.run(self.max_cycles)
        ended = model.now
        if outcome is Outcome.VIOLATION:
            raise ProtocolError(self._take_failures())
        if outcome is Outcome.LIMIT:
            raise HangError(f"no end after {self.max_cycles} cycles: {self.state()}")
        port.acknowledge()
        status = port.fields("STATUS")
        if status["error"]:
            raise ExecutionError(*port.error())
        if not status["done"] or status["busy"]:
            raise SimulationError(f"interrupt without an end of the program: {self.state()}")
        if model.outstanding:
            raise ProtocolError(f"the accelerator says done with {model.outstanding} AXI bursts open: {self.state()}")
        counters = port.counters()
        if model.failures:
            raise ProtocolError(self._take_failures())
        images = [view.tobytes() for view in views]
        trace = trace_of(model.events(), ended - INTERRUPT_DELAY - counters["CYCLES"])
        return Result(read_outputs(program, images), images, counters, counters["CYCLES"], trace)

    def soft_reset(self) -> None:
        """Bring the accelerator back to idle after an error.

        Raises
        ------
        HangError
            If the reset does not end, or leaves the accelerator busy or in error.
        """
        finished = self.port.soft_reset()
        status = self.port.fields("STATUS")
        if not finished or status["busy"] or status["error"] or self.model.outstanding:
            raise HangError(f"soft reset did not lead to idle: {self.state()}")
        if self.model.failures:
            raise ProtocolError(self._take_failures())

    def state(self) -> str:
        """Describe where the hardware stands: status, instructions in flight, open bursts, the last trace events."""
        status = " ".join(f"{name}={value}" for name, value in self.port.fields("STATUS").items())
        events = self.model.events()
        flying = []
        for queue in Queue:
            mine = events[events["unit"] == queue]
            done = int((mine["kind"] == 1).sum())
            open_pcs = [int(pc) for pc in mine["pc"][mine["kind"] == 0]][done:]
            flying.append(f"{queue.name.lower()} {done} done, in flight {open_pcs or 'none'}")
        last = ", ".join(
            f"{event['cycle']}: {Queue(event['unit']).name.lower()} {('start', 'done')[event['kind']]} pc {event['pc']}"
            for event in events[-8:]
        )
        return (
            f"cycle {self.model.now}; STATUS {status}; {'; '.join(flying)}; {self.model.outstanding} AXI bursts open; "
            f"last events: {last or 'none'}"
        )

    def _map(self, regions: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
        self.model.unmap_all()
        views = []
        for index, region in enumerate(regions):
            # Whole beats around the region exist in memory, as they do on a board; the slack reads as 0.
            size = -(-max(region.size, 1) // self.config.axi_bytes) * self.config.axi_bytes
            view = self.model.map(_base(index), size)[: region.size]
            view[:] = region
            views.append(view)
        for region_index, offset, size, reads, writes in self._faults:
            self.model.fault(_base(region_index) + offset, size, reads=reads, writes=writes)
        return views

    def _take_failures(self) -> str:
        text = self.model.failures
        self.model.clear_failures()
        return f"AXI rules broken:\n{text}"


def generate_library(config: AcceleratorConfig, options: BuildOptions, cache: Path | None = None) -> Path:
    """Generate a configuration's Verilog and return its compiled model."""
    with tempfile.TemporaryDirectory(prefix="rowcast-") as folder:
        source = Path(folder) / "rowcast.v"
        source.write_text(emit(Accelerator(config), reset_low=config.reset_low))
        return build_library([source], options, cache=cache)


def trace_of(events: npt.NDArray[Any], origin: int) -> list[TraceEvent]:
    """Pair starts and ends of instructions; cycles count from `origin`, the start command.

    Unfinished instructions are left out.
    """
    trace = []
    for queue in Queue:
        mine = events[events["unit"] == queue]
        starts, ends = mine[mine["kind"] == 0], mine[mine["kind"] == 1]
        trace += [
            TraceEvent(queue, int(start["pc"]), int(start["cycle"]) - origin, int(end["cycle"]) - origin)
            for start, end in zip(starts, ends, strict=False)
        ]
    return sorted(trace, key=lambda event: (event.start, event.queue))


def _base(region: int) -> int:
    return FIRST_BASE + region * REGION_SPACING
