"""Whole networks on the generated Verilog, every tensor compared with the ISS: ``python -m sim.whole_networks``.

Each network takes one real input and runs twice on RTL: with every intermediate tensor stored in DRAM, for the
comparison of all bytes, and as it is compiled for use, for the cycles.  What has been measured is kept in
``results.json`` and measured again only if the program, the input, the hardware or the ISS has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.status import Status

from hw.generate import generate
from hw.spec.config import AcceleratorConfig, ConfigError
from hw.spec.isa import INSTRUCTION_BYTES
from hw.spec.program import Program
from sim.backend import Int8Array, Result, SimulationError
from sim.comparison import compare_regions
from sim.iss import IssBackend
from sim.measurements import Measurements, Row, golden_sources
from sim.verilator.backend import VerilatorBackend
from sim.verilator.build import build_library, build_seconds
from sim.verilator.model import LATENCY
from sim.verilator.toolchain import ToolchainError
from sim.whole_cases import CASES, Case, Subject, parse_case, subject
from sim.whole_report import markdown, table
from sw.inputs import read_inputs
from sw.rtl_identity import hardware_key, schedule_key
from sw.run_report import report

__all__ = ["main"]

_ERRORS = (ConfigError, ToolchainError, SimulationError, OSError, ValueError)


class Runner:
    """Runs cases and keeps what it measures in a folder.

    Parameters
    ----------
    out
        Folder for Verilog, inputs and results.
    pictures
        For networks that take photographs.
    fresh
        Measure again what has been measured, builds included.
    console
        Where progress goes.
    """

    def __init__(self, out: Path, pictures: Path, fresh: bool, console: Console) -> None:
        self.out, self.pictures, self.console = out, pictures, console
        self.models = out / "models" if fresh else None
        if fresh:
            shutil.rmtree(out / "models", ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        self.measurements = Measurements(out / "results.json", fresh=fresh)
        self._libraries: dict[str, Path] = {}
        self._subjects: dict[str, Subject] = {}

    def run(self, case: Case, place: str) -> Row:
        """Measure one case, or return what has been measured."""
        with self.console.status("") as status:
            self._tell(status, place, case, "quantising")
            started = time.perf_counter()
            source = self._subject(case.network, lambda text: status.update(f"{place} {case}: {text}"))
            program, dumped = self._compile(source, case.config)
            inputs = read_inputs(program, [str(source.input_file)])
            compile_seconds = time.perf_counter() - started
            self._tell(status, place, case, "generating Verilog, building the simulator if it is new")
            library = self._library(case)
            identity = _identity(program, dumped, inputs, library)
            row = self.measurements.find(case, identity)
            if row is None:
                self._tell(status, place, case, "running on the ISS and on RTL")
                row = {
                    "network": case.network,
                    "weights": source.weights,
                    "preset": case.preset,
                    "input": source.source,
                    "label": source.label,
                    "identity": identity,
                    "compile_seconds": compile_seconds,
                    "build_seconds": build_seconds(library),
                    **_measure(program, dumped, inputs, library),
                }
            keys = {"schedule": schedule_key(program), "hardware": hardware_key()}
            if row | keys != row:  # sources may have changed without changing the Verilog
                row |= keys
                self.measurements.keep(case, row)
        self.console.print(f"{place} {case}: {_verdict(row)}")
        return row

    def _tell(self, status: Status, place: str, case: Case, text: str) -> None:
        """Show a stage: on a terminal in one line that is overwritten."""
        status.update(f"{place} {case}: {text}")
        if not self.console.is_terminal:
            self.console.print(f"{place} {case}: {text}")

    def _subject(self, network: str, progress: Callable[[str], None]) -> Subject:
        """Return a network; it is quantised once, on however many configurations it runs."""
        if network not in self._subjects:
            folder = self.out / network.replace(":", "-")
            self._subjects[network] = subject(network, self.pictures, folder, progress=progress)
        return self._subjects[network]

    def _compile(self, source: Subject, config: AcceleratorConfig) -> tuple[Program, Program]:
        from sw.compiler import compile_graph

        return compile_graph(source.graph, config), compile_graph(source.graph, config, dump_tensors=True)

    def _library(self, case: Case) -> Path:
        """Return the compiled model of a case's configuration."""
        if case.preset not in self._libraries:
            folder = self.out / case.preset
            generate(case.config, folder)
            self._libraries[case.preset] = build_library([folder / "rowcast.v"], cache=self.models, quiet=True)
        return self._libraries[case.preset]


def _key(library: Path) -> str:
    """Return the hash of Verilog, harness and flags, under which the model was built."""
    return library.parent.name


