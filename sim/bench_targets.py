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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from hw.spec.config import ConfigError, preset
from hw.spec.isa import Queue
from hw.spec.program import Program, write_atomic
from sim.backend import SimulationError, TraceEvent
from sim.bench_causes import causes
from sim.bench_report import document, explanation, native_table, table, verdict
from sim.comparison import compare_regions
from sim.iss import IssBackend
from sim.measurements import Measurements, Row, golden_sources
from sim.targets import TARGETS, Targets
from sim.verilator.backend import VerilatorBackend, generate_library
from sim.verilator.build import BuildOptions, build_seconds
from sim.verilator.model import LATENCY
from sim.verilator.toolchain import ToolchainError
from sim.whole_cases import Case
from sw.model.authors import network_cycles
from sw.model.bound import layer_sizes
from sw.network_graph import untrained_network_graph
from sw.random_inputs import random_inputs
from sw.rtl_identity import hardware_key, schedule_key

if TYPE_CHECKING:
    from sw.compiler.ir import Graph

__all__ = ["Bench", "main"]

_ERRORS = (ConfigError, ToolchainError, SimulationError, OSError, ValueError)


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
        self.measurements = Measurements(out / "results.json", fresh=fresh)
        self._finished: dict[Case, Row] = {}
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
        keys = {
            "schedule": schedule_key(program),
            "config_hash": case.config.hash_hex,
            "hardware": hardware_key(),
            "program_sha256": hashlib.sha256(program.image).hexdigest(),
        }
        if row is None:
            self._tell(place, case, "running on RTL")
            row = {"identity": identity, "build_seconds": build_seconds(library), **_measure(program, library)}
        if row | keys != row:  # sources may have changed without changing the Verilog
            row |= keys
            self.measurements.keep(case, row)
        finished = self._finished[case] = self._finish(case, program, row)
        ratio = finished["cycles"] / finished["target"]
        self._tell(place, case, f"{row['cycles']:,} cycles, {ratio:.2f} of the target" + _verdict(row))
        return finished

    def _tell(self, place: str, case: Case, text: str) -> None:
        self.console.print(f"{place} {case}: {text}")

    def _compile(self, case: Case, place: str) -> Program:
        from sw.compiler import compile_graph

        if case.network not in self._graphs:
            self._tell(place, case, "quantising")
            self._graphs = {case.network: untrained_network_graph(case.network)}
        return compile_graph(self._graphs[case.network], case.config)

    def _finish(self, case: Case, program: Program, row: Row) -> Row:
        """Add to what was measured what it is compared with, and the causes."""
        graph, config = self._graphs[case.network], case.config
        bounds = {sizes.name: sizes.bound(config.rows, config.cols) for sizes in layer_sizes(graph)}
        execs = [TraceEvent(Queue.EXEC, *event) for event in row["execs"]]
        return {
            "network": case.network,
            "preset": case.preset,
            "rows": config.rows,
            "cols": config.cols,
            "source": "rtl",
            **self._goal(case),
            "bound": sum(bounds.values()),
            "authors": network_cycles(graph, config.rows, config.cols),
            "causes": causes(program, execs, row["cycles"], bounds),
            **{key: value for key, value in row.items() if key not in ("execs", "identity")},
        }

    def _goal(self, case: Case) -> dict[str, Any]:
        """Return the target in cycles, and what it is made of."""
        if native := self.targets.native(case):
            other = self._finished.get(native.over)
            if other is None:
                raise ValueError(f"has nothing to be compared with: {native.over} was not measured")
            over = {"network": native.over.network, "cycles": other["cycles"], "limit": native.limit}
            return {"target": native.limit * other["cycles"], "target_bound": None, "over": over, "remark": None}
        cell = self.targets.cells[case.network][case.preset]
        return {
            "target": 1000 * cell["target"],
            "target_bound": 1000 * cell["bound"],
            "over": None,
            "remark": self.targets.remarks.get(case.network),
        }


def _identity(program: Program, library: Path) -> str:
    # a library's folder is named after all that it was built of
    digest = hashlib.sha256(f"{program.config.hash_hex} {library.parent.name} {LATENCY}".encode())
    for part in (program.image, *golden_sources()):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _measure(program: Program, library: Path) -> Row:
    """Run a program on RTL and on the ISS; return the figures, and when its EXECs ran."""
    inputs = random_inputs(program)
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
        "RTL and ISS differ, 2 wrong usage, or a page was refused because cells are missing or differ.",
    )
    parser.add_argument("--networks", nargs="+", metavar="NETWORK", help="rows of the table (default: all)")
    parser.add_argument("--presets", nargs="+", metavar="PRESET", help="columns of the table (default: all)")
    parser.add_argument("--targets", type=Path, default=TARGETS, metavar="F", help="data file (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results/bench"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="measure again what has been measured")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--markdown", type=Path, metavar="F", help="write the page with table and causes to a file too")
    parser.add_argument(
        "--incomplete",
        action="store_true",
        help="write the page though cells are missing, or bytes of RTL and ISS differ; the page says which",
    )
    return parser


def _print(rows: Sequence[Row], missing: Mapping[Case, str], targets: Targets) -> None:
    console = Console(width=160, highlight=False)
    console.print(table(rows, targets))
    if targets.natives:
        console.print(native_table(rows, targets))
    print(verdict(rows, missing, targets))
    for row in rows:
        if row["cycles"] > row["target"]:
            print(explanation(row))


def _refusal(rows: Sequence[Row], missing: Mapping[Case, str]) -> str | None:
    """Return why a page of these rows would not be the page, if so."""
    wrong = [f"{row['network']}@{row['preset']}: RTL differs from the ISS" for row in rows if row["differences"]]
    wrong += [f"{case}: {reason}" for case, reason in missing.items()]
    if not wrong:
        return None
    return f"{'; '.join(wrong[:3])}{f'; and {len(wrong) - 3} more' if len(wrong) > 3 else ''}"


def _write(page: Path, rows: Sequence[Row], missing: Mapping[Case, str], targets: Targets, incomplete: bool) -> int:
    """Write the page, or say why not; return the exit status."""
    if (reason := _refusal(rows, missing)) and not incomplete:
        print(f"error: {page} not written: {reason} (--incomplete writes it nevertheless)", file=sys.stderr)
        return 2
    write_atomic(page, document(rows, missing, targets).encode())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status."""
    options = _parser().parse_args(argv)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        if options.markdown is not None and not options.markdown.parent.is_dir():
            raise FileNotFoundError(f"{options.markdown}: its directory does not exist")
        targets = Targets.read(options.targets)
        cases = targets.cases(options.networks, options.presets)
        needed = [native.over for native in targets.natives if native.case in cases and native.over not in cases]
        cases = [*needed, *cases]
        for case in cases:
            preset(case.preset)
        missing = {case: "not asked for" for case in targets.cases() if case not in cases}
        if options.markdown is not None and missing and not options.incomplete:
            raise ValueError(
                f"--markdown {options.markdown}: the page is of all cells; leave out --networks and --presets, or give "
                "--incomplete"
            )
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
            missing[case] = errors[str(case)] = str(error)
            print(f"error: {case}: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps({"source": "rtl", "memory_latency": LATENCY, "rows": rows, "errors": errors}, indent=1))
    else:
        _print(rows, missing, targets)
    if options.markdown is not None and _write(options.markdown, rows, missing, targets, options.incomplete):
        return 2
    return 0 if not errors and not any(row["differences"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
