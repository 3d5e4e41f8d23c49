"""Command line: run a compiled program on a backend, ``python -m sim.run prog/ --backend iss --input x.npy``."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np

from hw.spec.config import AcceleratorConfig, ConfigError
from hw.spec.link import BAUD
from hw.spec.program import Program, ProgramError, write_atomic
from sim.iss import IssBackend
from sim.verilator.model import LATENCY
from sw.backends import Backend, BackendError, RunError
from sw.inputs import read_inputs
from sw.model.trace import chrome_trace
from sw.regions import InputError
from sw.run_report import report, show

__all__ = ["main"]


class UsageError(ValueError):
    """Options that do not go together."""


def _backends() -> list[str]:
    """Return the backends this installation has."""
    modules = {"verilator": "sim.verilator.backend", "cocotb": "sim.cocotb.backend", "board": "sw.runtime.backend"}
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
        help="iss: instruction set simulator, fast, no clock (default); verilator, cocotb: the generated Verilog; "
        "board: an accelerator behind a serial port (docs/boards.md)",
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
    board = parser.add_argument_group("boards")
    board.add_argument("--port", metavar="DEV", help="serial port (default: environment variable ROWCAST_PORT)")
    board.add_argument("--baud", type=int, metavar="N", help=f"bits per second (default {BAUD})")
    clocked = parser.add_argument_group("simulators with a clock")
    clocked.add_argument("--trace", type=Path, metavar="JSON", help="write when each instruction ran (Chrome trace)")
    clocked.add_argument("--waves", type=Path, metavar="FST", help="write waves to this file")
    clocked.add_argument("--waves-start", type=int, metavar="N", help="first cycle of the waves (default 0)")
    clocked.add_argument("--waves-stop", type=int, metavar="N", help="cycle before which the waves end (default: none)")
    clocked.add_argument("--latency", type=int, metavar="N", help=f"memory latency in cycles (default {LATENCY})")
    clocked.add_argument("--stalls", type=float, metavar="P", help="chance of a bus stall per cycle (default 0)")
    clocked.add_argument("--seed", type=int, metavar="N", help="seed of the stalls (default 0)")
    return parser


def _names(options: Mapping[str, object]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in options)


def _backend(arguments: argparse.Namespace, config: AcceleratorConfig) -> Backend:
    given = {
        option: value
        for option in ("waves", "waves_start", "waves_stop", "latency", "stalls", "seed")
        if (value := getattr(arguments, option)) is not None
    }
    line = {name: value for name in ("port", "baud") if (value := getattr(arguments, name)) is not None}
    if line and arguments.backend != "board":
        raise UsageError(f"{_names(line)}: only boards have a port; choose --backend board")
    if arguments.backend in ("iss", "board"):
        if arguments.trace is not None:
            given["trace"] = arguments.trace
        if given:
            why = "the ISS has no clock" if arguments.backend == "iss" else "a board's memory and wires are as they are"
            raise UsageError(f"{_names(given)}: {why}; choose another --backend")
    if arguments.backend == "iss":
        return IssBackend(config)
    if arguments.backend == "board":
        from sw.runtime.backend import BoardBackend
        from sw.runtime.upload_bar import upload_bar

        return BoardBackend(config, **line, upload=upload_bar)
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
        show(facts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except (UsageError, BackendError, ConfigError, ProgramError, InputError, OSError) as error:
        print(f"sim.run: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"sim.run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
