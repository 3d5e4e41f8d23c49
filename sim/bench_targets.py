"""Whole networks on RTL beside their targets: ``python -m sim.bench_targets``, part of ``nox -s bench``.

Every cell of the table is a whole network on a preset's generated Verilog, on random pixels and weights, which make no
difference to cycles.  What has been measured is kept in ``results.json`` and measured again only if the program, the
hardware or the ISS has changed; causes and bounds are worked out anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from hw.spec.config import ConfigError, preset
from hw.spec.isa import Queue
from hw.spec.program import Program, write_atomic
from sim.backend import Int8Array, SimulationError, TraceEvent
from sim.bench_causes import causes
from sim.bench_report import document, explanation, table
from sim.comparison import compare_regions
from sim.iss import IssBackend
from sim.measurements import Measurements, Row, golden_sources
from sim.memory import LATENCY
from sim.verilator.backend import VerilatorBackend, generate_library
from sim.verilator.build import BuildOptions, build_seconds
from sim.verilator.toolchain import ToolchainError
from sim.whole_cases import Case
from sw.model.authors import network_cycles
from sw.model.bound import layer_sizes

if TYPE_CHECKING:
    from sw.compiler.ir import Graph

__all__ = ["TARGETS", "Bench", "Targets", "main"]

TARGETS = Path(__file__).parents[1] / "bench" / "targets.json"
"""Targets, bounds and closed form in thousand cycles, by network and preset, and where they are from."""

_ERRORS = (ConfigError, ToolchainError, SimulationError, OSError, ValueError)


@dataclass(frozen=True)
class Targets:
    """The data file of targets.

    Parameters
    ----------
    facts
        Its ``source`` and ``remark``.
    cells
        By network and preset: ``authors``, ``target`` and ``bound`` in thousand cycles.
    """

    facts: dict[str, str]
    cells: dict[str, dict[str, dict[str, float]]]

    @classmethod
    def read(cls, path: Path) -> Targets:
        """Read a file.

        Raises
        ------
        ValueError, OSError
            If it cannot be read or lacks something.
        """
        try:
            data = json.loads(path.read_text())
            cells = {
                network: {
                    name: {key: float(cell[key]) for key in ("authors", "target", "bound")}
                    for name, cell in row.items()
                }
                for network, row in data["networks"].items()
            }
            return cls({key: str(data[key]) for key in ("source", "remark")}, cells)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: no file of targets ({type(error).__name__}: {error})") from None

    def cases(self, networks: Sequence[str] | None, presets: Sequence[str] | None) -> list[Case]:
        """Return the cells of some networks and presets (None: all), in the file's order.

        Raises
        ------
        ValueError
            If one is not in the file.
        """
        known = list(dict.fromkeys(name for row in self.cells.values() for name in row))
        for what, asked, there in (("network", networks, list(self.cells)), ("preset", presets, known)):
            for name in asked or ():
                if name not in there:
                    raise ValueError(f"{what} {name!r} has no targets; those are of {', '.join(there)}")
        return [
            Case(network, name)
            for network, row in self.cells.items()
            for name in row
            if (networks is None or network in networks) and (presets is None or name in presets)
        ]


class Bench:
    """Measures cells and keeps the figures in a folder.

    Parameters
    ----------
    targets
        What to compare with.
    out
        Folder for results.
    fresh
        Measure again what has been measured.
    console
        Where progress goes.
    """

    def __init__(self, targets: Targets, out: Path, fresh: bool, console: Console) -> None:
        self.targets, self.console = targets, console
        out.mkdir(parents=True, exist_ok=True)
        if fresh:
            (out / "results.json").unlink(missing_ok=True)
        self.measurements = Measurements(out / "results.json")
        self._graphs: dict[str, Graph] = {}
        self._libraries: dict[str, Path] = {}

    def run(self, case: Case, place: str) -> Row:
        """Return the finished row of a cell, measured now or before."""
        program = self._compile(case, place)
        if case.preset not in self._libraries:
            self._tell(place, case, "generating Verilog, building the simulator if it is new")
            self._libraries[case.preset] = generate_library(case.config, BuildOptions())
        library = self._libraries[case.preset]
        identity = _identity(program, library)
        row = self.measurements.find(case, identity)
        if row is None:
            self._tell(place, case, "running on RTL")
            row = {"identity": identity, "build_seconds": build_seconds(library), **_measure(program, library)}
            self.measurements.keep(case, row)
        finished = self._finish(case, program, row)
        ratio = finished["cycles"] / finished["target"]
        self._tell(place, case, f"{row['cycles']:,} cycles, {ratio:.2f} of the target" + _verdict(row))
        return finished

    def _tell(self, place: str, case: Case, text: str) -> None:
        self.console.print(f"{place} {case}: {text}")

    def _compile(self, case: Case, place: str) -> Program:
        from sw.compiler import compile_graph

        if case.network not in self._graphs:
            self._tell(place, case, "quantising")
            self._graphs = {case.network: _graph(case.network)}
        return compile_graph(self._graphs[case.network], case.config)

    def _finish(self, case: Case, program: Program, row: Row) -> Row:
        """Add to what was measured what it is compared with, and the causes."""
        graph, config = self._graphs[case.network], case.config
        bounds = {sizes.name: sizes.bound(config.rows, config.cols) for sizes in layer_sizes(graph)}
        cell = self.targets.cells[case.network][case.preset]
        execs = [TraceEvent(Queue.EXEC, *event) for event in row["execs"]]
        return {
            "network": case.network,
            "preset": case.preset,
            "rows": config.rows,
            "cols": config.cols,
            "source": "rtl",
            "target": 1000 * cell["target"],
            "bound": sum(bounds.values()),
            "authors": network_cycles(graph, config.rows, config.cols),
            "expected": {"bound": 1000 * cell["bound"], "authors": 1000 * cell["authors"]},
            "causes": causes(program, execs, row["cycles"], bounds),
            **{key: value for key, value in row.items() if key not in ("execs", "identity")},
        }


def _graph(network: str) -> Graph:
    """Return a network with random weights, quantised; the same ones every time."""
    from sw.frontends.networks import quantised_network
    from sw.frontends.torch_export import import_program

    found = quantised_network(network, random_weights=network.partition(":")[0] != "digits")
    return import_program(found.exported, name=found.name, meta=found.meta)


def _inputs(program: Program) -> dict[str, Int8Array]:
    rng = np.random.default_rng(0)
    return {spec.name: rng.integers(-128, 128, spec.shape, dtype=np.int8) for spec in program.inputs}


def _identity(program: Program, library: Path) -> str:
    # a library's folder is named after all that it was built of
    digest = hashlib.sha256(f"{program.config.hash_hex} {library.parent.name} {LATENCY}".encode())
    for part in (program.image, *golden_sources()):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _measure(program: Program, library: Path) -> Row:
    """Run a program on RTL and on the ISS; return the figures, and when its EXECs ran."""
    inputs = _inputs(program)
    with VerilatorBackend(program.config, library=library, latency=LATENCY) as rtl:
        started = time.perf_counter()
        result = rtl.run(program, inputs)
        seconds = time.perf_counter() - started
    expected = IssBackend(program.config).run(program, inputs)
    return {
        "cycles": result.cycles,
        "macs": program.macs,
        "seconds": seconds,
        "counters": result.counters,
        "differences": list(compare_regions(program, result.regions, expected.regions).differences),
        "execs": [[e.pc, e.start, e.done] for e in result.trace if e.queue == Queue.EXEC],
    }


def _verdict(row: Row) -> str:
    return f"; RTL DIFFERS from the ISS: {'; '.join(row['differences'][:3])}" if row["differences"] else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.bench_targets",
        description="Measure whole networks on generated RTL in Verilator, and print their cycles beside targets, "
        "port bound and the FuSeConv authors' closed form; where a target is missed, with causes in cycles.",
        epilog="An interrupted run goes on where it was.  Exit status: 0 all measured, 1 a network could not be run or "
        "RTL and ISS differ, 2 wrong usage.",
    )
    parser.add_argument("--networks", nargs="+", metavar="NETWORK", help="rows of the table (default: all)")
    parser.add_argument("--presets", nargs="+", metavar="PRESET", help="columns of the table (default: all)")
    parser.add_argument("--targets", type=Path, default=TARGETS, metavar="F", help="data file (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results/bench"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="measure again what has been measured")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--markdown", type=Path, metavar="F", help="write the page with table and causes to a file too")
    return parser


def _print(rows: Sequence[Row], errors: Mapping[str, str], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"source": "rtl", "memory_latency": LATENCY, "rows": rows, "errors": errors}, indent=1))
        return
    Console(width=160, highlight=False).print(table(rows))
    for row in rows:
        if row["cycles"] > row["target"]:
            print(explanation(row))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status."""
    options = _parser().parse_args(argv)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        if options.markdown is not None and not options.markdown.parent.is_dir():
            raise FileNotFoundError(f"{options.markdown}: its directory does not exist")
        targets = Targets.read(options.targets)
        cases = targets.cases(options.networks, options.presets)
        for case in cases:
            preset(case.preset)
        bench = Bench(targets, options.out, options.fresh, console)
    except _ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    errors = {}
    for number, case in enumerate(cases, 1):
        try:
            rows.append(bench.run(case, f"[{number}/{len(cases)}]"))
        except _ERRORS as error:
            errors[str(case)] = str(error)
            print(f"error: {case}: {error}", file=sys.stderr)
    _print(rows, errors, options.json)
    if options.markdown is not None:
        write_atomic(options.markdown, document(rows, targets.facts).encode())
    return 0 if not errors and not any(row["differences"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
