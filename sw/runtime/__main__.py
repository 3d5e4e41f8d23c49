"""Command line: run a program on a board, ``python -m sw.runtime prog --port /dev/ttyUSB0 --input picture.png``."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hw.spec.config import AcceleratorConfig, ConfigError
from hw.spec.link import BAUD, Command
from hw.spec.program import Program, ProgramError, write_atomic
from sw.backends import BackendError, RunError
from sw.inputs import read_inputs
from sw.options import count
from sw.regions import InputError, Int8Array
from sw.run_report import report, show
from sw.runtime.backend import PORT_VARIABLE
from sw.runtime.board_link import BoardLink
from sw.runtime.device import BoardResult, Device
from sw.runtime.serial_line import PortError, SerialLine
from sw.runtime.upload_bar import upload_bar

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sw.runtime",
        description="Run a compiled program on a board with a serial port; without a program, tell what board it is.",
        epilog="Exit status: 0 done, 1 the accelerator stopped with an error or the line failed, 2 wrong usage, files, "
        "port or board.",
    )
    parser.add_argument("program", type=Path, nargs="?", help="directory with program.bin and program.json")
    parser.add_argument("--port", metavar="DEV", help=f"serial port (default: environment variable {PORT_VARIABLE})")
    parser.add_argument("--baud", type=count, default=BAUD, metavar="N", help="bits per second (default %(default)s)")
    parser.add_argument(
        "--input",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help=".npy (int8 as it is, float quantised) or picture; several are run one after the other.  With several "
        "inputs: NAME=FILE for each, one run",
    )
    parser.add_argument("--config", type=Path, metavar="MANIFEST", help="manifest.json of the board's bitstream")
    parser.add_argument(
        "--output", type=Path, metavar="NPZ", help="write the int8 output tensors (run, channels, height, width)"
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes to show (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument(
        "--timeout", type=float, default=1.0, metavar="S", help="seconds the board may take to answer (default 1)"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="after which a run is given up (default 60)"
    )
    return parser


def _runs(program: Program, files: Sequence[str]) -> list[dict[str, Int8Array]]:
    if len(program.inputs) == 1:
        return [read_inputs(program, [file]) for file in files]
    return [read_inputs(program, files)]


def _board(device: Device) -> dict[str, Any]:
    shape, features = device.port.fields("SHAPE"), device.port.fields("FEATURES")
    return {
        "port": device.link.line.name,
        "baud": device.link.line.baud,
        "clock_hz": device.identity.clock_hz,
        "memory_bytes": device.identity.memory_bytes,
        "config_hash": f"{device.port.read('HASH_HI'):08x}{device.port.read('HASH_LO'):08x}",
        **shape,
        **features,
    }


def _run_all(
    device: Device, program: Program, runs: Sequence[Mapping[str, Int8Array]], arguments: argparse.Namespace
) -> tuple[dict[str, Any], list[BoardResult]]:
    started = time.perf_counter()
    with upload_bar() as progress:
        device.load(program, progress)
    upload = time.perf_counter() - started
    facts: dict[str, Any] = {
        "board": _board(device),
        "upload_bytes": len(program.image),
        "upload_seconds": upload,
        "upload_seconds_on_the_wire": device.link.seconds(Command.WRITE, len(program.image)),
        "runs": [],
    }
    results = []
    for inputs in runs:
        started = time.perf_counter()
        result = device.run(program, inputs, seconds=arguments.seconds)
        seconds = time.perf_counter() - started
        facts["runs"].append(report(program, result, backend="board", seconds=seconds, top=arguments.top))
        results.append(result)
    facts["repetitions"] = device.link.repetitions
    return facts, results


def _show(facts: Mapping[str, Any], files: Sequence[str]) -> None:
    rate = 8 * facts["upload_bytes"] / facts["upload_seconds"]
    print(
        f"{facts['upload_bytes']:,} bytes uploaded in {facts['upload_seconds']:.2f} s, {rate / 1000:,.0f} kbit/s; "
        f"requests repeated: {facts['repetitions']}"
    )
    clock = facts["board"]["clock_hz"]
    for file, run in zip(files if len(files) == len(facts["runs"]) else [" ".join(files)], facts["runs"], strict=True):
        print(f"\n{file}")
        show(run)
        if run["cycles"]:
            print(f"{1e6 * run['cycles'] / clock:,.1f} us at {clock / 1e6:g} MHz")


def _run(arguments: argparse.Namespace) -> None:
    port = arguments.port or os.environ.get(PORT_VARIABLE)
    if not port:
        raise PortError(f"no port is named: give --port DEV, or set {PORT_VARIABLE}")
    program, runs = None, []
    if arguments.program is not None:
        program = Program.load(arguments.program)
        if not arguments.input:
            raise InputError("no --input FILE is given")
        runs = _runs(program, arguments.input)
        if arguments.output is not None and not arguments.output.parent.is_dir():
            raise InputError(f"{arguments.output}: its directory does not exist")
    config = AcceleratorConfig.from_manifest(arguments.config) if arguments.config else None
    with SerialLine(port, arguments.baud) as line:
        device = Device(BoardLink(line, timeout=arguments.timeout), config)
        if program is None:
            facts = _board(device)
            print(json.dumps(facts, indent=1) if arguments.json else "\n".join(f"{k}: {v}" for k, v in facts.items()))
            return
        facts, results = _run_all(device, program, runs, arguments)
    if arguments.output is not None:
        buffer = io.BytesIO()
        np.savez(buffer, **{name: np.stack([r.outputs[name] for r in results]) for name in results[0].outputs})
        write_atomic(arguments.output, buffer.getvalue())
    if arguments.json:
        print(json.dumps(facts, indent=1))
    else:
        _show(facts, arguments.input)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except (BackendError, ConfigError, ProgramError, InputError, OSError) as error:
        print(f"sw.runtime: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"sw.runtime: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
