"""The paper's figures, again, as docs/results.md: ``python -m sw.results``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hw.spec.config import ConfigError
from hw.spec.program import write_atomic
from sw.compiler import CompileError
from sw.drawing import need_matplotlib, svg
from sw.paper.cells import Cells, cases
from sw.paper.facts import Facts, authors_facts, hardware_facts, published_facts, read_peers
from sw.paper.page import page, summary
from sw.paper.pictures import PICTURES
from sw.paper.published import BASELINE, NETWORKS, VARIANTS, network_name

__all__ = ["main"]

RTL_FILES = (Path("results/rtl/results.json"), Path("results/bench/results.json"))
"""Where ``nox -s rtl`` and ``nox -s bench`` keep what they measured on RTL."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sw.results",
        description="Compute the FuSeConv paper's figures under its authors' assumptions and on this hardware, and "
        "write docs/results.md with its pictures.",
        epilog="What has been computed is kept and computed again only if sources that decide it have changed; a run "
        "that was interrupted goes on.  Exit status: 0 done, 2 wrong usage.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("docs/results.md"),
        metavar="F",
        help="document; its pictures go into the folder 'pictures' beside it (default: %(default)s)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("results/paper"),
        metavar="DIR",
        help="where graphs and cycles are kept (default: %(default)s)",
    )
    parser.add_argument("--fresh", action="store_true", help="compute again what has been computed")
    parser.add_argument(
        "--rtl",
        type=Path,
        nargs="*",
        metavar="F",
        help="JSON files with cycles measured on RTL (default: those there are of "
        f"{', '.join(path.as_posix() for path in RTL_FILES)})",
    )
    parser.add_argument(
        "--peers",
        type=Path,
        default=Path("results/peers.json"),
        metavar="F",
        help="what nox -s bench-peers wrote (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print all figures as one JSON object")
    return parser


def compute(options: argparse.Namespace) -> Facts:
    """Return all figures; progress goes to stderr."""
    from rich.console import Console

    # torch takes seconds to import, which --help and wrong options need not wait for
    from sw.frontends.untrained import untrained_graph
    from sw.nn.authors import authors_shapes

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    every = list(cases())
    done = 0
    with console.status("authors' closed form") as status:

        def tell(text: str) -> None:
            nonlocal done
            done += "predicting" in text
            status.update(f"[{done}/{len(every)}] {text}")
            if not console.is_terminal:
                console.print(f"[{done}/{len(every)}] {text}", markup=False)

        peers = read_peers(options.peers)
        names = [network_name(network, variant) for network in NETWORKS for variant in (BASELINE, *VARIANTS)]
        authors = authors_facts({name: authors_shapes(name) for name in names})
        cells = Cells(options.cache, fresh=options.fresh, tell=tell, build=untrained_graph)
        rtl = [path for path in RTL_FILES if path.exists()] if options.rtl is None else options.rtl
        hardware = hardware_facts(cells, rtl)
    console.print(f"{len(every)} cells, {cells.measured} of them measured now; {time.process_time():.0f} s of CPU time")
    return {"authors": authors, "published": published_facts(authors), "hardware": hardware, "peers": peers}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status (2: the user's input is wrong)."""
    options = _parser().parse_args(argv)
    try:
        if not options.out.parent.is_dir():
            raise FileNotFoundError(f"--out {options.out}: its directory does not exist")
        need_matplotlib("a page with pictures")
        facts = compute(options)
        folder = options.out.parent / "pictures"
        folder.mkdir(exist_ok=True)
        for name, draw in PICTURES.items():
            write_atomic(folder / name, svg(draw(facts)))
        write_atomic(options.out, page(facts).encode())
    except (CompileError, ConfigError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(facts, indent=1) if options.json else summary(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
