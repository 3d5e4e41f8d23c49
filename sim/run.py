"""Command line: run a compiled program on a backend, ``python -m sim.run prog/ --backend iss --input x.npy``."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from hw.spec.config import AcceleratorConfig, ConfigError
from hw.spec.program import Program, ProgramError, TensorSpec, write_atomic
from sim.backend import Backend, Int8Array, Result, SimulationError
from sim.iss import IssBackend
from sim.verilator.model import LATENCY
from sw.inputs import read_inputs
from sw.model.trace import chrome_trace
from sw.regions import InputError, dequantise

__all__ = ["main", "report"]


class UsageError(ValueError):
    """Options that do not go together."""


def _backends() -> list[str]:
    """Return the backends this installation has."""
    modules = {"verilator": "sim.verilator.backend", "cocotb": "sim.cocotb.backend"}
    return ["iss", *(name for name, module in modules.items() if importlib.util.find_spec(module) is not None)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.run",
        description="Run a compiled program and show its outputs, cycles and utilisation.",
        epilog="Exit status: 0 done, 1 the accelerator stopped with an error, 2 wrong usage or files.",
    )
    parser.add_argument("program", type=Path, help="directory with program.bin and program.json")
    parser.add_argument(
        "--backend",
        choices=_backends(),
        default="iss",
        help="iss: instruction set simulator, fast, no clock (default); others: the generated Verilog",
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="input: .npy (int8 as it is, float quantised) or picture; once per input",
    )
    parser.add_argument("--config", type=Path, metavar="MANIFEST", help="manifest.json of the hardware to run on")
    parser.add_argument("--output", type=Path, metavar="NPZ", help="write the int8 output tensors to this .npz file")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes to show (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    clocked = parser.add_argument_group("backends with a clock")
    clocked.add_argument("--trace", type=Path, metavar="JSON", help="write when each instruction ran (Chrome trace)")
    clocked.add_argument("--waves", type=Path, metavar="FST", help="write waves to this file")
    clocked.add_argument("--waves-start", type=int, metavar="N", help="first cycle of the waves (default 0)")
    clocked.add_argument("--waves-stop", type=int, metavar="N", help="cycle before which the waves end (default: none)")
    clocked.add_argument("--latency", type=int, metavar="N", help=f"memory latency in cycles (default {LATENCY})")
    clocked.add_argument("--stalls", type=float, metavar="P", help="chance of a bus stall per cycle (default 0)")
    clocked.add_argument("--seed", type=int, metavar="N", help="seed of the stalls (default 0)")
    return parser


def _backend(arguments: argparse.Namespace, config: AcceleratorConfig) -> Backend:
    given = {
        option: value
        for option in ("waves", "waves_start", "waves_stop", "latency", "stalls", "seed")
        if (value := getattr(arguments, option)) is not None
    }
    if arguments.backend == "iss":
        if arguments.trace is not None:
            given["trace"] = arguments.trace
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"{names}: the ISS has no clock; choose another --backend")
        return IssBackend(config)
    for option in ("waves_start", "waves_stop"):
        if option in given and "waves" not in given:
            raise UsageError(f"--{option.replace('_', '-')} without --waves FST")
    if "stalls" in given:
        given["stall_probability"] = given.pop("stalls")
        if not 0 <= given["stall_probability"] < 1:
            raise UsageError(f"--stalls {given['stall_probability']}: a probability from 0 to below 1 is expected")
    # Imported here: the ISS must run where Amaranth, Verilator or cocotb are not installed.
    from sim.verilator.toolchain import ToolchainError

    try:
        if arguments.backend == "verilator":
            from sim.verilator.backend import VerilatorBackend

            return VerilatorBackend(config, **given)
        if arguments.trace is not None:
            raise UsageError(f"--trace {arguments.trace}: cocotb records no timeline; use --backend verilator")
        from sim.cocotb.backend import CocotbBackend

        return CocotbBackend(config, **given)
    except ToolchainError as error:
        raise UsageError(str(error)) from None


def _top(program: Program, spec: TensorSpec, value: Int8Array, count: int) -> list[dict[str, Any]]:
    """Return the `count` classes of highest score, best first; none if the output is no vector of scores."""
    if spec.shape[1:] != (1, 1):
        return []
    scores = dequantise(spec, value).ravel()
    classes = program.meta.get("classes") or []
    order = np.argsort(-scores, kind="stable")[: max(count, 0)]
    return [
        {"class": int(i), "name": str(classes[i]) if i < len(classes) else None, "score": float(scores[i])}
        for i in order
    ]


def report(program: Program, result: Result, *, backend: str, seconds: float, top: int = 5) -> dict[str, Any]:
    """Return a run as a JSON-able dictionary.

    ``utilisation`` is multiply-accumulates / (cycles * rows * cols), from 0 to 1; None without a clock.
    """
    config = program.config
    utilisation = None
    if result.cycles:
        utilisation = program.macs / (result.cycles * config.rows * config.cols)
    outputs = {}
    for spec in program.outputs:
        value = result.outputs[spec.name]
        real = dequantise(spec, value)
        outputs[spec.name] = {
            "shape": list(spec.shape),
            "scale": spec.scale,
            "zero_point": spec.zero_point,
            "sha256": hashlib.sha256(value.tobytes()).hexdigest(),
            "min": float(real.min()),
            "max": float(real.max()),
            "mean": float(real.mean()),
            "top": _top(program, spec, value, top),
        }
    return {
        "backend": backend,
        "config_hash": config.hash_hex,
        "rows": config.rows,
        "cols": config.cols,
        "macs": program.macs,
        "cycles": result.cycles,
        "utilisation": utilisation,
        "seconds": seconds,
        "counters": result.counters,
        "outputs": outputs,
    }


def _show(facts: dict[str, Any]) -> None:
    for name, output in facts["outputs"].items():
        shape = "x".join(map(str, output["shape"]))
        print(f"{name}: {shape}, min {output['min']:.4g}, max {output['max']:.4g}, mean {output['mean']:.4g}")
        for place, entry in enumerate(output["top"], 1):
            label = entry["name"] if entry["name"] is not None else f"class {entry['class']}"
            print(f"  {place}. {label:<30} {entry['score']:.4f}")
    if facts["cycles"] is None:
        print(
            f"{facts['backend']}: {facts['macs']:,} MACs in {facts['seconds']:.2f} s (no clock: cycles are not known)"
        )
        return
    print(
        f"{facts['backend']}: {facts['cycles']:,} cycles measured, {facts['macs']:,} MACs, utilisation "
        f"{100 * facts['utilisation']:.1f} % of {facts['rows']}x{facts['cols']} PEs, {facts['seconds']:.2f} s"
    )


def _run(arguments: argparse.Namespace) -> None:
    program = Program.load(arguments.program)
    config = AcceleratorConfig.from_manifest(arguments.config) if arguments.config else program.config
    program.check(config)
    inputs = read_inputs(program, arguments.input)
    for path in (arguments.output, arguments.trace, arguments.waves):
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"{path}: its directory does not exist")
    with ExitStack() as closing:
        backend = _backend(arguments, config)
        if isinstance(backend, AbstractContextManager):
            closing.enter_context(backend)  # waves are whole when it is left
        start = time.perf_counter()
        result = backend.run(program, inputs)
        seconds = time.perf_counter() - start
    if arguments.output is not None:
        buffer = io.BytesIO()
        np.savez(buffer, **result.outputs)
        write_atomic(arguments.output, buffer.getvalue())
    if arguments.trace is not None:
        write_atomic(arguments.trace, json.dumps(chrome_trace(program, result.trace, source="rtl")).encode())
    facts = report(program, result, backend=arguments.backend, seconds=seconds, top=arguments.top)
    if arguments.json:
        print(json.dumps(facts, indent=1))
    else:
        _show(facts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except (UsageError, ConfigError, ProgramError, InputError, OSError) as error:
        print(f"sim.run: {error}", file=sys.stderr)
        return 2
    except SimulationError as error:
        print(f"sim.run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
