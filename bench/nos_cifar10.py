"""What scaffolded training is worth: ``python bench/nos_cifar10.py --data cifar10_jpeg.npz``.

Five ways to train one network on CIFAR-10, with the same recipe, epochs and seeds: the depthwise network; FuSe-Half and
FuSe-Full from labels alone; FuSe-Half taught by the depthwise network of its seed; FuSe-Half on that network's scaffold
(``sw.nos``).  A sixth, FuSe-Half from labels alone for twice the epochs, has as many as a teacher and its pupil
together.  Every run is a command of its own that continues where it was interrupted, and so does this one.

``--checkpoint`` writes the best FuSe-Half network of the scaffold as the zoo ships it.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sw.benchmark import check_results, run_python, save_results
from sw.drawing import svg
from sw.nn import zoo
from sw.nn.weights import WeightsError, read_provenance, save_weights
from sw.options import count
from sw.status import exit_status
from sw.train.command import WEIGHTS
from sw.train.logs import LOG, read_log

__all__ = ["METHODS", "Plan", "main", "page", "run_all", "save_checkpoint", "summary"]

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """A way to train: its name in tables, the program, the network's variant and further arguments."""

    title: str
    program: str
    variant: str
    taught: tuple[str, ...] = ()  # arguments that end with the teacher's weights
    times: int = 1  # the plan's epochs

    def arguments(self, base: str, teacher: Path) -> list[str]:
        """Return the network and what the method adds, for a teacher's weights."""
        return [base + self.variant, *(text.format(base=base, teacher=teacher) for text in self.taught)]


METHODS: dict[str, Method] = {
    "depthwise": Method("depthwise", "sw.train", ""),
    "half_labels": Method("FuSe-Half, labels alone", "sw.train", ":fuse_half"),
    "half_distilled": Method(
        "FuSe-Half, distilled", "sw.train", ":fuse_half", ("--teacher", "{base}", "--teacher-weights", "{teacher}")
    ),
    "half_nos": Method("FuSe-Half, NOS", "sw.nos", ":fuse_half", ("--teacher-weights", "{teacher}")),
    "full_labels": Method("FuSe-Full, labels alone", "sw.train", ":fuse_full"),
    "half_longer": Method("FuSe-Half, labels alone, twice the epochs", "sw.train", ":fuse_half", times=2),
}
"""In the order in which a seed's runs are made: the depthwise network teaches the others."""

SHIPPED = "half_nos"
"""The method whose best network is the zoo's."""

NOTES = {
    "licence": "Apache-2.0, as the project",
    "data": "CIFAR-10 (Krizhevsky, 2009) from a lossy JPEG re-encoding of all 60,000 pictures",
}
"""What a user of the shipped weights has to know besides the figures."""


@dataclass(frozen=True)
class Plan:
    """What all runs share."""

    data: Path
    out: Path
    network: str
    epochs: int
    common: tuple[str, ...]

    def folder(self, method: str, seed: int) -> Path:
        """Return a run's folder."""
        return self.out / f"{method}-{seed}"

    def epochs_of(self, method: str) -> int:
        """Return a run's number of epochs."""
        return METHODS[method].times * self.epochs

    def facts(self, method: str, seed: int) -> Row:
        """Return what a finished run says of itself if it is the one that is wanted."""
        width = float(self.common[self.common.index("--width") + 1])
        network = self.network + METHODS[method].variant
        return {"network": network, "width": width, "epochs": self.epochs_of(method), "seed": seed}

    def command(self, method: str, seed: int) -> list[str]:
        """Return a run's arguments behind ``python``."""
        how = METHODS[method]
        teacher = self.folder("depthwise", seed) / WEIGHTS
        return [
            *("-m", how.program, *how.arguments(self.network, teacher)),
            *("--data", str(self.data), "--recipe", "cifar10", "--epochs", str(self.epochs_of(method))),
            *("--seed", str(seed), "--out", str(self.folder(method, seed)), *self.common),
        ]


def run_all(
    plan: Plan, seeds: Sequence[int], methods: Sequence[str], call: Callable[[list[str]], None] | None
) -> list[Row]:
    """Make the runs that are missing, seed by seed, unless `call` is None; return a row for each that there is."""
    rows = []
    for seed in seeds:
        for method in methods:
            weights = plan.folder(method, seed) / WEIGHTS
            if not weights.is_file():
                if call is None:
                    continue
                call(plan.command(method, seed))
            facts = read_provenance(weights)
            for name, wanted in plan.facts(method, seed).items():
                if (known := facts.get(name)) != wanted:
                    raise WeightsError(f"{weights}: a run whose {name} is {known}, not {wanted}; give another --out")
            rows.append(
                {
                    "method": method,
                    "seed": seed,
                    "top1": facts["top1"],
                    "epochs": facts["epochs"],
                    "seconds": round(facts["seconds"]),
                    "parameters": facts["parameters"],
                }
            )
    return rows


