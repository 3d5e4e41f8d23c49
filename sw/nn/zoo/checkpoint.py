"""Checkpoints: read a state dict, compare it with a network, translate foreign parameter names."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from sw.nn.weights import UNREADABLE, WeightsError, read_arrays
from sw.nn.zoo.efficientnet import Family

__all__ = ["State", "last_outputs", "mismatch", "read_state", "rename_efficientnet_pytorch"]

State = dict[str, Tensor]

_COUNTER = "num_batches_tracked"  # absent from old checkpoints; no inference uses it
_WRAPPERS = ("state_dict", "model")


def read_state(path: str | Path) -> State:
    """Return the state dict in a file of ``torch.save`` (plain, or under "state_dict" or "model") or in an ``.npz``.

    Only tensors are unpickled (``weights_only``), so a file cannot run code.

    Raises
    ------
    WeightsError
        If the file is missing, unreadable or holds something else.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return {name: torch.from_numpy(array) for name, array in read_arrays(path).items()}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights file") from None
    except UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # torch then advises to run the file's code
            reason = "neither an archive of torch.save nor tensors alone"
        raise WeightsError(
            f"{path}: not a readable checkpoint ({reason}); save one with torch.save(model.state_dict(), path)"
        ) from None
    for key in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: holds no state dict (parameter names to tensors) but {type(state).__name__}")
    return dict(state)


def _some(what: str, found: list[str]) -> list[str]:
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return [f"{what} {found[0]}{more}"] if found else []


def mismatch(network: nn.Module, state: State) -> str | None:
    """Say how a state dict differs from a network's in names and shapes, the first of each; None if it fits."""
    own = {name: value for name, value in network.state_dict().items() if not name.endswith(_COUNTER)}
    shapes = [
        f"{name!r} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    problems = [
        *_some("the file lacks", [repr(name) for name in own if name not in state]),
        *_some("the network has no", [repr(name) for name in state if name not in own and not name.endswith(_COUNTER)]),
        *_some("in the file", shapes),
    ]
    return "; ".join(problems) or None


def last_outputs(state: State) -> int | None:
    """Return the outputs of the last linear layer, that is the number of classes."""
    linear = [value for value in state.values() if value.ndim == 2]
    return len(linear[-1]) if linear else None


def rename_efficientnet_pytorch(state: State, family: Family) -> State:
    """Translate parameter names of ``efficientnet-lite-pytorch`` to timm's; other states are returned as they are."""
    if "_conv_stem.weight" not in state:
        return state
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    inverted = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    places = [
        (f"blocks.{number}.{index}.", separable if stage.kind == "separable" else inverted)
        for number, stage in enumerate(family.stages)
        for index in range(stage.repeats)
    ]
    renamed: State = {}
    for name, value in state.items():
        match = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", name)
        if match is not None and int(match[1] or 0) < len(places):
            prefix, layers = places[int(match[1])] if match[1] else ("", outer)
            if match[2] in layers:
                name = f"{prefix}{layers[match[2]]}.{match[3]}"
        renamed[name] = value
    return renamed
