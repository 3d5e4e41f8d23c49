"""Build the system for a board: ``python -m hw.build --board ulx3s_85f`` makes Verilog, constraints and a bitstream."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw.errors import exit_status
from hw.generate import add_configuration, config_from_args
from hw.soc.boards import BOARDS, RESOURCES, board
from hw.soc.flow import Options, build
from hw.soc.project import Request

__all__ = ["main"]

TIMING_STATUS = 3


def _parser() -> argparse.ArgumentParser:
    boards = "\n".join(f"  {item.name:<12} {item.title}" for item in BOARDS.values())
    parser = argparse.ArgumentParser(
        prog="python -m hw.build",
        description="Build the accelerator with memory and serial link for an FPGA board.",
        epilog="Configuration fields not given come from the preset, or else from the board, not from the defaults "
        "shown.\n\n"
        f"boards:\n{boards}\n\nexit status: 0 done, 1 a tool failed, 2 the request cannot be met, "
        f"{TIMING_STATUS} the clock is too fast for the routed design\n(no bitstream then, unless "
        "--allow-timing-failure)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--board", required=True, choices=list(BOARDS), metavar="NAME", help="what to build for")
    parser.add_argument("--out", type=Path, help="output folder (default: build/NAME)")
    parser.add_argument("--memory-kib", type=int, metavar="N", help="on-chip memory behind the bus (default: board's)")
    parser.add_argument("--clock-mhz", type=float, metavar="F", help="clock (default: board's)")
    parser.add_argument("--baud", type=int, metavar="N", help="rate of the serial line (default: board's)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of placement (default: 1)")
    parser.add_argument(
        "--array-only", action="store_true", help="build the array alone, between registers: its parts and its clock"
    )
    parser.add_argument("--no-synth", action="store_true", help="only write the project's files")
    parser.add_argument("--no-pnr", action="store_true", help="stop after synthesis")
    parser.add_argument(
        "--allow-timing-failure", action="store_true", help="make a bitstream even if the clock is too fast, status 0"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    add_configuration(parser)
    return parser


def _request(args: argparse.Namespace) -> Request:
    chosen = board(args.board)
    return Request(
        chosen,
        config_from_args(args, chosen.config),
        chosen.memory_kib if args.memory_kib is None else args.memory_kib,
        chosen.clock_mhz if args.clock_mhz is None else args.clock_mhz,
        chosen.baud if args.baud is None else args.baud,
        args.array_only,
    )


def table(figures: dict[str, Any]) -> str:
    """Return the figures of a build for reading."""
    config = figures["config"]
    rest = "the array alone" if figures["array_only"] else f"{figures['memory_kib']} KiB"
    lines = [
        f"{BOARDS[figures['board']].title}: {config['rows']}x{config['cols']}"
        f"{' ST-OS' if config['stos'] else ''}, {rest}, {figures['clock_mhz']:g} MHz"
    ]
    if figures["stage"] == "files":
        return "\n".join([*lines, "project files written"])
    lines.append(f"{'':6} {'used':>8} {'of':>8}      {'after routing' if figures['stage'] == 'pnr' else 'synthesised'}")
    for name in RESOURCES:
        used, has = figures[name], figures["available"][name]
        lines.append(f"{name:6} {used:>8,} {has:>8,} {100 * used / has:5.1f} %")
    if figures["stage"] == "pnr":
        verdict = "met" if figures["timing_met"] else "NOT MET"
        lines.append(f"fmax   {figures['fmax_mhz']:.2f} MHz, {figures['clock_mhz']:g} MHz wanted: {verdict}")
        if not figures["timing_met"]:
            lines += ["longest path:", *(f"  {step}" for step in figures["critical_path"])]
        lines.append(f"bitstream {figures.get('bitstream', 'not made')}")
    return "\n".join(lines)


def _run(args: argparse.Namespace) -> int:
    start = time.perf_counter()

    def tell(stage: str) -> None:
        if not args.quiet:
            print(f"[{time.perf_counter() - start:6.1f} s] {stage}", file=sys.stderr, flush=True)

    options = Options(not args.no_synth, not args.no_pnr, args.seed, args.allow_timing_failure)
    figures = build(_request(args), args.out or Path("build") / args.board, options, tell)
    print(json.dumps(figures) if args.json else table(figures))
    if figures.get("timing_met") is False:
        print(
            f"hw.build: the clock of {figures['clock_mhz']:g} MHz is too fast, {figures['fmax_mhz']} MHz were reached: "
            "lower --clock-mhz or try another --seed",
            file=sys.stderr,
        )
        return 0 if args.allow_timing_failure else TIMING_STATUS
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parser().parse_args(argv)
    return exit_status("hw.build", lambda: _run(args), kept="finished stages are kept")


if __name__ == "__main__":
    # As Ctrl-C does: ends the tool that runs, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
