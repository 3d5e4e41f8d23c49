"""A board with an accelerator: what it is, programs in its memory, runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hw.spec.config import AcceleratorConfig
from hw.spec.csr import COUNTERS, REGION_ALIGN, address
from hw.spec.isa import Region
from hw.spec.link import (
    CSR_BASE,
    ID_BASE,
    ID_BYTES,
    LINK_MAGIC,
    LINK_VERSION,
    MEMORY_BASE,
    WORD_BYTES,
    IdWord,
)
from hw.spec.program import Program, TensorSpec
from sw.backends import AcceleratorError, BackendError, RunError
from sw.regions import Int8Array, check_inputs, constant_regions, read_outputs, write_tensor
from sw.runtime.board_link import BoardLink, LinkError
from sw.runtime.control_port import ControlPort

__all__ = ["BoardError", "BoardResult", "Device", "Identity", "place_regions"]

Progress = Callable[[int, int], None]


class BoardError(BackendError):
    """A board that cannot run the program: not ours, another configuration, or not enough memory."""


@dataclass(frozen=True)
class Identity:
    """What a board says of itself.

    Parameters
    ----------
    clock_hz
        Frequency of its clock.
    baud
        Bits per second of its UART, by its clock.
    memory_bytes
        Memory for the accelerator's DRAM regions.
    """

    clock_hz: int
    baud: float
    memory_bytes: int


@dataclass(frozen=True)
class BoardResult:
    """What a run leaves behind: output tensors by name, performance counters by name, cycles (None: no clock)."""

    outputs: dict[str, Int8Array]
    counters: dict[str, int] = field(default_factory=dict)
    cycles: int | None = None


@dataclass(frozen=True)
class _Loaded:
    """A program in the board's memory; `regions` mirrors what was written there."""

    program: Program
    bases: tuple[int, ...]
    regions: list[npt.NDArray[np.uint8]]


