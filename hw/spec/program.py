"""Programs: what the compiler writes and every backend runs.

A program is a directory with two files.  ``program.bin`` is the image of DRAM region CONST: the instruction stream,
then parameter sets and weights.  ``program.json`` names the configuration, the regions' sizes, the network's inputs
and outputs with their quantisation, and what each instruction belongs to, and holds the image's SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hw.spec.config import AcceleratorConfig, ConfigError
from hw.spec.fields import FieldError
from hw.spec.isa import INSTRUCTION_BYTES, ISA_VERSION, Instruction, Opcode, Region, disassemble
from hw.spec.packing import Packing

__all__ = ["PARAM_DTYPE", "Layer", "Program", "ProgramError", "TensorSpec", "write_atomic"]

FORMAT = 2

PARAM_DTYPE = np.dtype([("bias", "<i4"), ("mult", "<u2"), ("shift", "u1"), ("reserved", "u1")])
"""One parameter entry as stored in memory: 8 bytes per output channel."""


class ProgramError(ValueError):
    """A program that is corrupt, incomplete or meant for another configuration."""


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file under a temporary name, then rename, so that a failure never leaves half a file.

    Raises
    ------
    OSError
        If it cannot be written; its `filename` is the file's.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None  # none if the disk is full, else the temporary one
        raise


@dataclass(frozen=True)
class TensorSpec:
    """An int8 tensor in DRAM: planar (channel, line, pixel), channel planes `plane_stride` bytes apart.

    ``real = (q - zero_point) * scale``.  With `packing` the planes are packed ones; `shape` is the image's.
    """

    name: str
    region: int
    offset: int
    shape: tuple[int, int, int]
    plane_stride: int
    scale: float
    zero_point: int
    packing: Packing | None = None

    def check(self, region_sizes: tuple[int, ...]) -> None:
        """Raise :class:`ProgramError` if the tensor is malformed or lies outside its region."""
        if self.region not in range(len(region_sizes)):
            raise ProgramError(f"tensor {self.name}: there is no region {self.region}")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ProgramError(
                f"tensor {self.name}: shape {self.shape} is not (channels, height, width), each at least 1"
            )
        if not (math.isfinite(self.scale) and self.scale > 0) or not -128 <= self.zero_point <= 127:
            raise ProgramError(
                f"tensor {self.name}: scale {self.scale}, zero point {self.zero_point} are no int8 scale"
            )
        image = self.packing and (self.packing.image_height, self.packing.image_width)
        if image is not None and image != self.shape[1:]:
            raise ProgramError(f"tensor {self.name}: {self.packing} is no packing of shape {self.shape}")
        if self.shape[0] > 1 and self.plane_stride < self.plane:
            raise ProgramError(f"tensor {self.name}: planes of shape {self.shape} overlap at {self.plane_stride} bytes")
        if self.offset < 0 or self.end > region_sizes[self.region]:
            raise ProgramError(
                f"tensor {self.name} takes bytes {self.offset} to {self.end} of region {Region(self.region).name}, "
                f"which has {region_sizes[self.region]}"
            )

    @property
    def plane(self) -> int:
        """Bytes of one channel."""
        return self.shape[1] * self.shape[2] if self.packing is None else self.packing.plane

    @property
    def end(self) -> int:
        """First offset after the tensor."""
        return self.offset + (self.shape[0] - 1) * self.plane_stride + self.plane


@dataclass(frozen=True)
class Layer:
    """A layer of the source network and the instructions that belong to it (indices into the stream)."""

    name: str
    kind: str
    macs: int
    instructions: tuple[int, ...]
    output_shape: tuple[int, int, int]


@dataclass(frozen=True)
class Program:
    """A compiled network.

    Parameters
    ----------
    config
        Configuration it was compiled for.
    image
        Bytes of region CONST.
    instruction_count
        Instructions from offset 0 of `image`.
    region_sizes
        Bytes needed in each :class:`~hw.spec.isa.Region`, by index.
    inputs, outputs
        The network's tensors.
    layers
        Instructions grouped by layer, in order.
    tensors
        Every tensor that is written to DRAM, for comparisons and debugging.
    meta
        Free-form facts (network name, classes, preprocessing); JSON-able.
    """

    config: AcceleratorConfig
    image: bytes
    instruction_count: int
    region_sizes: tuple[int, int, int, int]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: tuple[Layer, ...] = ()
    tensors: tuple[TensorSpec, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)

    def instructions(self) -> list[Instruction]:
        """Decode the instruction stream; raise :class:`ProgramError` if it is damaged."""
        return list(self._stream)

    @cached_property
    def _stream(self) -> tuple[Instruction, ...]:
        try:
            return tuple(disassemble(self.image[: self.instruction_count * INSTRUCTION_BYTES]))
        except FieldError as error:
            raise ProgramError(f"instruction stream: {error}") from None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return sum(layer.macs for layer in self.layers)

    def check(self, config: AcceleratorConfig) -> None:
        """Refuse to run on another configuration than the one compiled for.

        Raises
        ------
        ProgramError
            With the fields that differ (program / accelerator).
        """
        if self.config.hash != config.hash:
            raise ProgramError(
                f"the program was compiled for configuration {self.config.hash_hex}, the accelerator is "
                f"{config.hash_hex}; they differ in {self.config.difference(config) or 'the ISA version'} "
                f"(program / accelerator): compile it again with --config"
            )

    def validate(self) -> None:
        """Check the stream's frame and the sizes; raise :class:`ProgramError` if the program is damaged."""
        if len(self.region_sizes) != len(Region) or min(self.region_sizes) < 0:
            raise ProgramError(f"region_sizes {self.region_sizes} are not the sizes of {len(Region)} regions")
        stream = self.instruction_count * INSTRUCTION_BYTES
        if self.instruction_count < 2 or stream > len(self.image):
            raise ProgramError(f"{self.instruction_count} instructions do not fit an image of {len(self.image)} bytes")
        if self.region_sizes[Region.CONST] < len(self.image):
            raise ProgramError(f"region CONST of {self.region_sizes[0]} bytes is smaller than the image")
        instructions = self.instructions()
        head, last = instructions[0], instructions[-1]
        if head.opcode != Opcode.HEADER or last.opcode != Opcode.HALT:
            raise ProgramError(f"the stream runs from {head.opcode.name} to {last.opcode.name}, not HEADER to HALT")
        if head["config_hash"] != self.config.hash or head["isa_version"] != ISA_VERSION:
            raise ProgramError(
                f"HEADER names configuration {head['config_hash']:016x}, ISA {head['isa_version']}; "
                f"program.json names {self.config.hash_hex}, ISA {ISA_VERSION}"
            )
        for tensor in (*self.inputs, *self.outputs, *self.tensors):
            tensor.check(self.region_sizes)
        for layer in self.layers:
            if any(pc not in range(self.instruction_count) for pc in layer.instructions):
                raise ProgramError(
                    f"layer {layer.name} names instructions beyond the {self.instruction_count} there are"
                )

    def save(self, directory: str | Path) -> None:
        """Write ``program.bin`` and ``program.json`` (the latter last; each appears whole or not at all)."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        description = {
            "format": FORMAT,
            "isa_version": ISA_VERSION,
            "config_hash": self.config.hash_hex,
            "config": self.config.to_dict(),
            "image_sha256": hashlib.sha256(self.image).hexdigest(),
            "image_bytes": len(self.image),
            "instruction_count": self.instruction_count,
            "region_sizes": list(self.region_sizes),
            "inputs": [asdict(tensor) for tensor in self.inputs],
            "outputs": [asdict(tensor) for tensor in self.outputs],
            "layers": [asdict(layer) for layer in self.layers],
            "tensors": [asdict(tensor) for tensor in self.tensors],
            "meta": self.meta,
        }
        write_atomic(directory / "program.bin", self.image)
        write_atomic(directory / "program.json", (json.dumps(description, indent=1) + "\n").encode())

    @classmethod
    def load(cls, directory: str | Path) -> Program:
        """Read a program and verify it.

        Raises
        ------
        ProgramError
            If a file is missing, truncated, altered, or of another format or ISA version.
        """
        directory = Path(directory)
        try:
            description = json.loads((directory / "program.json").read_text())
            image = (directory / "program.bin").read_bytes()
        except FileNotFoundError as error:
            raise ProgramError(f"{error.filename}: missing; a program is a directory with both files") from None
        except (OSError, ValueError) as error:
            raise ProgramError(f"{directory}: program.json is unreadable ({error})") from None
        try:
            if description["format"] != FORMAT or description["isa_version"] != ISA_VERSION:
                raise ProgramError(
                    f"{directory}: format {description['format']}, ISA {description['isa_version']}; these tools "
                    f"have format {FORMAT}, ISA {ISA_VERSION}: compile the network again"
                )
            if len(image) != description["image_bytes"]:
                raise ProgramError(
                    f"{directory}/program.bin: {len(image)} bytes, {description['image_bytes']} expected (truncated?)"
                )
            if hashlib.sha256(image).hexdigest() != description["image_sha256"]:
                raise ProgramError(f"{directory}/program.bin: SHA-256 differs from program.json (corrupt or exchanged)")
            config = AcceleratorConfig.from_dict(description["config"])
            if config.hash_hex != description["config_hash"]:
                raise ProgramError(f"{directory}: hash {description['config_hash']} is not that of its configuration")
            program = cls(
                config=config,
                image=image,
                instruction_count=description["instruction_count"],
                region_sizes=tuple(description["region_sizes"]),
                inputs=tuple(_tensor(item) for item in description["inputs"]),
                outputs=tuple(_tensor(item) for item in description["outputs"]),
                layers=tuple(_layer(item) for item in description["layers"]),
                tensors=tuple(_tensor(item) for item in description["tensors"]),
                meta=description["meta"],
            )
            program.validate()
        except ProgramError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, ConfigError) as error:
            raise ProgramError(f"{directory}/program.json: {error!r}") from None
        return program


def _tensor(item: dict[str, Any]) -> TensorSpec:
    packing = item["packing"] and Packing(**item["packing"])
    return TensorSpec(**{**item, "shape": tuple(item["shape"]), "packing": packing})


def _layer(item: dict[str, Any]) -> Layer:
    return Layer(**{**item, "instructions": tuple(item["instructions"]), "output_shape": tuple(item["output_shape"])})
