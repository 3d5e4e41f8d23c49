"""What a study tries next: by evolution, or a combination that is still missing."""

from __future__ import annotations

import itertools
import random
import secrets
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler
from optuna.trial import FrozenTrial, TrialState

__all__ = ["FINISHED", "Chooser", "combination", "finished"]

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of a trial whose combination has values, or cannot have any."""

_POPULATION = 24
"""Trials per generation of NSGA-II."""


def combination(chosen: Mapping[str, Any]) -> Hashable:
    """Return what tells combinations apart."""
    return tuple(sorted(chosen.items()))


def finished(study: Study) -> dict[Hashable, FrozenTrial]:
    """Return a finished trial of each combination that has one; however often it was tried, it counts once."""
    return {combination(trial.params): trial for trial in study.get_trials(deepcopy=False, states=FINISHED)}


class Chooser(BaseSampler):
    """Optuna's sampler of all processes that work on a study.

    What a trial draws depends on the seed and the trial's number, which the storage gives out once: neither processes
    nor machines nor a later run repeat the draws of others, even with one seed.

    Parameters
    ----------
    choices
        Values by name.
    grid
        Take missing combinations in random order.  Otherwise NSGA-II draws, and a missing one is taken only where it
        has drawn known ones for as long as a generation.
    seed
        0 or more; None: any.
    """

    def __init__(self, choices: Mapping[str, Sequence[Any]], *, grid: bool, seed: int | None) -> None:
        self.choices, self.grid = choices, grid
        self.repeats = 0
        self._seed = secrets.randbits(64) if seed is None else seed
        self._given: dict[str, Any] | None = None
        self._evolution = self._draw(0)

    def _draw(self, number: int) -> NSGAIISampler:
        (seed,) = np.random.SeedSequence([self._seed, number]).generate_state(1)
        return NSGAIISampler(population_size=_POPULATION, seed=int(seed))

    def missing(self, study: Study, rng: random.Random) -> dict[str, Any] | None:
        """Return a combination without a finished trial; None: there is none (subclasses may know a shorter way).

        One that is being tried elsewhere comes last, but comes: its process may have been killed.
        """
        known = set(finished(study))
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        begun = {combination(trial.params) for trial in running}
        every = (dict(zip(self.choices, values, strict=True)) for values in itertools.product(*self.choices.values()))
        missing = [chosen for chosen in every if combination(chosen) not in known]
        untouched = [chosen for chosen in missing if combination(chosen) not in begun]
        return rng.choice(untouched or missing) if missing else None

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Choose, or leave it to NSGA-II."""
        self._evolution = self._draw(trial.number)
        self._evolution.before_trial(study, trial)
        take = self.grid or self.repeats >= _POPULATION
        self._given = self.missing(study, random.Random(f"{self._seed} {trial.number}")) if take else None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return NSGA-II's."""
        return self._evolution.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return what was chosen; NSGA-II is asked either way, so that it takes the trial into its population."""
        drawn = self._evolution.sample_relative(study, trial, search_space)
        return drawn if self._given is None else {name: self._given[name] for name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return what was chosen, or NSGA-II's."""
        if self._given is not None:
            return self._given[param_name]
        return self._evolution.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Tell NSGA-II."""
        self._evolution.after_trial(study, trial, state, values)
