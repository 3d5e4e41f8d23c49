"""The exploration itself: an Optuna study that processes, on one machine or many, add trials to."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from hw.spec.config import ConfigError
from sw.compiler import CompileError
from sw.compiler.ir import Graph
from sw.explore.identity import figure_sources, shape_digest
from sw.explore.point import OBJECTIVES, Point, evaluate
from sw.explore.space import Space
from sw.model.area import AreaTable
from sw.model.channels import Memory
from sw.model.energy import EnergyTable
from sw.study.joined import add_trials, check_facts, join_study
from sw.study.journal import StudyError
from sw.study.sampler import Chooser, combination, finished

__all__ = ["Setup", "explore", "open_study", "points"]

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Setup:
    """What all processes of an exploration share.

    Parameters
    ----------
    space
        Accelerators to choose from.
    objectives
        Keys of :data:`~sw.explore.point.OBJECTIVES`, at least one.
    sampler
        ``nsga2`` (evolution) or ``grid`` (every combination, in random order).
    seed
        Of the choice, 0 or more; None: any.
    memory, area_table, energy_table
        For the models.
    """

    space: Space
    objectives: tuple[str, ...] = ("cycles", "area")
    sampler: str = "nsga2"
    seed: int | None = None
    memory: Memory = Memory()
    area_table: AreaTable = AreaTable()
    energy_table: EnergyTable = EnergyTable()


def open_study(where: str, name: str, graph: Graph, setup: Setup) -> optuna.Study:
    """Open a study, or make it.

    Parameters
    ----------
    where
        File that several processes and machines may append to, or the URL of a database.
    name
        Of the study in it.
    graph, setup
        What is explored.

    Raises
    ------
    sw.study.journal.StudyError
        If the storage cannot be used, or the study is of another network, other settings or other sources (the first
        that differs is named).
    """
    return join_study(
        where,
        name,
        sampler=Chooser(setup.space.choices, grid=setup.sampler == "grid", seed=setup.seed),
        directions=["minimize"] * len(setup.objectives),
        facts=_facts(graph, setup),
    )


def _facts(graph: Graph, setup: Setup) -> dict[str, Any]:
    """Return what all trials of a study share."""
    return {
        "network": graph.name,
        "shapes": shape_digest(graph)[:16],
        "sources": figure_sources()[:16],
        "objectives": list(setup.objectives),
        "space": setup.space.choices,
        "memory": asdict(setup.memory),
        "area": asdict(setup.area_table),
        "energy": asdict(setup.energy_table),
    }


def _trial(graph: Graph, setup: Setup, chooser: Chooser, trial: Trial) -> list[float]:
    chosen = {name: trial.suggest_categorical(name, values) for name, values in setup.space.choices.items()}
    known = finished(trial.study).get(combination(chosen))
    chooser.repeats = 0 if known is None else chooser.repeats + 1
    if known is not None and "infeasible" in known.user_attrs:
        trial.set_user_attr("infeasible", known.user_attrs["infeasible"])
        raise optuna.TrialPruned
    if known is not None:
        point = Point(**known.user_attrs["point"])
    else:
        try:
            config = setup.space.config(chosen)
            point = evaluate(
                graph,
                config,
                memory=setup.memory,
                area_table=setup.area_table,
                energy_table=setup.energy_table,
            )
        except (ConfigError, CompileError) as error:
            trial.set_user_attr("infeasible", str(error))
            raise optuna.TrialPruned from error
    trial.set_user_attr("point", asdict(point))
    return [getattr(point, OBJECTIVES[name]) for name in setup.objectives]


def _done(study: optuna.Study) -> int:
    return len(finished(study))


def _work(where: str, name: str, graph_file: str, setup: Setup, trials: int) -> None:
    """Add trials until the study has as many combinations as wanted (a process of its own)."""
    graph = pickle.loads(Path(graph_file).read_bytes())
    try:
        study = open_study(where, name, graph, setup)
    except StudyError as error:
        sys.exit(f"error: {error}")
    add_trials(study, lambda trial: _trial(graph, setup, study.sampler, trial), trials, done=_done)


def explore(
    where: str,
    name: str,
    graph: Graph,
    setup: Setup,
    *,
    trials: int,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> optuna.Study:
    """Add trials to a study until it has `trials` distinct ones; what an interrupted run finished counts.

    Parameters
    ----------
    where, name, graph, setup
        As for :func:`open_study`.
    trials
        Combinations wanted, other runs' and machines' included; no more than the space has.
    jobs
        Processes.
    progress
        Called with finished and wanted combinations.

    Raises
    ------
    sw.study.journal.StudyError
        As :func:`open_study`, or if a process ends before its time.
    """
    study = open_study(where, name, graph, setup)
    trials = min(trials, setup.space.size)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        graph_file = Path(folder) / "graph"
        graph_file.write_bytes(pickle.dumps(graph))
        given = (where, name, str(graph_file), setup, trials)
        workers = [context.Process(target=_work, args=given) for _ in range(jobs)]
        try:
            for worker in workers:
                worker.start()
            while any(worker.is_alive() for worker in workers):
                for worker in workers:
                    worker.join(_POLL_SECONDS / jobs)
                progress(_done(study), trials)
        finally:
            for worker in workers:
                worker.terminate()
                worker.join()
        failed = [worker.exitcode for worker in workers if worker.exitcode]
        if failed:
            raise StudyError(
                f"{len(failed)} of {jobs} processes failed (exit status {failed[0]}); see their messages.  "
                "What is finished is kept: the same command continues"
            )
    check_facts(study, where, _facts(graph, setup))
    return study


def points(study: optuna.Study) -> tuple[list[dict[str, Any]], int]:
    """Return the distinct accelerators of a study, and how many others are infeasible.

    Each has ``params``, the members of :class:`~sw.explore.point.Point`, and ``pareto``: no other one is better in one
    objective and as good in all.
    """
    best = {combination(trial.params) for trial in study.best_trials}
    known = finished(study)
    rows = [
        {"params": trial.params, **trial.user_attrs["point"], "pareto": key in best}
        for key, trial in known.items()
        if trial.state == TrialState.COMPLETE
    ]
    return sorted(rows, key=lambda row: (row["cycles"], row["area_mm2"])), len(known) - len(rows)
