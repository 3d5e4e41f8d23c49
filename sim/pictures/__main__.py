"""Command line of the pictures, ``python -m sim.pictures``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hw.emit import EmitError
from hw.spec.program import write_atomic
from hw.yosys import YosysError

__all__ = ["main"]

_FOLDER = Path("docs/pictures")


def _parser(names: dict[str, str]) -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:20} {title}" for name, title in names.items())
    parser = argparse.ArgumentParser(
        prog="python -m sim.pictures",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Draw the documentation's pictures from the design itself: its netlist, its RTL in Amaranth's\n"
        "simulator, compiled programs, the analysis. Needs rowcast[plot].",
        epilog=f"pictures:\n{listed}\n\nExit status: 0 done, 1 a file is out of date (--check) or a tool failed, "
        "2 wrong usage.",
    )
    parser.add_argument("--out", type=Path, default=_FOLDER, metavar="DIR", help="folder (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(names), metavar="NAME", help="these pictures (default: all)")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; name the files that do not show the design as it is"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status."""
    from sim.pictures.catalogue import PICTURES

    options = _parser({name: picture.title for name, picture in PICTURES.items()}).parse_args(argv)
    stale = []
    try:
        import matplotlib  # noqa: F401 - whether it loads is the question

        if not options.check:
            options.out.mkdir(parents=True, exist_ok=True)
        for name in options.only or PICTURES:
            path = options.out / f"{name}.svg"
            if not options.quiet:
                print(path, file=sys.stderr)
            if not options.check:
                write_atomic(path, PICTURES[name].svg())
            elif not (path.exists() and PICTURES[name].is_shown_by(path.read_bytes())):
                stale.append(path)
    except ImportError:
        print("sim.pictures: needs matplotlib: pip install 'rowcast[plot]'", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"sim.pictures: cannot use {options.out}: {error.strerror or error}", file=sys.stderr)
        return 2
    except (EmitError, YosysError, ValueError) as error:
        print(f"sim.pictures: {error}", file=sys.stderr)
        return 1
    for path in stale:
        print(f"{path}: not the design as it is; draw it again with python -m sim.pictures", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
