"""Command line of the formal verification."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hw.errors import RequestError, exit_status
from hw.formal.blocks import BLOCKS
from hw.formal.trace import write_vcd
from hw.formal.verify import Report, verify

MARKS = {"proved": "proved", "bounded": "bounded", "reached": "reached", "violated": "VIOLATED", "unreached": "VACUOUS"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hw.formal",
        description="Prove properties of queues, tokens and AXI ports, or search for counterexamples.",
        epilog="Exit status: 0; 1 if a property is violated, a cover statement not reached or a tool failed; 2 for a "
        "wrong request.",
    )
    parser.add_argument("blocks", nargs="*", metavar="BLOCK", help=f"all if none is named: {', '.join(BLOCKS)}")
    parser.add_argument("--depth", type=int, metavar="N", help="cycles searched from reset (default: the block's own)")
    parser.add_argument("--no-prove", action="store_true", help="only the bounded search and the cover statements")
    parser.add_argument("--no-pdr", action="store_true", help="prove by k-induction only")
    parser.add_argument("--out", type=Path, default=Path("build/formal"), help="folder for counterexamples (VCD)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    parser.add_argument("--list", action="store_true", help="print the blocks and what their proofs assume")
    return parser


def table(reports: Sequence[Report]) -> str:
    """Return reports as text."""
    rows = [("block", "property", "result", "how")]
    for report in reports:
        rows += [(report.block, item.name, MARKS[item.result], item.how) for item in report.findings]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    cells = [[*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]] for row in rows]
    lines = ["  ".join(row) for row in cells]
    results = [item.result for report in reports for item in report.findings]
    counts = ", ".join(f"{results.count(name)} {mark}" for name, mark in MARKS.items() if name in results)
    return "\n".join([*lines, "", f"{len(reports)} blocks, {counts}, {sum(r.seconds for r in reports):.1f} s"])


def _json(reports: Sequence[Report]) -> str:
    blocks = [
        {
            "block": report.block,
            "assumes": report.assumes,
            "seconds": round(report.seconds, 2),
            "properties": [{"name": item.name, "result": item.result, "how": item.how} for item in report.findings],
        }
        for report in reports
    ]
    return json.dumps({"good": all(report.good for report in reports), "blocks": blocks})


def _run(args: argparse.Namespace) -> int:
    if unknown := [name for name in args.blocks if name not in BLOCKS]:
        raise RequestError(f"no block {unknown[0]!r}; there are {', '.join(BLOCKS)}")
    if args.depth is not None and args.depth < 1:
        raise RequestError(f"--depth {args.depth}: at least 1 cycle must be searched")
    start = time.perf_counter()
    reports = []
    for name in args.blocks or BLOCKS:

        def tell(text: str, name: str = name) -> None:
            if not args.quiet:
                print(f"[{time.perf_counter() - start:5.1f} s] {name}: {text}", file=sys.stderr)

        report = verify(BLOCKS[name], depth=args.depth, prove=not args.no_prove, pdr=not args.no_pdr, tell=tell)
        for finding in report.findings:
            if finding.trace:
                path = args.out / f"{name}-{finding.name}.vcd"
                write_vcd(finding.trace, path)
                finding.how += f"; {path}"
        reports.append(report)
    print(_json(reports) if args.json else table(reports))
    return 0 if all(report.good for report in reports) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parser().parse_args(argv)
    if args.list:
        print("\n".join(f"{block.name}: assumes {block.assumes}" for block in BLOCKS.values()))
        return 0
    return exit_status("hw.formal", lambda: _run(args))


if __name__ == "__main__":
    sys.exit(main())