def place_regions(sizes: tuple[int, ...], memory_bytes: int) -> tuple[int, ...]:
    """Return the addresses of a program's DRAM regions in a board's memory, one after the other.

    Raises
    ------
    BoardError
        If they do not fit.
    """
    bases, end = [], MEMORY_BASE
    for size in sizes:
        bases.append(end)
        end += -(-size // REGION_ALIGN) * REGION_ALIGN
    needed = end - MEMORY_BASE
    if needed > memory_bytes:
        listed = ", ".join(f"{region.name} {sizes[region]:,}" for region in Region)
        raise BoardError(
            f"the program needs {needed:,} bytes of the board's memory ({listed}; each takes a multiple of "
            f"{REGION_ALIGN:,}), there are {memory_bytes:,}: take a smaller network, or build more memory"
        )
    return tuple(bases)


class Device:
    """An accelerator on a board, checked to be one; constants are loaded once for any number of runs.

    Parameters
    ----------
    link
        To the board.
    config
        Configuration that its bitstream was made for, if known: a difference to a program's can be named then.

    Attributes
    ----------
    identity
        The board's.

    Raises
    ------
    BoardError
        If nothing answers, or something that is no such board.
    """

    def __init__(self, link: BoardLink, config: AcceleratorConfig | None = None) -> None:
        self.link = link
        self._config = config
        self._loaded: _Loaded | None = None
        self.port = ControlPort(
            lambda address: link.read_word(CSR_BASE + address),
            lambda address, value: link.write_word(CSR_BASE + address, value),
        )
        self.identity = self._identify()

    def check(self, program: Program) -> None:
        """Refuse a program that was compiled for another configuration than the board's.

        Raises
        ------
        ProgramError
            With what differs, as far as it is known.
        """
        if self._config is not None:
            self.port.check_identity(self._config)
            program.check(self._config)
        self.port.check_identity(program.config)

    def load(self, program: Program, progress: Progress | None = None) -> None:
        """Write a program's constants into the board's memory, unless they are there already.

        Raises
        ------
        ProgramError
            If it is for another configuration.
        BoardError
            If it does not fit the memory.
        """
        if self._loaded is not None and self._loaded.program is program:
            return
        self.check(program)
        regions = constant_regions(program)
        sizes = tuple(region.size for region in regions)
        bases = place_regions(sizes, self.identity.memory_bytes)
        self._make_ready()
        self._loaded = None  # until all of it is there
        self.link.write(bases[Region.CONST], _whole_words(program.image), progress)
        self.port.set_regions(bases, sizes)
        self._loaded = _Loaded(program, bases, regions)

    def run(
        self,
        program: Program,
        inputs: Mapping[str, Int8Array],
        *,
        seconds: float = 60.0,
        upload: Callable[[], AbstractContextManager[Progress | None]] = nullcontext,
    ) -> BoardResult:
        """Run a program once; load it if that was not done.

        Parameters
        ----------
        program
            The program.
        inputs
            int8 (channels, height, width) by tensor name.
        seconds
            After which a run is given up.
        upload
            Gives the progress callback of a load, if there is one to do.

        Raises
        ------
        InputError
            If an input is missing, unknown, or of the wrong shape or type.
        AcceleratorError
            If the accelerator stops with an error; it is reset and ready again.
        LinkError, LineLostError
            If the line fails.
        RunError
            If the run does not end in time.
        """
        check_inputs(program, inputs)
        if self._loaded is None or self._loaded.program is not program:
            with upload() as progress:
                self.load(program, progress)
        loaded = self._loaded
        assert loaded is not None
        for spec in program.inputs:
            write_tensor(loaded.regions, spec, inputs[spec.name])
        for spec in program.inputs:
            start, stop = _words(spec)
            values = loaded.regions[spec.region][start:stop].tobytes()
            self.link.write(loaded.bases[spec.region] + start, _whole_words(values))
        self.port.start(program.instruction_count)
        self._wait(program, seconds)
        counters = self._counters()
        for spec in program.outputs:
            start, stop = _words(spec)
            found = np.frombuffer(self.link.read(loaded.bases[spec.region] + start, stop - start), np.uint8)
            region = loaded.regions[spec.region]
            region[start:stop] = found[: region.size - start]
        return BoardResult(read_outputs(program, loaded.regions), counters, counters["CYCLES"] or None)

    def _counters(self) -> dict[str, int]:
        """Read all counters in one request: words come in ascending order, and reading LO latches HI."""
        places = {counter: (address(f"{counter.name}_LO"), address(f"{counter.name}_HI")) for counter in COUNTERS}
        first = min(low for low, _ in places.values())
        raw = self.link.read(CSR_BASE + first, max(high for _, high in places.values()) + WORD_BYTES - first)

        def word(place: int) -> int:
            return int.from_bytes(raw[place - first :][:WORD_BYTES], "little")

        return {counter.name: word(low) | word(high) << 32 for counter, (low, high) in places.items()}

    def _identify(self) -> Identity:
        name = self.link.line.name
        try:
            self.link.ping()
            raw = self.link.read(ID_BASE, ID_BYTES)
        except LinkError as error:
            raise BoardError(
                f"{error}. Is it the board's port and bit rate (--baud), and is the bitstream loaded?"
            ) from None
        words = {word: int.from_bytes(raw[WORD_BYTES * word :][:WORD_BYTES], "little") for word in IdWord}
        if (magic := words[IdWord.MAGIC]) != LINK_MAGIC:
            raise BoardError(f"{name}: no board of ours: its identity reads 0x{magic:08x}, not 0x{LINK_MAGIC:08x}")
        if (version := words[IdWord.VERSION]) != LINK_VERSION:
            raise BoardError(
                f"{name}: the board's link has version {version}, this host {LINK_VERSION}: build the bitstream again"
            )
        baud = words[IdWord.CLOCK_HZ] / max(words[IdWord.BIT_CLOCKS], 1)
        return Identity(words[IdWord.CLOCK_HZ], baud, words[IdWord.MEMORY_BYTES])

    def _make_ready(self) -> None:
        """Stop what an earlier host left running, and clear its error."""
        status = self.port.fields("STATUS")
        if status["busy"] or status["error"] or status["resetting"]:
            self._reset()

    def _reset(self) -> None:
        if not self.port.soft_reset():
            raise RunError("the accelerator does not become ready after a soft reset: load the bitstream again")

    def _wait(self, program: Program, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (status := self.port.fields("STATUS"))["busy"] or not (status["done"] or status["error"]):
            if time.monotonic() > deadline:
                self._reset()
                raise RunError(f"the program did not end within {seconds:g} s; the accelerator was reset")
        self.port.acknowledge()
        if status["error"]:
            cause, pc, info = self.port.error()
            self._reset()
            layer = next((layer.name for layer in program.layers if pc in layer.instructions), None)
            raise AcceleratorError(cause, pc, info, f"info 0x{info:08x}" + (f", layer {layer}" if layer else ""))


def _words(spec: TensorSpec) -> tuple[int, int]:
    """Return the whole words around a tensor, as offsets in its region."""
    return spec.offset // WORD_BYTES * WORD_BYTES, -(-spec.end // WORD_BYTES) * WORD_BYTES


def _whole_words(data: bytes) -> bytes:
    return data + bytes(-len(data) % WORD_BYTES)
