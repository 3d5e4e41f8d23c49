"""Command line of the search for networks, ``python -m sw.search {train,table,search,export} --out DIR``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from sw.options import add_target_options, count
from sw.printing import show
from sw.search.space import Space
from sw.search.stages import run_export, run_search, run_table, run_train
from sw.status import exit_status
from sw.study.command import seed
from sw.train.command import FAILURES, add_run_options

__all__ = ["main", "parser"]

_TRIALS, _RECALIBRATION = 300, 20


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(count(item) for item in text.split(","))


def _add_out(options: argparse.ArgumentParser) -> None:
    options.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the search")
    options.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _add_measuring(options: argparse.ArgumentParser) -> None:
    options.add_argument("--data", metavar="F", type=Path, required=True, help="the pictures of the training")
    options.add_argument("--test", metavar="F", type=Path, help="as in training")
    options.add_argument("--workers", metavar="N", type=count, default=0, help="processes that decode files")
    options.add_argument(
        "--recalibrate",
        metavar="N",
        type=count,
        default=_RECALIBRATION,
        help="batches of training pictures for the normalisations of a candidate (default: %(default)s)",
    )
    options.add_argument("--device", choices=["cpu", "cuda"], help="default: a GPU where there is one")
    options.add_argument("--threads", metavar="N", type=count, help="of the CPU (default: PyTorch's choice)")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog="python -m sw.search",
        description="Find networks that are accurate and fast on an accelerator: train a supernet whose parts are "
        "MobileNetV2-like networks with kernels, expansions, depths and operators (depthwise or FuSe-Half) to choose "
        "from; tabulate the cycles of every choice; evolve; export the best (docs/search.md).",
        epilog="The stages follow each other on one folder.  Interrupted, the same command continues.  Exit status: 0 "
        "done, 1 training failed (the last checkpoint is kept) or the disk is full, 2 wrong usage or no network keeps "
        "the budget, 130 interrupted.",
    )
    stages = result.add_subparsers(dest="stage", required=True, metavar="STAGE")

    train = stages.add_parser(
        "train", help="train the supernet", description="Train the largest network, then all, taught by it."
    )
    add_run_options(train, network=False)
    train.set_defaults(recipe="cifar10", holdout=0.1, run=run_train)
    group = train.add_argument_group("supernet")
    group.add_argument("--kernels", metavar="K,K", type=_numbers, default=(3, 5, 7), help="default: 3,5,7")
    group.add_argument("--expansions", metavar="E,E", type=_numbers, default=(3, 4, 6), help="default: 3,4,6")
    group.add_argument(
        "--stages",
        metavar="CxNxS,...",
        help="channels, most blocks and first stride of each stage, the first one without expansion "
        "(default: MobileNetV2's for small pictures)",
    )
    group.add_argument(
        "--last",
        metavar="N",
        type=count,
        default=Space.last,
        help="channels of the last convolution, which no width makes fewer (default: %(default)s)",
    )
    group.add_argument(
        "--paths",
        metavar="N",
        type=count,
        default=3,
        help="networks per step; of three or more, one is the largest and one the smallest (default: %(default)s)",
    )
    group.add_argument("--largest-epochs", metavar="N", type=count, help="of the largest network (default: --epochs)")
    group.add_argument(
        "--teacher-share", metavar="A", type=float, default=0.5, help="of the loss, 0 to 1 (default: %(default)s)"
    )
    group.add_argument("--temperature", metavar="T", type=float, default=4.0, help="default: %(default)s")

    table = stages.add_parser(
        "table", help="tabulate cycles", description="Compile every choice for a block alone, and predict its cycles."
    )
    _add_out(table)
    add_target_options(table)
    table.set_defaults(run=run_table)

    search = stages.add_parser(
        "search",
        help="evolve networks",
        description="Search for networks that none beats in accuracy and cycles, by NSGA-II; the paper's greedy hybrid "
        "and others are shown beside them.",
        epilog="Started on several machines with one --storage, all of them work on the same study.",
    )
    _add_out(search)
    add_target_options(search)
    _add_measuring(search)
    search.add_argument("--max-cycles", metavar="N", type=count, help="that a network may take (default: any number)")
    search.add_argument(
        "--trials", metavar="N", type=count, default=_TRIALS, help="networks to try (default: %(default)s)"
    )
    search.add_argument("--seed", metavar="N", type=seed, help="of the choice, 0 or more (default: any)")
    search.add_argument("--storage", metavar="S", help="file or database URL of the study (default: DIR/study.log)")
    search.add_argument("--study", metavar="NAME", help="its name (default: of accelerator and budget)")
    search.set_defaults(run=run_search)

    export = stages.add_parser(
        "export",
        help="write networks for sw.compile",
        description="Write networks as .pt2 files for 'python -m sw.compile'.",
    )
    _add_out(export)
    _add_measuring(export)
    export.add_argument(
        "networks",
        metavar="NETWORK",
        nargs="*",
        help="numbers of the front, names of baselines (greedy, ...) or networks such as '1d3|6f3,3f5' (default: the "
        "front and the greedy hybrid)",
    )
    export.set_defaults(run=run_export)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run a stage; return the exit status."""
    options = parser().parse_args(argv)

    def work() -> None:
        found, text = options.run(options)
        if found:
            show(json.dumps(found, indent=1) if options.json else text)

    return exit_status(work, kept="the same command continues", failures=FAILURES)


if __name__ == "__main__":
    sys.exit(main())
