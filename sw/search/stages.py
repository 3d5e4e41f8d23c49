"""The stages of a search: each reads what the last one left in the folder, and says what it found."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch

from hw.spec.program import write_atomic
from sw.options import target
from sw.search.evaluation import Evaluator
from sw.search.export import export_network
from sw.search.greedy import greedy_hybrid
from sw.search.latency import CycleTable, table_path, whole_cycles
from sw.search.space import Architecture, Space, SpaceError, Stage
from sw.search.training import SUPERNET, PictureFacts, Trained, load_supernet, train_supernet
from sw.study.command import need_packages, save_picture
from sw.study.command import progress_bar as study_bar
from sw.train.command import progress_bar, recipe_of, training_pictures
from sw.train.distributed import compute_deterministically, processes

__all__ = ["run_export", "run_search", "run_table", "run_train"]

Found = tuple[dict[str, Any], str]
"""For ``--json``, and as text."""

_RESULT = "result.json"


def _stages(text: str | None) -> dict[str, Any]:
    """Return the field of a space that an option describes."""
    if text is None:
        return {}
    found = []
    for index, item in enumerate(text.split(",")):
        match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", item)
        if match is None:
            raise SpaceError(f"--stages {text}: {item!r} is no stage; write channels, blocks and stride, as 24x2x2")
        found.append(Stage(int(match[1]), int(match[2]), int(match[3]), expand=index > 0))
    return {"stages": tuple(found)}


def run_train(options: argparse.Namespace) -> Found:
    """Train the supernet."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    recipe = recipe_of(options)
    space = Space(
        width=options.width,
        resolution=recipe.resolution or Space.resolution,
        kernels=options.kernels,
        expansions=options.expansions,
        last=options.last,
        **_stages(options.stages),
    )
    pictures, classes = training_pictures(options, PictureFacts.of(space))
    space = Space.from_dict({**space.to_dict(), "classes": classes})
    options.out.mkdir(parents=True, exist_ok=True)
    with processes(options.device) as together, progress_bar(together.first) as progress:
        compute_deterministically(together.device)
        record = train_supernet(
            space,
            pictures,
            recipe,
            options.out,
            largest_epochs=options.largest_epochs,
            paths=options.paths,
            teacher_share=options.teacher_share,
            temperature=options.temperature,
            limit=options.limit,
            seed=options.seed,
            processes=together,
            precision=options.precision,
            tensorboard=options.tensorboard,
            progress=progress,
        )
        if not together.first:
            return {}, ""
    path = options.out / SUPERNET
    text = f"{path}: {space.size:.3g} networks; the largest has top-1 {record['top1_largest']:.2f} %"
    return {**record, "weights": str(path), "networks": space.size}, text


def run_table(options: argparse.Namespace) -> Found:
    """Tabulate the cycles of every choice."""
    config = target(options)
    space = load_supernet(options.out).space
    with study_bar("compiling") as progress:
        table = CycleTable.build(space, config, progress)
    path = table_path(options.out, config)
    table.save(path)
    baseline = space.baseline
    estimate, whole = table.cycles(space, baseline), whole_cycles(space, baseline, config)
    found = {"table": str(path), "entries": len(table.entries), "baseline_table": estimate, "baseline_cycles": whole}
    text = (
        f"{path}: {len(table.entries)} choices; their sum for the depthwise baseline is {estimate:,} cycles, compiled "
        f"as a whole it takes {whole:,}"
    )
    return found, text


def _evaluator(options: argparse.Namespace, trained: Trained) -> Evaluator:
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this machine has no GPU")
    pictures = trained.pictures(options.data, options.test, options.workers)
    batch = trained.record["recipe"]["batch"]
    return Evaluator(trained.model.to(device), pictures, batches=options.recalibrate, batch=batch, device=device)


