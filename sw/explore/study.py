"""The exploration itself: an Optuna study that processes, on one machine or many, add trials to."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import pickle
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from hw.spec.config import ConfigError
from sw.compiler import CompileError
from sw.compiler.ir import Graph
from sw.explore.point import OBJECTIVES, Point, evaluate
from sw.explore.space import Space
from sw.model.area import AreaTable
from sw.model.channels import Memory
from sw.model.energy import EnergyTable

__all__ = ["FINISHED", "Setup", "StudyError", "explore", "open_study", "points"]

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
"""A trial that has a point, or an accelerator that cannot be built or does not take the network."""

_POLL_SECONDS = 0.5

_POPULATION = 24
"""Accelerators per generation of NSGA-II."""


class StudyError(ValueError):
    """A storage that cannot be used, or a study of something else."""


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
        Of the choice.
    memory, area_table, energy_table
        For the models.
    """

    space: Space
    objectives: tuple[str, ...] = ("cycles", "area")
    sampler: str = "nsga2"
    seed: int = 0
    memory: Memory = Memory()
    area_table: AreaTable = AreaTable()
    energy_table: EnergyTable = EnergyTable()


def _storage(where: str) -> BaseStorage:
    try:
        if "://" in where:
            return RDBStorage(where)
        return JournalStorage(JournalFileBackend(where))
    except Exception as error:  # what drivers of databases raise has no common base
        raise StudyError(f"--storage {where}: cannot be opened ({error})") from error


def open_study(where: str, name: str, graph: Graph, setup: Setup, *, worker: int = 0) -> optuna.Study:
    """Open a study, or make it.

    Parameters
    ----------
    where
        File that several processes and machines may append to, or the URL of a database.
    name
        Of the study in it.
    graph, setup
        What is explored.
    worker
        Number of this process: those of one exploration draw differently.

    Raises
    ------
    StudyError
        If the storage cannot be used, or the study is of another network or other settings (the first that differs is
        named).
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=_storage(where),
        sampler=optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=setup.seed + worker),
        study_name=name,
        load_if_exists=True,
        directions=["minimize"] * len(setup.objectives),
    )
    facts = {
        "network": graph.name,
        "macs": _macs(graph),
        "objectives": list(setup.objectives),
        "space": setup.space.choices,
        "memory": asdict(setup.memory),
        "area": asdict(setup.area_table),
        "energy": asdict(setup.energy_table),
    }
    facts = json.loads(json.dumps(facts))
    known = study.user_attrs.get("facts")
    if known is None:
        study.set_user_attr("facts", facts)
    for key in facts if known is not None else ():
        if known.get(key) != facts[key]:
            raise StudyError(
                f"study {name!r} in {where} has {key} {known.get(key)!r}, not {facts[key]!r}; give another --study"
            )
    return study


def _macs(graph: Graph) -> int:
    return sum(op.weight.size for op in graph.ops if hasattr(op, "weight"))


def _trial(graph: Graph, setup: Setup, seen: Callable[[dict[str, Any]], Point | None], trial: Trial) -> list[float]:
    chosen = {name: trial.suggest_categorical(name, values) for name, values in setup.space.choices.items()}
    point = seen(chosen)
    if point is None:
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


def _work(where: str, name: str, graph_file: str, setup: Setup, trials: int, worker: int) -> None:
    """Add trials until the study has as many as wanted (a process of its own)."""
    graph = pickle.loads(Path(graph_file).read_bytes())
    study = open_study(where, name, graph, setup, worker=worker)

    def seen(chosen: dict[str, Any]) -> Point | None:
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if trial.params == chosen:
                return Point(**trial.user_attrs["point"])
        return None

    while len(study.get_trials(deepcopy=False, states=FINISHED)) < trials:
        if setup.sampler == "grid" and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            break
        study.optimize(lambda trial: _trial(graph, setup, seen, trial), n_trials=1)


def _queue_all(study: optuna.Study, setup: Setup) -> None:
    """Queue the combinations that no trial has finished; those that a killed process had begun are among them."""
    choices = setup.space.choices
    combinations = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    known = study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.WAITING))
    missing = set(range(len(combinations))) - {trial.user_attrs.get("combination") for trial in known}
    for index in random.Random(setup.seed).sample(sorted(missing), len(missing)):
        study.enqueue_trial(combinations[index], user_attrs={"combination": index})


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
    """Add trials to a study until it has `trials` finished ones; what an interrupted run finished counts.

    Parameters
    ----------
    where, name, graph, setup
        As for :func:`open_study`.
    trials
        Finished trials wanted, other runs' and machines' included; with the grid sampler no more than combinations.
    jobs
        Processes.
    progress
        Called with finished and wanted trials.

    Raises
    ------
    StudyError
        As :func:`open_study`, or if a process ends before its time.
    """
    study = open_study(where, name, graph, setup)
    if setup.sampler == "grid":
        trials = min(trials, setup.space.size)
        _queue_all(study, setup)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        graph_file = Path(folder) / "graph"
        graph_file.write_bytes(pickle.dumps(graph))
        # several machines may join: their processes draw differently too
        base = os.getpid() * jobs if setup.seed == 0 else 0
        workers = [
            context.Process(target=_work, args=(where, name, str(graph_file), setup, trials, base + index))
            for index in range(jobs)
        ]
        try:
            for worker in workers:
                worker.start()
            while any(worker.is_alive() for worker in workers):
                for worker in workers:
                    worker.join(_POLL_SECONDS / jobs)
                progress(len(study.get_trials(deepcopy=False, states=FINISHED)), trials)
        finally:
            for worker in workers:
                worker.terminate()
                worker.join()
        failed = [worker.exitcode for worker in workers if worker.exitcode]
        if failed:
            raise StudyError(f"{len(failed)} of {jobs} processes failed (exit status {failed[0]}); see their messages")
    return study


def points(study: optuna.Study) -> tuple[list[dict[str, Any]], int]:
    """Return the distinct accelerators of a study, and how many others are infeasible.

    Each has ``params``, the members of :class:`~sw.explore.point.Point`, and ``pareto``: no other one is better in one
    objective and as good in all.
    """
    best = {_key(trial) for trial in study.best_trials}
    found = {_key(trial): trial for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    infeasible = {_key(trial) for trial in study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))}
    rows = [
        {"params": trial.params, **trial.user_attrs["point"], "pareto": key in best} for key, trial in found.items()
    ]
    return sorted(rows, key=lambda row: (row["cycles"], row["area_mm2"])), len(infeasible)


def _key(trial: FrozenTrial) -> Sequence[tuple[str, Any]]:
    return tuple(sorted(trial.params.items()))
