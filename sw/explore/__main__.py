"""Command line of the design-space exploration, ``python -m sw.explore NET``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw.spec.program import write_atomic
from sw.explore.space import Space
from sw.model.area import AreaTable
from sw.model.channels import Memory
from sw.model.energy import EnergyTable
from sw.model.figures import read_figures
from sw.network_graph import network_graph, untrained_arguments
from sw.options import add_network_options, count
from sw.printing import show
from sw.status import exit_status
from sw.study.command import need_packages, progress_bar, save_picture, seed

__all__ = ["main"]

_OBJECTIVES = ("cycles", "energy", "area")
_NSGA2_TRIALS = 200
_STOS = {"on": (True,), "off": (False,), "both": (True, False)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sw.explore",
        description="Search for the accelerators that a network is fast, cheap or frugal on: array, scratchpads and "
        "bus width against cycles, energy and area, all three by models (docs/profile.md, docs/explore.md).",
        epilog="Interrupted, the same command continues.  Started on several machines with one --storage (a file on "
        "a shared disk or the URL of a database), all of them work on the same study.  Exit status: 0 done, 1 the "
        "disk is full, 2 wrong usage or a network that fits nowhere, 130 interrupted.",
    )
    add_network_options(parser)
    space = parser.add_argument_group("what to choose from (fields of the configuration)")
    for field, unit in (
        ("rows", "rows of the array"),
        ("cols", "columns (default: as many as rows)"),
        ("act_kib", "activation scratchpad in KiB"),
        ("weight_kib", "weight scratchpad in KiB"),
        ("axi_data_width", "bits of the memory bus"),
    ):
        values = getattr(Space, field)
        shown = f" (default: {' '.join(map(str, values))})" if values else ""
        name = f"--{field.replace('_', '-')}"
        space.add_argument(name, type=count, nargs="+", metavar="N", default=values, help=unit + shown)
    space.add_argument("--stos", choices=list(_STOS), default="on", help="with or without ST-OS (default: %(default)s)")
    search = parser.add_argument_group("how to search")
    search.add_argument(
        "--objectives",
        nargs="+",
        choices=_OBJECTIVES,
        default=["cycles", "area"],
        help="what to minimise (default: cycles area)",
    )
    search.add_argument(
        "--sampler", choices=["nsga2", "grid"], default="nsga2", help="evolution, or all combinations (default: nsga2)"
    )
    search.add_argument(
        "--trials",
        type=count,
        metavar="N",
        help=f"combinations that the study shall have (default: {_NSGA2_TRIALS} with nsga2, all with grid)",
    )
    search.add_argument("--jobs", type=count, default=1, metavar="N", help="processes (default: %(default)s)")
    search.add_argument("--seed", type=seed, metavar="N", help="of the choice, 0 or more (default: any)")
    search.add_argument("--storage", metavar="S", help="file or database URL of the study (default: OUT/study.log)")
    search.add_argument("--study", metavar="NAME", help="its name (default: the network's)")
    models = parser.add_argument_group("models")
    models.add_argument("--area", type=Path, metavar="F", help="JSON file with areas to replace, in um2")
    models.add_argument("--energy", type=Path, metavar="F", help="JSON file with energies to replace, in pJ")
    models.add_argument(
        "--latency", type=count, default=Memory().latency, metavar="N", help="of DRAM in cycles (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for points.csv and pareto.png")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser


def _run(options: argparse.Namespace) -> dict[str, Any]:
    need_packages("exploration")
    space = Space(
        **{name: tuple(getattr(options, name)) for name in ("rows", "cols", "act_kib", "weight_kib", "axi_data_width")},
        stos=_STOS[options.stos],
    )
    area_table = AreaTable() if options.area is None else read_figures(AreaTable, options.area)
    energy_table = EnergyTable() if options.energy is None else read_figures(EnergyTable, options.energy)
    options.out.mkdir(parents=True, exist_ok=True)
    graph = network_graph(untrained_arguments(options), options)
    # imported late: Optuna is an extra, and takes time that --help need not wait for
    from sw.explore.report import csv_text, picture
    from sw.explore.study import Setup, explore, points

    setup = Setup(
        space=space,
        objectives=tuple(dict.fromkeys(options.objectives)),
        sampler=options.sampler,
        seed=options.seed,
        memory=Memory(latency=options.latency),
        area_table=area_table,
        energy_table=energy_table,
    )
    where = options.storage or str(options.out / "study.log")
    trials = options.trials or (space.size if options.sampler == "grid" else _NSGA2_TRIALS)
    with progress_bar("exploring") as progress:
        name = options.study or graph.name
        study = explore(where, name, graph, setup, trials=trials, jobs=options.jobs, progress=progress)
    found, infeasible = points(study)
    if not found:
        reasons = [trial.user_attrs["infeasible"] for trial in study.trials if "infeasible" in trial.user_attrs]
        if not reasons:
            raise ValueError(f"study {name!r} in {where}: no trial is finished")
        raise ValueError(f"{graph.name} fits none of the {infeasible} accelerators tried; one of them: {reasons[0]}")
    write_atomic(options.out / "points.csv", csv_text(found).encode())
    save_picture(picture(found, setup.objectives, graph.name), options.out / "pareto.png")
    return {
        "network": graph.name,
        "objectives": setup.objectives,
        "points": found,
        "infeasible": infeasible,
        "tried": len(found) + infeasible,
        "combinations": space.size,
    }


def _show(result: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        show(json.dumps(result, indent=1))
        return
    from sw.explore.report import table_text

    limited = result["tried"] < result["combinations"]
    lines = [
        table_text(result["points"], result["network"]),
        f"{result['infeasible']} more cannot be built or do not take the network",
        *([f"{result['tried']} of {result['combinations']} combinations were tried"] if limited else []),
        f"all points: {options.out / 'points.csv'}, picture: {options.out / 'pareto.png'}",
    ]
    show("\n".join(lines))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit status (1: the disk is full, 2: the user's input is wrong, 130: interrupted)."""
    options = _parser().parse_args(argv)
    return exit_status(lambda: _show(_run(options), options), kept="the same command continues")


if __name__ == "__main__":
    sys.exit(main())
