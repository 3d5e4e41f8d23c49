"""Command line: a simulated board behind a pseudo-terminal, ``python -m sim.board --preset edge8``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from hw.soc.boards import BOARDS
from hw.spec.config import AcceleratorConfig, ConfigError
from sim.board.link_model import LinkModel
from sim.board.pseudo_terminal import Chip, Noise, PseudoTerminal
from sim.verilator.toolchain import ToolchainError
from sw.options import add_target_options, count, target

__all__ = ["main"]

_WAIT_SECONDS = 0.2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.board",
        description="Simulate a board: its serial port is the pseudo-terminal whose path is printed first.",
        epilog="Exit status: 0 ended by Ctrl-C or --seconds, 2 wrong usage or tools.",
    )
    group = add_target_options(parser)
    group.add_argument("--board", choices=list(BOARDS), metavar="NAME", help=f"a board's: {', '.join(BOARDS)}")
    parser.set_defaults(preset="tiny")
    parser.add_argument(
        "--backend",
        choices=["verilator", "iss"],
        default="verilator",
        help="verilator: the SoC's Verilog, every bit of the wire (default); iss: a model of the link with the "
        "instruction set simulator, fast, no clock",
    )
    parser.add_argument("--memory-kib", type=count, metavar="N", help="memory (default: the board's, or 128 KiB)")
    parser.add_argument("--clock-mhz", type=float, metavar="F", help="clock (default: the board's, or 100 MHz)")
    parser.add_argument(
        "--bit-clocks", type=count, default=8, metavar="N", help="clock cycles of a bit on the wire (default 8)"
    )
    parser.add_argument("--noise", type=float, default=0.0, metavar="P", help="chance that a byte is damaged or lost")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise (default 0)")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after this time (default: at Ctrl-C)")
    return parser


def make_chip(backend: str, config: AcceleratorConfig, *, memory_bytes: int, clock_hz: int, bit_clocks: int) -> Chip:
    """Return a board without its port.

    Raises
    ------
    ToolchainError
        If its RTL cannot be built.
    """
    sizes = {"memory_bytes": memory_bytes, "clock_hz": clock_hz, "bit_clocks": bit_clocks}
    if backend == "iss":
        return LinkModel(config, **sizes)
    # the model above must run where Amaranth and Verilator are not installed
    from sim.board.soc_model import SocModel

    return SocModel(config, **sizes)


def _serve(options: argparse.Namespace) -> None:
    board = BOARDS.get(options.board)
    config = target(options) if board is None else board.config
    memory_kib = options.memory_kib or (128 if board is None else board.memory_kib)
    clock_mhz = options.clock_mhz or (100.0 if board is None else board.clock_mhz)
    if not 0 <= options.noise < 1:
        raise ValueError(f"--noise {options.noise}: a probability from 0 to below 1 is expected")
    chip = make_chip(
        options.backend,
        config,
        memory_bytes=1024 * memory_kib,
        clock_hz=round(1e6 * clock_mhz),
        bit_clocks=options.bit_clocks,
    )
    terminal = PseudoTerminal(chip, Noise(options.noise, options.seed))
    try:
        print(terminal.path, flush=True)
        print(f"configuration {config.hash_hex}, {memory_kib} KiB; Ctrl-C ends", file=sys.stderr)
        end = None if options.seconds is None else time.monotonic() + options.seconds
        while end is None or time.monotonic() < end:
            terminal.pump(_WAIT_SECONDS)
    except KeyboardInterrupt:
        pass
    finally:
        terminal.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(argv)
    try:
        _serve(options)
    except (ConfigError, ToolchainError, OSError, ValueError) as error:
        print(f"sim.board: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
