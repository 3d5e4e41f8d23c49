"""Weights as plain numpy archives: one array per parameter and a JSON provenance record."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hw.spec.program import write_atomic

__all__ = ["UNREADABLE", "WeightsError", "load_weights", "read_arrays", "read_provenance", "save_weights"]

PROVENANCE = "provenance"

UNREADABLE = (
    *(OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError),
    *(LookupError, AttributeError, TypeError),  # of an unpickler that interprets arbitrary bytes
)
"""What ``torch.load`` raises for a file that it cannot read."""
_SKIPPED = "num_batches_tracked"  # a training counter that no inference uses


class WeightsError(ValueError):
    """A weights file that is missing, unreadable or of another network."""


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if not name.endswith(_SKIPPED)}


def save_weights(model: nn.Module, path: str | Path, provenance: dict[str, Any]) -> None:
    """Write parameters and buffers under their state names, and `provenance` (JSON-able); whole or not at all."""
    arrays = {name: value.detach().cpu().numpy() for name, value in _state(model).items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, **{PROVENANCE: np.array(json.dumps(provenance))})
    write_atomic(path, buffer.getvalue())


def _read(path: str | Path) -> dict[str, np.ndarray[Any, Any]]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise WeightsError(f"{path}: not a readable .npz archive (a single array)")
        with archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights file") from None
    except WeightsError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: not a readable .npz archive ({error})") from None


def read_arrays(path: str | Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return parameters and buffers by their state names.

    Raises
    ------
    WeightsError
        If the file is missing or unreadable.
    """
    arrays = _read(path)
    arrays.pop(PROVENANCE, None)
    return arrays


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Return how the weights came about.

    Raises
    ------
    WeightsError
        If the file is missing, unreadable or carries no provenance.
    """
    arrays = _read(path)
    if PROVENANCE not in arrays:
        raise WeightsError(f"{path}: no entry {PROVENANCE!r}; this is no weights file of this project")
    record: dict[str, Any] = json.loads(str(arrays[PROVENANCE]))
    return record


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fill a network from a file of :func:`save_weights`.

    Raises
    ------
    WeightsError
        If the file is missing or unreadable, or an array is missing, superfluous or of the wrong shape (named).
    """
    arrays = read_arrays(path)
    state = _state(model)
    for name in sorted(state.keys() ^ arrays.keys()):
        where = "the file lacks" if name in state else "the network has no"
        raise WeightsError(f"{path}: {where} {name!r}; the file belongs to another network")
    for name, value in state.items():
        if tuple(value.shape) != arrays[name].shape:
            raise WeightsError(f"{path}: {name!r} has shape {arrays[name].shape}, not {tuple(value.shape)}")
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False)
