"""The search: an Optuna study of accuracy against cycles, to which processes and machines add networks."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from hw.spec.config import AcceleratorConfig
from sw.search.latency import CycleTable, whole_cycles
from sw.search.space import Architecture, Space
from sw.study.joined import add_trials, join_study
from sw.study.sampler import Chooser

__all__ = ["Budget", "InfeasibleError", "Setup", "candidates", "front", "open_study", "search"]

_TRIES = 100  # draws of a network that is not known yet

TABLE_ERROR = 0.02
"""How far a sum of the table may be off a network compiled as a whole; nearer to a limit the latter decides."""


class InfeasibleError(ValueError):
    """A budget that no network keeps."""


@dataclass(frozen=True)
class Budget:
    """Cycles that a network may take, on an accelerator.

    Parameters
    ----------
    space, config, table
        Networks, accelerator, and the former's cycles on the latter.
    max_cycles
        None: any number.
    """

    space: Space
    config: AcceleratorConfig
    table: CycleTable
    max_cycles: int | None = None

    def over(self, architecture: Architecture) -> int:
        """Return by how many cycles a network exceeds the budget; 0 or less if it does not."""
        if self.max_cycles is None:
            return 0
        cycles = self.table.cycles(self.space, architecture)
        if abs(cycles - self.max_cycles) <= TABLE_ERROR * self.max_cycles:
            cycles = whole_cycles(self.space, architecture, self.config)
        return cycles - self.max_cycles

    def check(self) -> Architecture:
        """Return the fastest network.

        Raises
        ------
        InfeasibleError
            If even that one exceeds the budget; the message says what it takes.
        """
        fastest = self.table.fastest(self.space)
        if self.over(fastest) > 0:
            cycles = whole_cycles(self.space, fastest, self.config)
            raise InfeasibleError(
                f"--max-cycles {self.max_cycles}: no network of the space is that fast on {self.config.rows}x"
                f"{self.config.cols}; the fastest takes {cycles} cycles: {fastest}"
            )
        return fastest


@dataclass(frozen=True)
class Setup:
    """What all processes of a search share.

    Parameters
    ----------
    budget
        Networks, accelerator, cycles and limit.
    accuracy
        Returns a network's accuracy in percent.
    facts
        On which accuracies depend, as JSON has them.
    seed
        Of the choice, 0 or more; None: any.
    anchors
        Networks to begin with.
    """

    budget: Budget
    accuracy: Callable[[Architecture], float]
    facts: dict[str, Any]
    seed: int | None = None
    anchors: tuple[Architecture, ...] = ()


class _Evolution(Chooser):
    """NSGA-II of a space with more networks than could be listed."""

    def __init__(self, space: Space, seed: int | None) -> None:
        self._space = space
        super().__init__(space.choices, grid=False, seed=seed)

    def missing(self, study: Study, rng: random.Random) -> dict[str, Any] | None:
        """Return a random network, one that is not known if that is soon found."""
        known = _known(study)
        for _ in range(_TRIES):
            architecture = self._space.draw(rng.randrange)
            if str(architecture) not in known:
                break
        return self._space.chosen(architecture)


def _known(study: Study) -> dict[str, FrozenTrial]:
    """Return a finished trial of each network; however often it was drawn, it counts once."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return {trial.user_attrs["architecture"]: trial for trial in reversed(trials)}


def open_study(where: str, name: str, setup: Setup) -> Study:
    """Open a study, or make it.

    Parameters
    ----------
    where
        File that several processes and machines may append to, or the URL of a database.
    name
        Of the study in it.
    setup
        What is searched.

    Raises
    ------
    sw.study.journal.StudyError
        If the storage cannot be used, or the study is of other facts (the first that differs is named).
    """
    budget = setup.budget
    return join_study(
        where,
        name,
        sampler=_Evolution(budget.space, setup.seed),
        directions=["minimize", "maximize"],
        facts={**budget.table.identity, "max_cycles": budget.max_cycles, **setup.facts},
    )


def _trial(trial: Trial, setup: Setup, chooser: Chooser) -> tuple[float, float]:
    budget = setup.budget
    chosen = {name: trial.suggest_categorical(name, values) for name, values in budget.space.choices.items()}
    architecture = budget.space.architecture(chosen)
    known = _known(trial.study).get(str(architecture))
    chooser.repeats = 0 if known is None else chooser.repeats + 1
    if known is not None:
        over, (cycles, accuracy) = known.user_attrs["over"], known.values
    else:
        over, cycles = budget.over(architecture), float(budget.table.cycles(budget.space, architecture))
        # so every network within the budget beats those over it, and these are the better the nearer they are
        accuracy = setup.accuracy(architecture) if over <= 0 else -float(over)
    trial.set_user_attr("architecture", str(architecture))
    trial.set_user_attr("over", over)
    return cycles, accuracy


def _enqueue(study: Study, setup: Setup) -> None:
    """Have the anchors tried that are neither known nor waiting: also one whose process was killed."""
    space, known = setup.budget.space, _known(study)
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    queued = [trial.system_attrs["fixed_params"] for trial in waiting]
    for architecture in dict.fromkeys(setup.anchors):
        chosen = space.chosen(architecture)
        if str(architecture) not in known and chosen not in queued:
            study.enqueue_trial(chosen)


def search(
    where: str,
    name: str,
    setup: Setup,
    *,
    trials: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Study:
    """Add networks to a study until it has `trials` different ones; other runs' and machines' count.

    Parameters
    ----------
    where, name, setup
        As for :func:`open_study`, whose errors this has too.
    trials
        Networks wanted; no more than the space has.
    progress
        Called with networks that are known, and wanted.
    """
    study = open_study(where, name, setup)
    chooser = study.sampler
    assert isinstance(chooser, Chooser)
    _enqueue(study, setup)
    add_trials(
        study,
        lambda trial: _trial(trial, setup, chooser),
        min(trials, setup.budget.space.size),
        done=lambda study: len(_known(study)),
        progress=progress,
    )
    return study


def candidates(study: Study) -> list[dict[str, Any]]:
    """Return the different networks of a study that keep its budget, fastest first.

    Each has ``architecture``, ``table_cycles``, ``accuracy``, and ``pareto``: none is faster and as good, or better and
    as fast.
    """
    rows = [
        {"architecture": name, "table_cycles": round(trial.values[0]), "accuracy": trial.values[1]}
        for name, trial in _known(study).items()
        if trial.user_attrs["over"] <= 0
    ]
    best = front(rows, "table_cycles")
    return sorted(
        ({**row, "pareto": row in best} for row in rows), key=lambda row: (row["table_cycles"], -row["accuracy"])
    )


def front(rows: Sequence[dict[str, Any]], cycles: str) -> list[dict[str, Any]]:
    """Return the rows that no other one beats in accuracy and in the member `cycles`, fastest first."""
    best: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row[cycles], -row["accuracy"])):
        if not best or row["accuracy"] > best[-1]["accuracy"]:
            best.append(row)
    return best