def run_search(options: argparse.Namespace) -> Found:
    """Search, compile the front, and show it beside the baselines."""
    need_packages("the search")
    # imported late: Optuna is an extra
    from sw.search.report import csv_text, picture, table_text
    from sw.search.study import Budget, Setup, candidates, front, search

    config = target(options)
    trained = load_supernet(options.out)
    space = trained.space
    table = CycleTable.load(table_path(options.out, config), space, config)
    budget = Budget(space, config, table, options.max_cycles)
    fastest = budget.check()
    baselines = _baselines(table, space)
    evaluator = _evaluator(options, trained)
    accuracies: dict[str, float] = {}

    def accuracy(architecture: Architecture) -> float:
        key = str(architecture)
        if key not in accuracies:
            accuracies[key] = evaluator.accuracy(architecture)
        return accuracies[key]

    def compiled(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "cycles": whole_cycles(space, Architecture.parse(row["architecture"]), config)}

    setup = Setup(
        budget,
        accuracy,
        {"supernet": trained.digest[:16], "recalibrate": options.recalibrate, "pictures": trained.record["pictures"]},
        options.seed,
        (fastest, space.largest, *baselines.values()),
    )
    where = options.storage or str(options.out / "study.log")
    name = options.study or f"{table_path(Path(), config).stem.partition('-')[2]}-{options.max_cycles or 'any'}"
    with study_bar("searching") as progress:
        study = search(where, name, setup, trials=options.trials, progress=progress)
    rows = candidates(study)
    accuracies |= {row["architecture"]: row["accuracy"] for row in rows}
    best = front([compiled(row) for row in rows if row["pareto"]], "cycles")
    others = [
        compiled(
            {
                "kind": kind,
                "architecture": str(architecture),
                "table_cycles": table.cycles(space, architecture),
                "accuracy": accuracy(architecture),
            }
        )
        for kind, architecture in baselines.items()
    ]
    whole = {row["architecture"]: row["cycles"] for row in best}
    every = [{"kind": "candidate", **row, "cycles": whole.get(row["architecture"], "")} for row in rows]
    every = [{**row, "pareto": row["architecture"] in whole} for row in every]
    result = {
        "config": config.to_dict(),
        "max_cycles": options.max_cycles,
        "front": [{name: value for name, value in row.items() if name != "pareto"} for row in best],
        "baselines": others,
        "candidates": len(rows),
        "networks": space.size,
    }
    title = f"{len(rows)} of {space.size:.1e} networks on {config.rows}x{config.cols}"
    write_atomic(options.out / "candidates.csv", csv_text([*every, *others]).encode())
    save_picture(picture(rows, best, others, title), options.out / "pareto.png")
    write_atomic(options.out / _RESULT, json.dumps(result, indent=1).encode())
    return result, f"{table_text(best, others)}\nall networks: {options.out}/candidates.csv, picture: pareto.png"


def _baselines(table: CycleTable, space: Space) -> dict[str, Architecture]:
    """Return networks to compare with: MobileNetV2's shape, depthwise, FuSe-Half, and the paper's hybrid of them."""
    base = space.baseline
    return {
        "depthwise": base,
        "greedy": greedy_hybrid(table, space, base),
        "fuse_half": base.with_operators(dict.fromkeys(range(len(base.blocks)), "fuse_half")),
    }


def _result(folder: Path) -> dict[str, Any]:
    path = folder / _RESULT
    try:
        found = json.loads(path.read_text())
        return {name: list(found[name]) for name in ("front", "baselines")}
    except FileNotFoundError:
        raise SpaceError(f"{path}: no such file; search first, with 'python -m sw.search search'") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SpaceError(f"{path}: holds no result of a search ({error})") from None


def _chosen(names: list[str], folder: Path) -> dict[str, dict[str, Any]]:
    """Return what is known of each network to export, by the name of its file."""
    if all("|" in name for name in names) and names:
        return {f"network-{index}": {"architecture": name} for index, name in enumerate(names)}
    result = _result(folder)
    known = {str(index): row for index, row in enumerate(result["front"])}
    known |= {row["kind"]: row for row in result["baselines"]}
    found = {}
    for index, name in enumerate(names or [*map(str, range(len(result["front"]))), "greedy"]):
        if name not in known and "|" not in name:
            raise SpaceError(f"{name!r}: no such network; there are {', '.join(known)}")
        if name in known:
            found[f"front-{name}" if name.isdecimal() else name] = known[name]
        else:
            found[f"network-{index}"] = {"architecture": name}
    return found


def run_export(options: argparse.Namespace) -> Found:
    """Write networks for the compiler."""
    trained = load_supernet(options.out)
    chosen = _chosen(options.networks, options.out)
    for row in chosen.values():
        list(trained.space.blocks(Architecture.parse(row["architecture"])))
    evaluator = _evaluator(options, trained)
    folder = options.out / "networks"
    folder.mkdir(exist_ok=True)
    files = {}
    for name, row in chosen.items():
        path = folder / f"{name}.pt2"
        export_network(evaluator, Architecture.parse(row["architecture"]), path, row)
        files[str(path)] = row
    lines = [*files, f"compile with: python -m sw.compile {next(iter(files))} --calib {options.data} --out PROGRAM"]
    return {"networks": files}, "\n".join(lines)
