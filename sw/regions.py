"""DRAM images of a program: inputs packed into regions, outputs taken out, float tensors quantised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hw.spec.isa import Region
from hw.spec.numerics import quantise
from hw.spec.program import Program, TensorSpec

__all__ = [
    "InputError",
    "Int8Array",
    "build_regions",
    "check_inputs",
    "constant_regions",
    "dequantise",
    "quantise_input",
    "read_outputs",
    "read_tensor",
    "write_tensor",
]

Bytes = npt.NDArray[np.uint8]
Int8Array = npt.NDArray[np.int8]


class InputError(ValueError):
    """An input that does not fit the program; the message names the tensor, what it is and what is expected."""


def build_regions(program: Program, inputs: Mapping[str, npt.ArrayLike]) -> list[Bytes]:
    """Return the four DRAM regions before a run: CONST holds the image, inputs are packed in, the rest is 0.

    Parameters
    ----------
    program
        The program; its ``region_sizes`` are the sizes of the arrays (a CONST smaller than the image grows to it).
    inputs
        int8 array of shape (channels, height, width) for every name in ``program.inputs``.

    Raises
    ------
    InputError
        If an input is missing, unknown, or of the wrong shape or type.
    ProgramError
        If an input tensor lies outside its region.
    """
    check_inputs(program, inputs)
    regions = constant_regions(program)
    for spec in program.inputs:
        write_tensor(regions, spec, inputs[spec.name])
    return regions


def check_inputs(program: Program, inputs: Mapping[str, npt.ArrayLike]) -> None:
    """Raise :class:`InputError` unless there is an input of every name and no other."""
    names = [spec.name for spec in program.inputs]
    if missing := [name for name in names if name not in inputs]:
        raise InputError(f"input(s) missing: {', '.join(missing)}; the program takes {_listed(program.inputs)}")
    if unknown := [name for name in inputs if name not in names]:
        raise InputError(f"no input named {', '.join(unknown)}; the program takes {_listed(program.inputs)}")


def constant_regions(program: Program) -> list[Bytes]:
    """Return the four DRAM regions without inputs: CONST holds the image, the rest is 0."""
    sizes = list(program.region_sizes)
    sizes[Region.CONST] = max(sizes[Region.CONST], len(program.image))
    regions = [np.zeros(size, np.uint8) for size in sizes]
    regions[Region.CONST][: len(program.image)] = np.frombuffer(program.image, np.uint8)
    return regions


def write_tensor(regions: Sequence[Bytes], spec: TensorSpec, value: npt.ArrayLike) -> None:
    """Put an int8 array of ``spec.shape`` into its region; bytes between planes keep their value.

    Raises
    ------
    InputError
        If shape or type differ from the specification's.
    ProgramError
        If the tensor lies outside its region or its planes overlap.
    """
    array = np.asarray(value)
    if array.dtype != np.int8:
        raise InputError(
            f"input {spec.name} has type {array.dtype}; int8 is expected (quantise_input makes it of floats)"
        )
    if array.shape != spec.shape:
        raise InputError(
            f"input {spec.name} has shape {array.shape}; {spec.shape} (channels, height, width) is expected"
        )
    if spec.packing is not None:
        array = spec.packing.pack(array, spec.zero_point)
    _planes(regions, spec)[...] = array.reshape(spec.shape[0], -1).view(np.uint8)


def read_tensor(regions: Sequence[Bytes | bytes], spec: TensorSpec) -> Int8Array:
    """Return a copy of a tensor as int8 (channels, height, width); raise ProgramError if it lies outside its region."""
    planes = _planes(regions, spec).view(np.int8)
    return planes.reshape(spec.shape).copy() if spec.packing is None else spec.packing.unpack(planes)


def read_outputs(program: Program, regions: Sequence[Bytes | bytes]) -> dict[str, Int8Array]:
    """Return every output tensor of a program by name."""
    return {spec.name: read_tensor(regions, spec) for spec in program.outputs}


def quantise_input(spec: TensorSpec, value: npt.ArrayLike) -> Int8Array:
    """Return real numbers as int8 in the tensor's scale, see :func:`hw.spec.numerics.quantise`.

    Raises
    ------
    InputError
        If a value is not finite.
    """
    try:
        return quantise(value, spec.scale, spec.zero_point)
    except ValueError as error:
        raise InputError(f"input {spec.name}: {error}") from None


def dequantise(spec: TensorSpec, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the real numbers an int8 tensor stands for: ``(q - zero_point) * scale``."""
    return (np.asarray(value, np.float64) - spec.zero_point) * spec.scale


def _planes(regions: Sequence[Bytes | bytes], spec: TensorSpec) -> Bytes:
    """Return a view (channels, bytes of a plane) of the tensor (writable if the region is an array)."""
    spec.check(tuple(len(region) for region in regions))
    region = np.frombuffer(regions[spec.region], np.uint8)
    return np.lib.stride_tricks.as_strided(
        region[spec.offset :], (spec.shape[0], spec.plane), (spec.plane_stride, 1), writeable=region.flags.writeable
    )


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.shape}" for spec in specs) or "none"
