"""A search on CIFAR-10 from pictures to RTL: ``python bench/search_cifar10.py --data cifar10_jpeg.npz``.

The stages of ``sw.search``, each a command that continues where it was interrupted; then the accuracy of what it found
on the test pictures, which no stage has seen, and the cycles of one network on the generated Verilog.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw.spec.config import PRESETS
from hw.spec.program import Program
from sw.benchmark import check_results, run_python, save_results
from sw.drawing import svg
from sw.options import count
from sw.search.report import picture
from sw.status import exit_status
from sw.train.logs import read_log

__all__ = ["Plan", "chosen", "main", "page", "record_of"]

ROOT = Path(__file__).parents[1]
SPACE = "--width 0.5 --stages 16x1x2,32x3x2,64x3x2 --kernels 3,5 --expansions 2,3,4 --last 256"
TITLES = {"depthwise": "depthwise", "greedy": "greedy hybrid", "fuse_half": "FuSe-Half everywhere"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What the stages share.

    Parameters
    ----------
    data, out, preset
        Pictures, folder of the search, and accelerator.
    epochs, largest_epochs, trials
        Of the supernet, of its largest network alone, and networks to try.
    """

    data: Path
    out: Path
    preset: str
    epochs: int
    largest_epochs: int
    trials: int

    @property
    def stages(self) -> list[list[str]]:
        """The commands behind ``python -m``, in order."""
        ends = ["--out", str(self.out), "--threads", "1"]
        pictures = ["--data", str(self.data)]
        epochs = ["--epochs", str(self.epochs), "--largest-epochs", str(self.largest_epochs)]
        recipe = ["--batch", "64", "--set", "warmup_epochs=0.5", "--seed", "0"]
        trials = ["--trials", str(self.trials), "--seed", "0"]
        return [
            ["sw.search", "train", *pictures, *shlex.split(SPACE), *epochs, *recipe, *ends],
            ["sw.search", "table", "--preset", self.preset, *ends[:2]],
            ["sw.search", "search", "--preset", self.preset, *pictures, *trials, *ends],
            ["sw.search", "export", *pictures, *ends],
        ]

    def compiling(self, name: str) -> list[str]:
        """Return the command that compiles an exported network."""
        network, program = self.out / "networks" / f"{name}.pt2", self.out / "programs" / name
        return ["sw.compile", str(network), "--calib", str(self.data), "--preset", self.preset, "--out", str(program)]


def chosen(result: Mapping[str, Any]) -> str:
    """Return the network to run on RTL: the fastest of the front that is as accurate as the greedy hybrid."""
    least = next(row["accuracy"] for row in result["baselines"] if row["kind"] == "greedy")
    front = result["front"]
    number = next((i for i, row in enumerate(front) if row["accuracy"] >= least), len(front) - 1)
    return f"front-{number}"


