"""The cycle model against RTL on whole networks: ``python -m sim.model_accuracy``.

Networks of the zoo are taken untrained and run once on random pixels: neither makes a difference to cycles.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hw.spec.config import ConfigError
from hw.spec.program import Program
from sim.backend import Result, SimulationError
from sim.verilator.backend import VerilatorBackend
from sim.verilator.model import LATENCY
from sim.verilator.toolchain import ToolchainError
from sim.whole_cases import Case, parse_case
from sw.model.channels import Memory
from sw.model.layers import layer_cycles
from sw.model.timeline import timeline
from sw.network_graph import untrained_network_graph
from sw.random_inputs import random_inputs

__all__ = ["Accuracy", "compare", "main"]

CASES = (
    "digits@tiny",
    "mobilenet_v3_small:fuse_half@edge8",
    "mobilenet_v2@edge16",
    "mobilenet_v2:fuse_half@edge16",
    "mobilenet_v3_large:fuse_half@edge16",
    "mobilenet_v2:fuse_half@edge32",
    "mobilenet_v3_large:fuse_half@edge32",
    "mobilenet_v2:fuse_half@edge64",
    "mobilenet_v3_large:fuse_half@edge64",
)
NETWORK_LIMIT = 0.01
LAYER_LIMIT = 0.03
SHORT_LAYER = 50
"""Cycles that a layer may be off whatever its length."""


@dataclass(frozen=True)
class Accuracy:
    """Measured and predicted cycles.

    Parameters
    ----------
    measured, predicted
        Of the whole run.
    layers
        Name, measured and predicted cycles.
    conflicts
        Cycles lost to accesses of one bank, by counter.
    seconds
        Of CPU that the prediction took.
    """

    measured: int
    predicted: int
    layers: list[tuple[str, int, int]]
    conflicts: dict[str, int]
    seconds: float

    @property
    def error(self) -> float:
        """Predicted over measured cycles, less 1."""
        return self.predicted / self.measured - 1

    @property
    def worst(self) -> list[tuple[str, int, int]]:
        """Layers that are off by more than LAYER_LIMIT and SHORT_LAYER, the worst first."""
        off = [item for item in self.layers if abs(item[2] - item[1]) > max(LAYER_LIMIT * item[1], SHORT_LAYER)]
        return sorted(off, key=lambda item: -abs(item[2] - item[1]))

    @property
    def furthest(self) -> float:
        """The largest error of a layer, relative; of layers that are off by SHORT_LAYER at most, 0."""
        off = [said / real - 1 for _, real, said in self.layers if real and abs(said - real) > SHORT_LAYER]
        return max(off, key=abs, default=0.0)

    @property
    def good(self) -> bool:
        """Whether the network and all of its layers are within the limits."""
        return abs(self.error) <= NETWORK_LIMIT and not self.worst

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "measured": self.measured,
            "predicted": self.predicted,
            "error": self.error,
            "furthest_layer": self.furthest,
            "good": self.good,
            "conflicts": self.conflicts,
            "seconds": self.seconds,
            "layers": [{"name": name, "measured": real, "predicted": said} for name, real, said in self.layers],
        }


def compare(program: Program, result: Result, memory: Memory | None = None) -> Accuracy:
    """Compare a run on RTL with its prediction."""
    assert result.cycles is not None  # RTL always counts
    started = time.process_time()
    predicted = timeline(program, memory)
    seconds = time.process_time() - started
    real = layer_cycles(program, result.trace, result.cycles)
    said = layer_cycles(program, predicted.trace, predicted.cycles)
    layers = [(a.name, a.cycles, b.cycles) for a, b in zip(real, said, strict=True)]
    conflicts = {name: result.counters[name] for name in ("EXEC_PORT", "LOAD_PORT", "STORE_PORT")}
    return Accuracy(result.cycles, predicted.cycles, layers, conflicts, seconds)


def _program(case: Case) -> Program:
    from sw.compiler import compile_graph

    return compile_graph(untrained_network_graph(case.network), case.config)


def _measure(case: Case) -> Accuracy:
    program = _program(case)
    with VerilatorBackend(case.config, latency=LATENCY) as backend:
        return compare(program, backend.run(program, random_inputs(program)), Memory(latency=LATENCY))


def _line(case: Case, found: Accuracy) -> str:
    text = (
        f"{case}: {found.measured:,} cycles on RTL, {found.predicted:,} predicted ({100 * found.error:+.2f} %) in "
        f"{found.seconds:.2f} s"
    )
    for name, real, said in found.worst:
        text += f"\n  {name}: {real:,} on RTL, {said:,} predicted ({100 * (said / real - 1):+.1f} %)"
    return text


def _markdown(rows: Mapping[str, Accuracy]) -> str:
    """Return the table of docs/profile.md."""
    lines = [
        "| network, preset | cycles on RTL | predicted | error | of a layer at most | lost in banks | predicted in |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in rows.items():
        case = parse_case(name)
        lines.append(
            f"| {case.network}, {case.preset} | {found.measured:,} | {found.predicted:,} | {_percent(found.error)} | "
            f"{_percent(found.furthest)} | {100 * sum(found.conflicts.values()) / found.measured:.2f} % | "
            f"{found.seconds:.2f} s |"
        )
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:+.2f} %" if share else "0"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.model_accuracy",
        description="Compare the cycles that the model predicts with those of generated RTL in Verilator.",
        epilog=f"Exit status: 0 networks within {100 * NETWORK_LIMIT:g} % and their layers within "
        f"{100 * LAYER_LIMIT:g} % or {SHORT_LAYER} cycles, 1 not, or a run failed, 2 wrong usage.",
    )
    parser.add_argument(
        "cases",
        nargs="*",
        default=CASES,
        metavar="NETWORK[@PRESET]",
        help=f"a network of the zoo or digits, on edge16 or another preset (default: {' '.join(CASES)})",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--markdown", action="store_true", help="print the table of docs/profile.md")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status."""
    options = _parser().parse_args(argv)
    rows: dict[str, Accuracy] = {}
    try:
        for case in [parse_case(text) for text in options.cases]:
            rows[str(case)] = found = _measure(case)
            if not options.json:
                print(_line(case, found), file=sys.stderr if options.markdown else sys.stdout, flush=True)
    except (ConfigError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (ToolchainError, SimulationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.markdown:
        print(_markdown(rows))
    if options.json:
        print(json.dumps({name: found.to_json() for name, found in rows.items()}, indent=1))
    return 0 if all(found.good for found in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
