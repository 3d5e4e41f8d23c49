"""A study that processes, machines and later runs add trials to, all of the same facts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna import Study
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.trial import Trial

from sw.study.journal import Journal, StudyError
from sw.study.sampler import Chooser

__all__ = ["add_trials", "check_facts", "join_study", "open_storage"]

Progress = Callable[[int, int], None]
"""Called with what is done, and in all."""

_FACTS = "facts"


def open_storage(where: str) -> BaseStorage:
    """Return a storage of studies: a database by its URL, else a file that many processes may append to.

    Raises
    ------
    sw.study.journal.StudyError
        If it cannot be opened.
    """
    try:
        if "://" in where:
            return RDBStorage(where)
        return JournalStorage(Journal(where))
    except StudyError:
        raise
    except Exception as error:  # what drivers of databases raise has no common base
        raise StudyError(f"--storage {where}: cannot be opened ({error})") from error


def join_study(
    where: str, name: str, *, sampler: Chooser, directions: Sequence[str], facts: Mapping[str, Any]
) -> Study:
    """Open a study, or make it.

    Parameters
    ----------
    where
        File that several processes and machines may append to, or the URL of a database.
    name
        Of the study in it.
    sampler, directions
        As Optuna takes them.
    facts
        On which the values of all trials depend (JSON-able).

    Raises
    ------
    sw.study.journal.StudyError
        If the storage cannot be used, or the study is of other facts (the first that differs is named).
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=open_storage(where),
        sampler=sampler,
        study_name=name,
        load_if_exists=True,
        directions=list(directions),
    )
    if _FACTS not in study.user_attrs:
        study.set_user_attr(_FACTS, _plain(facts))
    check_facts(study, where, facts)  # another machine may have made the study at the same time
    return study


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts as JSON has them."""
    return dict(json.loads(json.dumps(dict(facts))))


def check_facts(study: Study, where: str, facts: Mapping[str, Any]) -> None:
    """Refuse a study of other facts.

    Raises
    ------
    sw.study.journal.StudyError
        If one differs; the first is named.
    """
    known, own = study.user_attrs[_FACTS], _plain(facts)
    for key in dict.fromkeys((*own, *known)):
        if known.get(key) != own.get(key):
            what = "; specification, compiler or models have changed" if key == "sources" else ""
            raise StudyError(
                f"study {study.study_name!r} in {where} has {key} {known.get(key)!r}, not {own.get(key)!r}{what}; "
                "give another --study"
            )


def add_trials(
    study: Study,
    objective: Callable[[Trial], Sequence[float]],
    total: int,
    *,
    done: Callable[[Study], int],
    progress: Progress = lambda done, total: None,
) -> None:
    """Add trials until `done` says that the study has `total`, those of other runs and machines included.

    Parameters
    ----------
    study, objective
        As Optuna has them.
    total
        Wanted.
    done
        How many count; drawn twice, for instance, is one.
    progress
        Called before each trial and at the end.

    Raises
    ------
    sw.study.journal.StudyError
        If a trial cannot be stored.
    """
    while (count := done(study)) < total:
        progress(count, total)
        try:
            study.optimize(objective, n_trials=1)
        except Exception as error:
            # where a result cannot be stored, Optuna fails once more on its way out: the first error is the one to tell
            found: BaseException | None = error
            while found is not None and not isinstance(found, StudyError | StorageInternalError):
                found = found.__context__
            if isinstance(found, StorageInternalError):
                reason = str(found.__cause__ or found).partition("\n")[0]
                raise StudyError(f"a trial cannot be stored ({reason}); the same command continues") from found
            if found is not None and found is not error:
                raise found from found.__cause__
            raise
    progress(total, total)