def record_of(
    plan: Plan, result: Mapping[str, Any], tested: Mapping[str, float], rtl: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all figures (`tested`: top-1 on test pictures by network)."""
    kinds = [(f"front-{number}", row) for number, row in enumerate(result["front"])]
    kinds += [(row["kind"], row) for row in result["baselines"]]
    rows = [
        {
            "network": name,
            **{key: row[key] for key in ("architecture", "cycles", "table_cycles")},
            "held_out": round(row["accuracy"], 2),
            "test": round(tested[row["architecture"]], 2),
        }
        for name, row in kinds
    ]
    logs = {run: read_log(plan.out / run / "log.csv") for run in ("largest", "all")}
    shown = Plan(Path(plan.data.name), Path("results/search"), plan.preset, *_numbers(plan))
    commands = [*shown.stages, shown.compiling(rtl["network"])]
    return {
        "data": f"{plan.data.name}, a lossy JPEG re-encoding of CIFAR-10",
        "preset": plan.preset,
        "networks": result["networks"],
        "candidates": result["candidates"],
        "training": [
            {"run": run, "epochs": len(log), "top1_largest": round(log[-1]["top1"], 2)} for run, log in logs.items()
        ],
        "rows": rows,
        "rtl": dict(rtl),
        "commands": [shlex.join(["python", "-m", *command]) for command in commands],
    }


def _numbers(plan: Plan) -> tuple[int, int, int]:
    return plan.epochs, plan.largest_epochs, plan.trials


def page(record: Mapping[str, Any]) -> str:
    """Return the table of docs/search.md."""
    lines = [
        "| network | cycles | by the table | top-1 held out, % | top-1 test, % | blocks |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in record["rows"]:
        lines.append(
            f"| {TITLES.get(row['network'], row['network'])} | {row['cycles']:,} | {row['table_cycles']:,} | "
            f"{row['held_out']:.2f} | {row['test']:.2f} | `{row['architecture'].replace('|', ' ')}` |"
        )
    rtl = record["rtl"]
    error = 100 * (rtl["predicted"] / rtl["measured"] - 1)
    lines += [
        "",
        f"On RTL, {rtl['network']} took {rtl['measured']:,} cycles on `{record['preset']}`, predicted "
        f"{rtl['predicted']:,} ({error:+.2f} %).",
    ]
    return "\n".join(lines) + "\n"


def _tested(plan: Plan, result: Mapping[str, Any]) -> dict[str, float]:
    """Return the top-1 accuracies on the test pictures."""
    import torch

    from sw.search.evaluation import Evaluator
    from sw.search.space import Architecture
    from sw.search.training import PictureFacts, load_supernet
    from sw.train.data import open_pictures
    from sw.train.loop import measure

    torch.set_num_threads(1)
    trained = load_supernet(plan.out)
    batch = trained.record["recipe"]["batch"]
    evaluator = Evaluator(
        trained.model, trained.pictures(plan.data), batches=20, batch=batch, device=torch.device("cpu")
    )
    test = open_pictures(plan.data, PictureFacts.of(trained.space), limit=1).test
    return {
        row["architecture"]: measure(
            evaluator.network(Architecture.parse(row["architecture"])), test, evaluator.processes
        )
        for row in (*result["front"], *result["baselines"])
    }


def _on_rtl(plan: Plan, name: str) -> dict[str, Any]:
    """Return the cycles of a compiled network, by the model and on RTL, which has the ISS's outputs."""
    import numpy as np

    from sim.iss import IssBackend
    from sim.verilator.backend import VerilatorBackend
    from sw.model.timeline import timeline
    from sw.random_inputs import random_inputs

    program = Program.load(plan.out / "programs" / name)
    inputs = random_inputs(program)
    with VerilatorBackend(program.config) as backend:
        run = backend.run(program, inputs)
    expected = IssBackend(program.config).run(program, inputs).outputs
    equal = all(np.array_equal(run.outputs[key], expected[key]) for key in expected)
    return {"network": name, "predicted": timeline(program).cycles, "measured": run.cycles, "equals_iss": equal}


def _picture(plan: Plan, result: Mapping[str, Any]) -> bytes:
    with (plan.out / "candidates.csv").open(newline="") as file:
        rows = [
            {"table_cycles": int(row["table_cycles"]), "accuracy": float(row["accuracy"])}
            for row in csv.DictReader(file)
            if row["kind"] == "candidate"
        ]
    title = f"CIFAR-10 (lossy JPEG), {len(rows)} of {result['networks']:.1e} networks on {plan.preset}"
    return svg(picture(rows, result["front"], result["baselines"], title))


def _call(arguments: list[str]) -> None:
    run_python(["-m", *arguments], ROOT)


def _run(plan: Plan, call: Callable[[list[str]], None]) -> tuple[dict[str, Any], dict[str, Any]]:
    for stage in plan.stages:
        call(stage)
    result = json.loads((plan.out / "result.json").read_text())
    name = chosen(result)
    call(plan.compiling(name))
    return result, record_of(plan, result, _tested(plan, result), _on_rtl(plan, name))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python bench/search_cifar10.py",
        description="Search for networks for CIFAR-10 and an accelerator, and run one on RTL. Interrupted, the same "
        "command continues.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="F", help="CIFAR-10 as an .npz of encoded pictures")
    parser.add_argument("--preset", choices=list(PRESETS), default="edge8", help="accelerator (default: %(default)s)")
    parser.add_argument("--epochs", type=count, default=6, metavar="N", help="of the supernet (default: %(default)s)")
    parser.add_argument(
        "--largest-epochs", type=count, default=2, metavar="N", help="of its largest network (default: %(default)s)"
    )
    parser.add_argument("--trials", type=count, default=150, metavar="N", help="networks (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results/search"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--record", type=Path, metavar="F", help="also write the figures as JSON")
    parser.add_argument("--picture", type=Path, metavar="F", help="also write the Pareto picture as SVG")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(argv)
    numbers = options.epochs, options.largest_epochs, options.trials
    plan = Plan(options.data.resolve(), options.out.resolve(), options.preset, *numbers)

    def work() -> None:
        check_results(options.record, options.picture)
        result, record = _run(plan, _call)
        print(page(record), end="")
        save_results(record, options.record, lambda: _picture(plan, result), options.picture)

    return exit_status(work, kept="the same command continues")


if __name__ == "__main__":
    sys.exit(main())
