"""Network inputs from files: .npy arrays and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.spec.program import Program, TensorSpec
from sw.preprocessing import SUFFIXES, Preprocessing, decode, preprocess
from sw.regions import InputError, Int8Array, quantise_input

__all__ = ["read_inputs"]


def read_inputs(program: Program, arguments: Sequence[str]) -> dict[str, Int8Array]:
    """Return the inputs named on a command line.

    Parameters
    ----------
    program
        The program to run.  ``meta["input"]`` says how its network takes pictures, as
        :meth:`sw.preprocessing.Preprocessing.from_json` reads it.
    arguments
        ``FILE`` for a program with one input, or ``NAME=FILE``.  An int8 .npy is used as it is, a float .npy is
        quantised, a picture goes through :func:`sw.preprocessing.preprocess` and is quantised.

    Raises
    ------
    InputError
        If a file cannot be read or does not fit; the message says what is expected.
    """
    specs = {spec.name: spec for spec in program.inputs}
    inputs: dict[str, Int8Array] = {}
    for argument in arguments:
        name, _, file = argument.partition("=")
        if name not in specs or not file:
            if len(specs) != 1:
                raise InputError(f"--input {argument}: say NAME=FILE; inputs are {', '.join(specs) or 'none'}")
            name, file = next(iter(specs)), argument
        if name in inputs:
            raise InputError(f"--input {argument}: input {name} is given twice")
        inputs[name] = _read(specs[name], Path(file), program.meta)
    return inputs


def _read(spec: TensorSpec, path: Path, meta: Mapping[str, Any]) -> Int8Array:
    try:
        if path.suffix.lower() == ".npy":
            # not np.load, which also takes archives of several arrays
            with path.open("rb") as file:
                return _array(spec, np.lib.format.read_array(file, allow_pickle=False), path)
        if path.suffix.lower() in SUFFIXES:
            return quantise_input(spec, _picture(spec, path, meta))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except InputError:
        raise
    except Exception as error:  # numpy and Pillow raise many types, tokenize's among them, on damaged files
        raise InputError(f"{path}: unreadable ({error})") from None
    raise InputError(f"{path}: {path.suffix or 'no suffix'} is unknown; give .npy or {', '.join(SUFFIXES)}")


def _array(spec: TensorSpec, array: npt.NDArray[Any], path: Path) -> Int8Array:
    if array.shape == (1, *spec.shape):
        array = array[0]
    if array.shape != spec.shape:
        raise InputError(f"{path}: shape {array.shape}; input {spec.name} takes {spec.shape} (channels, height, width)")
    if array.dtype == np.int8:
        return array
    if array.dtype.kind == "f":
        return quantise_input(spec, array)
    raise InputError(f"{path}: type {array.dtype}; int8 (quantised) or floating point (real values) is expected")


def _picture(spec: TensorSpec, path: Path, meta: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    facts = meta.get("input")
    if not isinstance(facts, Mapping):
        raise InputError(
            f"{path}: the program does not say how its network takes pictures (meta.input with range, mean and std); "
            f"give a .npy of real values instead"
        )
    channels = spec.shape[0]
    if channels not in (1, 3):
        raise InputError(f"{path}: input {spec.name} has {channels} channels; a picture gives 1 or 3: give a .npy")
    try:
        how = Preprocessing.from_json(facts, channels)
    except ValueError as error:
        raise InputError(f"{path}: the program's meta.input: {error}; give a .npy of real values instead") from None
    try:
        return preprocess(decode(path), spec.shape, how)
    except ImportError:
        raise InputError(f"{path}: reading pictures needs Pillow (pip install pillow); or give a .npy") from None