def _identity(program: Program, dumped: Program, inputs: Mapping[str, Int8Array], library: Path) -> str:
    digest = hashlib.sha256(f"{program.config.hash_hex} {_key(library)} {LATENCY}".encode())
    parts = [program.image, dumped.image, *(inputs[name].tobytes() for name in sorted(inputs))]
    for part in (*parts, *golden_sources()):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _measure(program: Program, dumped: Program, inputs: Mapping[str, Int8Array], library: Path) -> Row:
    """Run both programs on ISS and RTL and return the figures, all of RTL."""
    started = time.perf_counter()
    iss = IssBackend(program.config, check_hazards=False)
    plain_iss, dumped_iss = iss.run(program, inputs), iss.run(dumped, inputs)
    iss_seconds = (time.perf_counter() - started) / 2
    with VerilatorBackend(program.config, library=library, latency=LATENCY) as rtl:
        dumped_rtl, dumped_seconds = _timed(rtl, dumped, inputs)
        plain_rtl, seconds = _timed(rtl, program, inputs)
    every = compare_regions(dumped, dumped_rtl.regions, dumped_iss.regions)
    plain = compare_regions(program, plain_rtl.regions, plain_iss.regions)
    differences = [f"with all tensors stored, {line}" for line in every.differences]
    differences += [f"as compiled for use, {line}" for line in plain.differences]
    facts = report(program, plain_rtl, backend="verilator", seconds=seconds, top=1)
    (scores, *_) = facts.pop("outputs").values()
    assert plain_rtl.cycles is not None and dumped_rtl.cycles is not None  # RTL always counts
    return {
        **facts,
        "model": _key(library),
        "program_sha256": hashlib.sha256(program.image).hexdigest(),
        "cycles_per_second": (plain_rtl.cycles + dumped_rtl.cycles) / (seconds + dumped_seconds),
        "iss_seconds": iss_seconds,
        "dram_read": plain_rtl.counters["LOAD_BYTES"],
        "dram_written": plain_rtl.counters["STORE_BYTES"],
        "instruction_bytes": program.instruction_count * INSTRUCTION_BYTES,
        "all_stored": {"cycles": dumped_rtl.cycles, "seconds": dumped_seconds, "counters": dumped_rtl.counters},
        "tensors": every.tensors,
        "bytes": every.size,
        "equal": not differences,
        "differences": differences,
        "prediction": scores["top"][0]["class"] if scores["top"] else None,
    }


def _timed(rtl: VerilatorBackend, program: Program, inputs: Mapping[str, Int8Array]) -> tuple[Result, float]:
    started = time.perf_counter()
    result = rtl.run(program, inputs)
    return result, time.perf_counter() - started


def _verdict(row: Row) -> str:
    same = f"RTL = ISS in {row['tensors']} tensors, {row['bytes']:,} bytes"
    if not row["equal"]:
        same = f"RTL DIFFERS from the ISS: {'; '.join(row['differences'][:3])}"
    return f"{same}; {row['cycles']:,} cycles, {row['seconds']:.1f} s"


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.whole_networks",
        description="Run whole networks on generated RTL in Verilator and compare every tensor with the ISS.",
        epilog="Trained weights are those of the packages in rowcast[pretrained].  Exit status: 0 all bytes equal, "
        "1 RTL and ISS differ, or a network could not be run or took too long, 2 wrong usage.",
    )
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="NETWORK[@PRESET]",
        help=f"a network of the zoo, digits, or ppocr_classifier, on edge16 or another preset "
        f"(default: {' '.join(map(str, CASES))})",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="F",
        help="tar with labels.csv or folder of pictures to calibrate with, the first of which is the input (default: "
        "$ROWCAST_IMAGENET, else the pictures of the project's tests if they are there, else scikit-learn's two)",
    )
    parser.add_argument("--out", type=Path, default=Path("results/rtl"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument(
        "--fresh", action="store_true", help="measure again what has been measured, and build the simulators anew"
    )
    parser.add_argument(
        "--max-seconds", type=_positive, metavar="S", help="fail if a network's run on RTL takes longer (without build)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    form.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status."""
    options = _parser().parse_args(argv)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        cases = [parse_case(text) for text in options.cases] or list(CASES)
        runner = Runner(
            options.out, options.pictures or _default_pictures(options.out, console), options.fresh, console
        )
    except _ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows, errors = [], {}
    for number, case in enumerate(cases, 1):
        try:
            row = runner.run(case, f"[{number}/{len(cases)}]")
        except _ERRORS as error:
            errors[str(case)] = str(error)
            print(f"error: {case}: {error}", file=sys.stderr)
            continue
        rows.append(row)
        if options.max_seconds is not None and row["seconds"] > options.max_seconds:
            errors[str(case)] = f"took {row['seconds']:.1f} s on RTL, more than {options.max_seconds:g} s"
            print(f"error: {case}: {errors[str(case)]}", file=sys.stderr)
    if options.json:
        print(json.dumps({"source": "rtl", "memory_latency": LATENCY, "rows": rows, "errors": errors}, indent=1))
    elif options.markdown:
        print(markdown(rows))
    elif rows:
        title = f"Whole networks, one input each, measured on RTL; memory latency {LATENCY} cycles"
        Console(width=200, highlight=False).print(table(rows, title))
    return 0 if not errors and all(row["equal"] for row in rows) else 1


def _default_pictures(out: Path, console: Console) -> Path:
    from sw.nn.dev_pictures import imagenet_pictures, sample_pictures

    path = imagenet_pictures()
    if path.exists():
        return path
    console.print(f"no pictures at {path} (set ROWCAST_IMAGENET): scikit-learn's two photographs stand in")
    return sample_pictures(out / "photographs")


if __name__ == "__main__":
    sys.exit(main())
