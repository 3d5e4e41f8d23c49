"""Run programs on the generated Verilog in cocotb, with AXI models that are not ours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hw.accelerator import Accelerator
from hw.spec.config import AcceleratorConfig
from hw.spec.csr import Counter
from hw.spec.program import Program
from sim.backend import ExecutionError, Int8Array, Result, SimulationError
from sim.cocotb.runner import run_bench
from sim.verilator.toolchain import ToolchainError
from sw.regions import build_regions, read_outputs

__all__ = ["CocotbBackend"]

_BASES = (0x1000_0000, 0x2000_0000, 0x4000_0000, 0x8000_0000)


class CocotbBackend:
    """The accelerator with cocotbext-axi's RAM and AXI4-Lite manager: slow, and independent of our own harness.

    Parameters
    ----------
    config
        Hardware to generate.
    stall_probability, seed
        Chance per cycle and channel of back-pressure, and where that series starts.
    timeout_cycles
        Cycles after which a run is given up.
    unsupported
        Options of :class:`sim.verilator.backend.VerilatorBackend` that cocotbext-axi's memory or cocotb's runner lack.

    Raises
    ------
    ToolchainError
        If there is any in `unsupported`.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        stall_probability: float = 0.0,
        seed: int = 0,
        timeout_cycles: int = 1_000_000,
        **unsupported: object,
    ) -> None:
        if unsupported:
            names = ", ".join(unsupported)
            raise ToolchainError(f"the cocotb backend has no option {names}; the verilator backend has")
        self.config, self.stall_probability, self.seed = config, stall_probability, seed
        self.timeout_cycles = timeout_cycles

    def run(self, program: Program, inputs: Mapping[str, Int8Array]) -> Result:
        """Run a program once (see :class:`sim.backend.Backend`).

        Raises
        ------
        ProgramError
            If the program was compiled for another configuration.
        ExecutionError
            If the accelerator stops with an error.
        sim.cocotb.runner.BenchFailure
            If the bench finds a fault or the time runs out.
        """
        program.check(self.config)
        regions = build_regions(program, inputs)
        got = run_bench(
            lambda: Accelerator(self.config),
            "sim.cocotb.bench_accelerator",
            parameters={
                "bases": _BASES,
                "sizes": [region.size for region in regions],
                "instruction_count": program.instruction_count,
                "stall": self.stall_probability,
                "seed": self.seed,
            },
            arrays={f"region{index}": region for index, region in enumerate(regions)},
            reset_low=self.config.reset_low,
            # Icarus reads X out of memories never written, and 0 * X is X: the PEs, which have no reset, never recover.
            simulator="verilator",
            timeout_cycles=self.timeout_cycles,
        )
        done, error, cause, pc, info = (int(value) for value in got["status"])
        if error:
            raise ExecutionError(cause, pc, info)
        if not done:
            raise SimulationError("interrupt, but STATUS shows neither done nor an error")
        images = [got[f"region{index}"].astype(np.uint8).tobytes() for index in range(len(regions))]
        counters = {counter.name: int(value) for counter, value in zip(Counter, got["counters"], strict=True)}
        return Result(read_outputs(program, images), images, counters, counters["CYCLES"])
