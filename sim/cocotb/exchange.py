"""How the runner and a bench, which is another process, hand data to each other: files in one folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FOLDER_VARIABLE", "Arrays", "bench_folder", "read_arrays", "read_parameters", "write_arrays", "write_task"]

FOLDER_VARIABLE = "ROWCAST_BENCH"
"""Environment variable that names the folder to the bench."""

Arrays = dict[str, npt.NDArray[Any]]
_PARAMETERS, _TASK, _RESULTS = "parameters.json", "arrays.npz", "results.npz"


def bench_folder() -> Path:
    """Return the folder of the bench that this process runs."""
    return Path(os.environ[FOLDER_VARIABLE])


def write_task(folder: Path, parameters: Mapping[str, object], arrays: Mapping[str, npt.ArrayLike]) -> None:
    """Write what a bench is to work on."""
    (folder / _PARAMETERS).write_text(json.dumps(dict(parameters)))
    np.savez(folder / _TASK, **{key: np.asarray(value) for key, value in arrays.items()})


def read_parameters(folder: Path) -> dict[str, Any]:
    """Return a task's parameters."""
    return json.loads((folder / _PARAMETERS).read_text())


def read_arrays(folder: Path, *, results: bool = False) -> Arrays:
    """Return a task's arrays, or those a bench handed back (none if it did not)."""
    path = folder / (_RESULTS if results else _TASK)
    if not path.is_file():
        return {}
    with np.load(path) as loaded:
        return {key: loaded[key] for key in loaded.files}


def write_arrays(folder: Path, results: Mapping[str, npt.ArrayLike]) -> None:
    """Hand arrays back to the runner."""
    np.savez(folder / _RESULTS, **{key: np.asarray(value) for key, value in results.items()})
