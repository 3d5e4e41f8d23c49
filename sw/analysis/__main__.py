"""Command line of the analysis, ``python -m sw.analysis OP``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hw.spec.program import write_atomic
from sw.analysis.operators import OPERATORS, operator
from sw.analysis.plot import check_plot, picture
from sw.analysis.recurrences import AnalysisError
from sw.analysis.report import argument, text
from sw.options import count
from sw.printing import show

__all__ = ["main"]


def _size(option: str) -> tuple[str, int]:
    name, equals, value = option.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{option!r} is not NAME=N")
    return name, count(value)


def _parser() -> argparse.ArgumentParser:
    defaults = "\n".join(
        f"  {name:10} {' '.join(f'{size}={value}' for size, value in sizes.items())}"
        for name, (_, sizes) in OPERATORS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m sw.analysis",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Say whether an operator is a regular iterative algorithm, and which linear schedules map it onto\n"
        "an array, or why none does (docs/analysis.md).",
        epilog=f"operators and their sizes unless told:\n{defaults}\n\nExit status: 0 done, 2 wrong usage.",
    )
    parser.add_argument("operator", metavar="OP", choices=list(OPERATORS), help=", ".join(OPERATORS))
    parser.add_argument(
        "--size",
        type=_size,
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=N",
        help="extents, W=8 K=5 for instance",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the text")
    parser.add_argument(
        "--plot", type=Path, metavar="F", help="draw the first recurrence's dependences and schedule (.png, .svg, .pdf)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status (2: the user's input is wrong)."""
    options = _parser().parse_args(argv)
    try:
        if options.plot is not None:
            check_plot(options.plot)
        chosen = operator(options.operator, dict(options.size))
        result = argument(chosen)
        if options.plot is not None:
            write_atomic(options.plot, picture(chosen, options.plot.suffix))
    except (AnalysisError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    show(json.dumps(result, indent=1) if options.json else text(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
