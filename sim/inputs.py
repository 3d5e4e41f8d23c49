"""Network inputs from files: .npy arrays and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.spec.program import Program, TensorSpec
from sim.backend import Int8Array
from sim.memory import InputError, quantise_input

__all__ = ["read_inputs"]

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp")


def read_inputs(program: Program, arguments: Sequence[str]) -> dict[str, Int8Array]:
    """Return the inputs named on a command line.

    Parameters
    ----------
    program
        The program to run.  ``meta["input"]`` says how its network takes pictures: ``range``, the values of black and
        white, then ``mean`` and ``std`` (for all channels or per channel), applied to these values.
    arguments
        ``FILE`` for a program with one input, or ``NAME=FILE``.  An int8 .npy is used as it is, a float .npy is
        quantised, a picture is resized (shorter side), cropped (centre), normalised and quantised.

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
        if path.suffix.lower() in _PICTURES:
            return quantise_input(spec, _picture(spec, path, meta))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except InputError:
        raise
    except Exception as error:  # numpy and Pillow raise many types, tokenize's among them, on damaged files
        raise InputError(f"{path}: unreadable ({error})") from None
    raise InputError(f"{path}: {path.suffix or 'no suffix'} is unknown; give .npy or {', '.join(_PICTURES)}")


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


def _picture(spec: TensorSpec, path: Path, meta: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    facts = meta.get("input")
    if not isinstance(facts, Mapping) or not {"range", "mean", "std"} <= set(facts):
        raise InputError(
            f"{path}: the program does not say how its network takes pictures (meta.input with range, mean and std); "
            f"give a .npy of real values instead"
        )
    channels, height, width = spec.shape
    if channels not in (1, 3):
        raise InputError(f"{path}: input {spec.name} has {channels} channels; a picture gives 1 or 3: give a .npy")
    try:
        from PIL import Image  # only pictures need it
    except ImportError:
        raise InputError(f"{path}: reading pictures needs Pillow (pip install pillow); or give a .npy") from None
    with Image.open(path) as opened:
        if opened.mode.startswith(("I", "F")):
            raise InputError(f"{path}: more than 8 bits per value (mode {opened.mode}); save it with 8, or give a .npy")
        image = opened.convert("L" if channels == 1 else "RGB")
    scale = max(width / image.width, height / image.height)
    size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image, np.float64).reshape(height, width, channels).transpose(2, 0, 1) / 255
    black, white = facts["range"]
    mean, std = (np.asarray(facts[key], np.float64).reshape(-1, 1, 1) for key in ("mean", "std"))
    return (black + pixels * (white - black) - mean) / std
