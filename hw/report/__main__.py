"""Area and timing of accelerators: ``python -m hw.report --preset edge16 --liberty cells.lib.gz``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hw.errors import RequestError, exit_status
from hw.report.liberty import Liberty
from hw.report.measure import Options, measure
from hw.report.options import configurations, parser
from hw.report.picture import check_plot, picture
from hw.report.tables import csv_text, markdown, overview, table, tables
from hw.report.timing import find_sta
from hw.spec.program import write_atomic

__all__ = ["main"]


def _check_folder(option: str, path: Path | None) -> None:
    if path is not None and (not path.parent.is_dir() or path.is_dir()):
        raise RequestError(f"{option} {path}: not a file in an existing folder")


def _show(text: str) -> None:
    """Print a text; a reader that has seen enough is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(args: argparse.Namespace) -> int:
    start = time.perf_counter()

    def tell(text: str) -> None:
        if not args.quiet:
            print(f"[{time.perf_counter() - start:6.1f} s] {text}", file=sys.stderr, flush=True)

    configs = configurations(args)
    if args.sta:
        if args.liberty is None:
            raise RequestError("--sta needs the cells' delays: name a library with --liberty")
        find_sta()
    for option, path in (("--csv", args.csv), ("--plot", args.plot)):
        _check_folder(option, path)
    if args.plot:
        check_plot(args.plot)
    liberty = Liberty.read(args.liberty) if args.liberty else None
    options = Options(liberty, sta=args.sta, flat=args.flat, twin=not args.no_twin, cached=not args.no_cache)
    reports = []
    for number, (name, config) in enumerate(configs.items(), 1):
        tell(f"{number} of {len(configs)}: {name}")
        reports.append(measure(config, options, tell))
    names = list(configs)
    if args.csv:
        write_atomic(args.csv, csv_text(reports, names).encode())
    if args.plot:
        write_atomic(args.plot, picture(reports, names, args.plot.suffix))
    named = [{"name": name, **report} for name, report in zip(names, reports, strict=True)]
    parts = [tables(report, name) for report, name in zip(reports, names, strict=True)]
    text, page = "\n\n\n".join([*parts, table(overview(reports, names))]), markdown(overview(reports, names))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        files = {"reports.json": json.dumps(named, indent=1), "report.txt": text, "tables.md": page}
        for file, contents in files.items():
            write_atomic(args.out / file, f"{contents}\n".encode())
    if args.json:
        _show(json.dumps(named if len(named) > 1 else named[0], indent=2))
    else:
        _show(page if args.markdown else text)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 1 if the tools failed, 2 if the request is wrong."""
    args = parser().parse_args(argv)
    return exit_status("hw.report", lambda: _run(args), kept="modules that were finished are kept")


if __name__ == "__main__":
    sys.exit(main())
