"""The gate-level netlist runs programs: ``python -m sim.netlist``.

The accelerator is synthesised, and the netlist, its memories as behavioural modules, runs the digits network and random
programs in the Verilator bench of the RTL.  Every byte of DRAM must equal the ISS and the RTL, every counter the RTL.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from hw.errors import ToolError
from hw.gates import gate_verilog
from hw.generate import accelerator_verilog
from hw.report.liberty import Liberty
from hw.spec.config import PRESETS, AcceleratorConfig, preset
from hw.spec.isa import Region
from hw.spec.program import Program
from sim.backend import Int8Array, SimulationError
from sim.iss import IssBackend
from sim.random_programs import random_inputs, random_program
from sim.verilator.backend import VerilatorBackend
from sim.verilator.build import BuildOptions, build_library
from sim.verilator.toolchain import ToolchainError

__all__ = ["Case", "Run", "compare", "digits_case", "main", "netlist_backend", "random_cases"]


@dataclass(frozen=True)
class Case:
    """A program and its inputs."""

    name: str
    program: Program
    inputs: dict[str, Int8Array]


@dataclass(frozen=True)
class Run:
    """A program on netlist, RTL and ISS.

    Parameters
    ----------
    name
        Of the program.
    instructions, macs
        Of the program.
    cycles, rtl_cycles
        Clock cycles on the netlist and on the RTL.
    compared
        Bytes of DRAM compared.
    differences
        Regions and counters that differ, in words; empty if none.
    """

    name: str
    instructions: int
    macs: int
    cycles: int
    rtl_cycles: int
    compared: int
    differences: tuple[str, ...]


def digits_case(config: AcceleratorConfig) -> Case:
    """Return the digits FuSe-Half network with the first test picture."""
    # torch takes seconds to import, which --help and wrong options need not wait for
    from sw.compiler import compile_graph
    from sw.frontends.networks import quantised_network
    from sw.frontends.torch_export import import_program
    from sw.nn.digits import digits_data
    from sw.regions import quantise_input

    network = quantised_network("digits:fuse_half")
    graph = import_program(network.exported, name=network.name, meta=network.meta)
    program = compile_graph(graph, config)
    (spec,) = program.inputs
    return Case("digits:fuse_half", program, {spec.name: quantise_input(spec, digits_data()[2][0])})


def random_cases(config: AcceleratorConfig, count: int) -> Iterator[Case]:
    """Yield random programs that use every mode and kind of instruction."""
    for seed in range(count):
        program = random_program(config, seed)
        yield Case(f"random program {seed}", program, random_inputs(program, seed))


@contextmanager
def netlist_backend(config: AcceleratorConfig, verilog: str, *, options: BuildOptions) -> Iterator[VerilatorBackend]:
    """Build a simulator of a netlist (see :func:`hw.gates.gate_verilog`)."""
    with tempfile.TemporaryDirectory(prefix="rowcast-") as folder:
        source = Path(folder, "netlist.v")
        source.write_text(verilog)
        library = build_library([source], options)
    with VerilatorBackend(config, library=library) as backend:
        yield backend


def compare(case: Case, netlist: VerilatorBackend, rtl: VerilatorBackend) -> Run:
    """Run a program on both and on the ISS."""
    golden = IssBackend(rtl.config).run(case.program, case.inputs)
    mine, other = netlist.run(case.program, case.inputs), rtl.run(case.program, case.inputs)
    wrong = []
    for region in Region:
        wrong += [
            f"region {region.name} is not that of the {name}"
            for name, result in (("ISS", golden), ("RTL", other))
            if mine.regions[region] != result.regions[region]
        ]
    wrong += [
        f"counter {name}: {value}, on the RTL {other.counters[name]}"
        for name, value in mine.counters.items()
        if value != other.counters[name]
    ]
    assert mine.cycles is not None and other.cycles is not None  # RTL always counts
    program, compared = case.program, sum(map(len, mine.regions))
    return Run(
        case.name, program.instruction_count, program.macs, mine.cycles, other.cycles, compared, tuple(wrong)
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.netlist",
        description="Run the digits network and random programs on the synthesised netlist, the RTL and the ISS.",
        epilog="The first run synthesises and builds a simulator, which takes minutes; both are kept.",
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="tiny", help="accelerator (default: %(default)s)")
    parser.add_argument("--no-stos", action="store_true", help="the plain array")
    parser.add_argument("--liberty", type=Path, metavar="F", help="cell library, .lib[.gz] (default: generic gates)")
    parser.add_argument(
        "--modules", nargs="+", metavar="M", default=["*"], help="modules that become gates (patterns; default: all)"
    )
    parser.add_argument("--random", type=int, default=8, metavar="N", help="random programs (default: %(default)s)")
    parser.add_argument("--no-network", action="store_true", help="random programs only")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 equal, 1 something differs, 2 wrong request or tool."""
    options = _parser().parse_args(argv)
    started = time.monotonic()

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {text}", file=sys.stderr, flush=True)

    config = preset(options.preset).twin(stos=not options.no_stos)
    try:
        liberty = Liberty.read(options.liberty) if options.liberty else None
        gates = gate_verilog(accelerator_verilog(config), liberty, modules=options.modules, progress=tell)
        cases = [] if options.no_network else [digits_case(config)]
        cases += random_cases(config, options.random)
        quick = BuildOptions(quick=True)
        with netlist_backend(config, gates, options=quick) as netlist, VerilatorBackend(config) as rtl:
            runs = [compare(case, netlist, rtl) for case in cases]
    except (ToolError, ToolchainError, SimulationError, ValueError) as error:
        print(f"sim.netlist: {error}", file=sys.stderr)
        return 2
    equal = all(not run.differences for run in runs)
    if options.json:
        cells = liberty.name if liberty else "generic"
        print(json.dumps({"preset": options.preset, "stos": config.stos, "cells": cells, "modules": options.modules,
                          "equal": equal, "runs": [asdict(run) for run in runs]}))  # fmt: skip
        return 0 if equal else 1
    print(f"{'program':20} {'instructions':>12} {'MACs':>9} {'cycles':>8} {'on RTL':>8} {'bytes':>8}  result")
    for run in runs:
        print(
            f"{run.name:20} {run.instructions:12,} {run.macs:9,} {run.cycles:8,} {run.rtl_cycles:8,} {run.compared:8,} "
            + f" {'; '.join(run.differences) or 'equal'}"
        )
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