def summary(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return mean, standard deviation (of a sample) and number of the top-1 accuracies by method."""
    found = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        values = [row["top1"] for row in rows if row["method"] == method]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        found[method] = {"mean": statistics.mean(values), "spread": spread, "runs": len(values)}
    return found


def page(record: Mapping[str, Any]) -> str:
    """Return the table of a record, as Markdown."""
    means = summary(record["rows"])
    seconds = {row["method"]: 0 for row in record["rows"]}
    for row in record["rows"]:
        seconds[row["method"]] += row["seconds"]
    lines = ["| training | top-1 %, mean | spread | runs | seconds per run |", "| --- | ---: | ---: | ---: | ---: |"]
    for method, found in means.items():
        each = seconds[method] / found["runs"]
        lines.append(
            f"| {METHODS[method].title} | {found['mean']:.2f} | {found['spread']:.2f} | {found['runs']} | {each:.0f} |"
        )
    if {"depthwise", "half_labels", "half_nos"} <= means.keys():
        base, alone = means["depthwise"]["mean"], means["half_labels"]["mean"]
        gap = base - alone
        lines += ["", f"Gap between depthwise and FuSe-Half from labels alone: {gap:.2f} points."]
        for method in ("half_distilled", "half_nos", "half_longer"):
            if method in means and gap > 0:
                share = (means[method]["mean"] - alone) / gap
                lines[-1] += f" {METHODS[method].title} recovers {100 * share:.0f} % of it."
    return "\n".join(lines) + "\n"


def save_checkpoint(path: Path, plan: Plan, rows: Sequence[Row]) -> Row:
    """Write the weights of the best run of :data:`SHIPPED`, with the names of the classes; return its row.

    Raises
    ------
    WeightsError
        If there is no such run.
    """
    runs = [row for row in rows if row["method"] == SHIPPED]
    if not runs:
        raise WeightsError(f"{path}: no run of {SHIPPED}; leave it in --methods")
    best = max(runs, key=lambda row: row["top1"])
    weights = plan.folder(SHIPPED, best["seed"]) / WEIGHTS
    facts = read_provenance(weights)
    model = zoo.create(facts["network"], width=facts["width"], classes=facts["classes"], weights=weights)
    with np.load(plan.data, allow_pickle=False) as archive:
        names = [str(name) for name in archive["classes"]]
    command = "python " + shlex.join(_shown(plan).command(SHIPPED, best["seed"]))
    save_weights(model, path, {**facts, **NOTES, "class_names": names, "command": command})
    return best


def _shown(plan: Plan) -> Plan:
    """Return the plan with names that mean something on another machine."""
    return dataclasses.replace(plan, data=Path(plan.data.name), out=Path("results/nos"))


def _curves(plan: Plan, rows: Sequence[Row]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        for row in (row for row in rows if row["method"] == method):
            log = read_log(plan.folder(method, row["seed"]) / LOG)
            label = METHODS[method].title if row["seed"] == rows[0]["seed"] else None
            axes.plot([line["epoch"] for line in log], [line["top1"] for line in log], f"C{index}", lw=1, label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel("top-1 on the test pictures, %")
    axes.legend()
    axes.grid(alpha=0.3)
    return svg(figure)


def _call(arguments: list[str]) -> None:
    run_python(arguments, ROOT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python bench/nos_cifar10.py",
        description="Train a network on CIFAR-10 in several ways, three seeds each, and compare. Interrupted, the same "
        "command continues.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="F", help="CIFAR-10 as an .npz of encoded pictures")
    parser.add_argument("--network", default="mobilenet_v1_cifar", metavar="NET", help="default: %(default)s")
    parser.add_argument("--width", default="0.4", metavar="W", help="multiplier of the channels (default: %(default)s)")
    parser.add_argument("--epochs", type=count, default=7, metavar="N", help="default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), help="default: all")
    parser.add_argument("--finished", action="store_true", help="make no run, take those that are finished")
    parser.add_argument("--limit", metavar="N", help="train with N pictures at most")
    parser.add_argument("--precision", default="fp32", help="of sw.train (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", help="of the CPU")
    parser.add_argument("--out", type=Path, default=Path("results/nos"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--record", type=Path, metavar="F", help="also write the rows as JSON")
    parser.add_argument("--curves", type=Path, metavar="F", help="also draw the accuracy after each epoch (.svg)")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="F", help=f"also write the best network of {SHIPPED}, as the zoo has it"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(argv)
    common = ["--width", options.width, "--precision", options.precision]
    for name in ("limit", "threads"):
        if getattr(options, name) is not None:
            common += [f"--{name}", getattr(options, name)]
    plan = Plan(options.data.resolve(), options.out.resolve(), options.network, options.epochs, tuple(common))
    methods = [name for name in METHODS if name in options.methods or name == "depthwise"]

    def work() -> None:
        check_results(options.record, options.curves, options.checkpoint)
        rows = run_all(plan, options.seeds, methods, None if options.finished else _call)
        if options.checkpoint is not None:
            best = save_checkpoint(options.checkpoint, plan, rows)
            print(f"{options.checkpoint}: seed {best['seed']}, top-1 {best['top1']:.2f} %", file=sys.stderr)
        called = {method: "python " + shlex.join(_shown(plan).command(method, options.seeds[0])) for method in methods}
        record = {"network": options.network, "width": float(options.width), "rows": rows, "commands": called}
        print(page(record), end="")
        save_results(record, options.record, lambda: _curves(plan, rows), options.curves)

    return exit_status(work, kept="the same command continues")


if __name__ == "__main__":
    sys.exit(main())
