"""DRAM traffic of a program, layer by layer, read off its instructions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hw.spec.isa import INSTRUCTION_BYTES, Instruction, Opcode, Region, Target
from hw.spec.program import Program

__all__ = ["LayerTraffic", "Traffic", "loaded_bytes", "stored_bytes", "traffic"]


def loaded_bytes(load: Instruction, beat: int) -> int:
    """Return what a LOAD takes from DRAM: every row in whole beats of `beat` bytes (regions begin at one)."""
    first = load["dram_offset"] + np.arange(load["rows"], dtype=np.int64) * load["dram_stride"]
    beats = -(-(first + load["row_bytes"]) // beat) - first // beat
    return int(beats.sum()) * beat


def stored_bytes(store: Instruction) -> int:
    """Return what a STORE writes to DRAM; bytes of a beat that are not its own are not strobed and not counted."""
    return store["rows"] * store["row_bytes"]


@dataclass(frozen=True)
class LayerTraffic:
    """Bytes that a layer moves.

    Parameters
    ----------
    activations, weights, parameters
        Loaded, in whole beats.
    stored
        Written.
    output
        Where its result goes: ``on chip``; ``spilled`` to DRAM, to be loaded again; ``stored`` there besides staying on
        chip; or ``network output``.
    """

    activations: int
    weights: int
    parameters: int
    stored: int
    output: str

    @property
    def loaded(self) -> int:
        """Bytes loaded."""
        return self.activations + self.weights + self.parameters


@dataclass(frozen=True)
class Traffic:
    """Bytes that a program moves; `layers` in the order of :attr:`hw.spec.program.Program.layers`.

    The hardware's counters LOAD_BYTES and STORE_BYTES are :attr:`loaded` and :attr:`stored`; `instructions` are fetched
    besides.
    """

    layers: tuple[LayerTraffic, ...]
    instructions: int

    @property
    def loaded(self) -> int:
        """Bytes loaded by all layers."""
        return sum(layer.loaded for layer in self.layers)

    @property
    def stored(self) -> int:
        """Bytes stored by all layers."""
        return sum(layer.stored for layer in self.layers)

    def total(self, name: str) -> int:
        """Return the sum of a field of :class:`LayerTraffic` over all layers."""
        return sum(getattr(layer, name) for layer in self.layers)


def traffic(program: Program) -> Traffic:
    """Return a program's DRAM traffic."""
    stream = program.instructions()
    beat = program.config.axi_bytes
    reloaded = _ranges(stream, Opcode.LOAD, Region.WORK)
    layers = []
    for layer in program.layers:
        mine = [stream[pc] for pc in layer.instructions]
        loads = dict.fromkeys(Target, 0)
        for instruction in mine:
            if instruction.opcode == Opcode.LOAD:
                loads[Target(instruction["target"])] += loaded_bytes(instruction, beat)
        stored = sum(stored_bytes(instruction) for instruction in mine if instruction.opcode == Opcode.STORE)
        output = _output(mine, reloaded)
        layers.append(LayerTraffic(loads[Target.ACT], loads[Target.WEIGHT], loads[Target.PARAM], stored, output))
    return Traffic(tuple(layers), len(stream) * INSTRUCTION_BYTES)


def _ranges(stream: Iterable[Instruction], opcode: Opcode, region: Region) -> list[tuple[int, int]]:
    """Return first and one-past-last byte that each instruction of a kind touches in a region."""
    return [
        (i["dram_offset"], i["dram_offset"] + (i["rows"] - 1) * i["dram_stride"] + i["row_bytes"])
        for i in stream
        if i.opcode == opcode and i["region"] == region
    ]


def _output(mine: list[Instruction], reloaded: list[tuple[int, int]]) -> str:
    if _ranges(mine, Opcode.STORE, Region.OUTPUT):
        return "network output"
    stores = _ranges(mine, Opcode.STORE, Region.WORK)
    if not stores:
        return "on chip"
    overlap = any(low < end and start < high for low, high in stores for start, end in reloaded)
    return "spilled" if overlap else "stored"
