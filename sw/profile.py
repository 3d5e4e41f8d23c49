"""Command line: where a network's cycles and energy go, predicted or measured, ``python -m sw.profile NET``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.spec.config import AcceleratorConfig, ConfigError
from hw.spec.program import write_atomic
from sw.backends import BackendError, RunError
from sw.compiler import CompileError, compile_graph
from sw.drawing import need_matplotlib
from sw.measure import measure
from sw.model.authors import network_cycles
from sw.model.channels import Memory
from sw.model.energy import EnergyTable
from sw.model.figures import read_figures
from sw.model.profile import Profile, profile
from sw.model.sizes import square
from sw.model.timeline import timeline
from sw.model.trace import chrome_trace
from sw.network_graph import is_file, network_graph, untrained_arguments
from sw.options import add_compile_options, add_network_options, add_target_options, array_size, count, target
from sw.printing import show
from sw.profile_report import html, sweep_text, table_text

if TYPE_CHECKING:
    from sw.compiler.ir import Graph

__all__ = ["BACKENDS", "BASELINES", "Run", "main"]

BACKENDS = {"model": None, "rtl": "verilator"}
"""Choices, and the entry point (see :mod:`sw.backends`) of those that measure."""

BASELINES = ("im2col", "native_depthwise", "authors")
"""What a network's speed is compared with."""


@dataclass(frozen=True)
class Run:
    """A network on one accelerator.

    Parameters
    ----------
    network
        Its name.
    profile
        The run.
    source
        ``model`` if it is predicted, ``rtl`` if it is measured.
    counters
        The hardware's, if it is measured.
    energies
        Per event.
    baselines
        Cycles of what its speed is compared with, by :data:`BASELINES`; always predicted.  None: not known, or not
        asked for.
    seconds
        Time to compile, and to measure the run or (of CPU) to predict it.
    """

    network: str
    profile: Profile
    source: str
    counters: dict[str, int] | None
    energies: EnergyTable
    baselines: dict[str, int | None]
    seconds: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Return all of it but the timeline."""
        run, config = self.profile, self.profile.program.config
        return {
            "network": self.network,
            "rows": config.rows,
            "cols": config.cols,
            "stos": config.stos,
            "config_hash": config.hash_hex,
            "cycles": run.timeline.cycles,
            "macs": run.program.macs,
            "utilisation": run.utilisation,
            "source": self.source,
            "limit": run.limit,
            "baselines": self.baselines,
            "store": run.rest,
            "energy_pj": {**run.energy, "total": sum(run.energy.values())},
            "energy_figures": self.energies.to_dict(),
            "counters": self.counters,
            "compile_seconds": self.seconds[0],
            "model_seconds": self.seconds[1] if self.source == "model" else None,
            "rtl_seconds": self.seconds[1] if self.source == "rtl" else None,
            "layers": [layer.to_json(config) for layer in run.layers],
        }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sw.profile",
        description="Show cycles, utilisation, what bounds each layer, what it moves and an estimate of its energy: "
        "predicted by a model of the RTL, or measured on RTL.",
        epilog="Weights make no difference to cycles: a network of the zoo needs none and is taken untrained.  "
        "--json prints an object, with --rows and more than one size a list of them.  Exit status: 0 done, 1 the "
        "accelerator did not finish, 2 wrong usage, or a network that does not fit.",
    )
    add_network_options(parser)
    targets = add_target_options(parser)
    add_compile_options(parser)
    targets.add_argument(
        "--rows",
        type=array_size,
        nargs="+",
        metavar="N",
        help="sweep over N x N arrays with memories in proportion",
    )
    parser.add_argument(
        "--backend",
        choices=list(BACKENDS),
        default="model",
        help="model: predict the run (default); rtl: run the generated Verilog once, in Verilator",
    )
    parser.add_argument(
        "--energy",
        type=Path,
        metavar="F",
        help="JSON file with energies of events to replace, in pJ (default: 45 nm, see docs/profile.md)",
    )
    parser.add_argument(
        "--latency",
        type=count,
        default=Memory().latency,
        metavar="N",
        help="of DRAM, in cycles (default: %(default)s)",
    )
    parser.add_argument("--no-baselines", action="store_true", help="leave out the comparison with other designs")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--html", type=Path, metavar="F", help="write a report with pictures (needs rowcast[plot])")
    parser.add_argument(
        "--trace", type=Path, metavar="F", help="write when each instruction runs (Chrome trace; not with a sweep)"
    )
    return parser


def _original(arguments: dict[str, Any], graph: Graph, options: argparse.Namespace) -> Graph | None:
    """Return the depthwise network that a variant was made of, the network itself if it is none; None: not known."""
    if is_file(arguments["name"]):
        return None
    name, _, variant = arguments["name"].partition(":")
    if not variant:
        return graph
    plain = {**arguments, "name": name, "weights": None, "random_weights": name != "digits"}
    return network_graph(plain, options)


def _run(
    name: str,
    graph: Graph,
    original: Graph | None,
    config: AcceleratorConfig,
    options: argparse.Namespace,
    energies: EnergyTable,
) -> Run:
    memory, entry = Memory(latency=options.latency), BACKENDS[options.backend]
    started = time.perf_counter()
    program = compile_graph(graph, config, packing=options.packing)
    compiled = time.perf_counter()
    measured = None if entry is None else measure(program, entry, memory)
    ran, cpu = time.perf_counter(), time.process_time()
    result = profile(program, memory, measured=measured.timeline if measured else None, energies=energies)
    seconds = compiled - started, ran - compiled if measured else time.process_time() - cpu
    baselines: dict[str, int | None] = dict.fromkeys(BASELINES)
    if not options.no_baselines:
        baselines["authors"] = network_cycles(graph, config.rows, config.cols)
    if original is not None:
        for key, stos in (("im2col", False), ("native_depthwise", True)):
            twin = compile_graph(original, config.twin(stos=stos), packing=options.packing)
            baselines[key] = timeline(twin, memory).cycles
    counters = measured.counters if measured else None
    return Run(name, result, options.backend, counters, energies, baselines, seconds)


def _check(options: argparse.Namespace) -> None:
    """Refuse, before anything takes time, what cannot work."""
    if options.trace is not None and options.rows is not None and len(options.rows) > 1:
        raise ValueError(f"--trace {options.trace}: a timeline is of one array, not of a sweep over {options.rows}")
    for path in (options.html, options.trace):
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"{path}: its directory does not exist")
    if options.html is not None:
        need_matplotlib("--html")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status (2: the user's input is wrong)."""
    options = _parser().parse_args(argv)
    try:
        _check(options)
        energies = EnergyTable() if options.energy is None else read_figures(EnergyTable, options.energy)
        configs = [square(size) for size in options.rows] if options.rows else [target(options)]
        arguments = untrained_arguments(options)
        graph = network_graph(arguments, options)
        original = None if options.no_baselines else _original(arguments, graph, options)
        runs = [_run(graph.name, graph, original, config, options, energies) for config in configs]
        if options.trace is not None:
            (run,) = runs
            document = chrome_trace(run.profile.program, run.profile.timeline.trace, source=run.source)
            write_atomic(options.trace, json.dumps(document).encode())
        facts = [run.to_json() for run in runs]
        if options.html is not None:
            write_atomic(options.html, html(facts).encode())
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (BackendError, CompileError, ConfigError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        show(json.dumps(facts[0] if len(facts) == 1 else facts, indent=1))
    elif len(facts) == 1:
        show(table_text(facts[0]))
    else:
        show(sweep_text(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
