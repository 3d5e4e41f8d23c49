"""A board as the link's document describes it, with the instruction set simulator in it: fast, and without a clock."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.csr import MAGIC, REGION_ALIGN, REGION_COUNT, REGISTERS, Access, ErrorCause, address
from hw.spec.isa import ISA_VERSION
from hw.spec.link import (
    CRC_BYTES,
    CSR_BASE,
    GAP_BITS,
    ID_BASE,
    MEMORY_BASE,
    REQUEST_HEADER,
    REQUEST_SYNC,
    WORD_BYTES,
    Command,
    Response,
    Status,
    check_access,
    identity,
    legal_length,
)
from sim.backend import ExecutionError
from sim.iss import IssBackend

__all__ = ["LinkModel"]


class LinkModel:
    """What a board does with the bytes it gets.

    A program runs to its end at the write that starts it, so the accelerator is never seen busy; the performance
    counters read 0.

    Parameters
    ----------
    config
        Of the accelerator.
    memory_bytes
        Memory for its DRAM regions.
    clock_hz, bit_clocks
        What the identity tells; the second also sets the time after which half a frame is forgotten.
    clock
        Seconds that pass.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        memory_bytes: int,
        clock_hz: int,
        bit_clocks: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.clock = config, clock
        self.memory = np.zeros(memory_bytes, np.uint8)
        words = identity(clock_hz=clock_hz, bit_clocks=bit_clocks, memory_bytes=memory_bytes)
        self._identity = b"".join(value.to_bytes(WORD_BYTES, "little") for value in words.values())
        self._gap = GAP_BITS * bit_clocks / clock_hz
        self._backend = IssBackend(config, check_hazards=False)
        self._registers = dict.fromkeys((register.addr for register in REGISTERS.values()), 0)
        self._set("MAGIC", MAGIC)
        self._set("ISA_VERSION", ISA_VERSION)
        self._set("HASH_LO", config.hash & 0xFFFF_FFFF)
        self._set("HASH_HI", config.hash >> 32)
        self._set_fields("SHAPE", rows=config.rows, cols=config.cols)
        features = {"stos": config.stos, "pipeline_mac": config.pipeline_mac, "max_kernel": config.max_kernel}
        self._set_fields("FEATURES", **{name: int(value) for name, value in features.items()})
        self._frame = b""
        self._last_byte = 0.0
        self._repeated: int | None = None

    idle = True
    """Between two calls of :meth:`exchange` nothing happens."""

    def exchange(self, data: bytes) -> bytes:
        """Take bytes off the wire and return those of the answers."""
        now = self.clock()
        if now - self._last_byte > self._gap:
            self._frame = b""
        self._last_byte = now
        answers = b""
        for byte in data:
            if self._frame or byte == REQUEST_SYNC:
                self._frame += bytes([byte])
                if len(self._frame) == self._frame_bytes():
                    answers += self._answer(self._frame[1:]).encode()
                    self._frame = b""
        return answers

    def _frame_bytes(self) -> int:
        header = 1 + REQUEST_HEADER.size
        if len(self._frame) < header:
            return header + CRC_BYTES
        command, _, _, length = REQUEST_HEADER.unpack_from(self._frame, 1)
        return header + CRC_BYTES + (length if command == Command.WRITE and legal_length(length) else 0)

    def _answer(self, frame: bytes) -> Response:
        command, sequence, place, length = REQUEST_HEADER.unpack_from(frame)
        if zlib.crc32(frame[:-CRC_BYTES]).to_bytes(CRC_BYTES, "little") != frame[-CRC_BYTES:]:
            return Response(Status.BAD_CRC, sequence)
        repetition = command == Command.WRITE and sequence == self._repeated
        self._repeated = None
        status, data = check_access(command, place, length, self.memory.size), b""
        if status == Status.OK:
            if command == Command.READ:
                found = self._read(place, length)
                status, data = (Status.BUS_ERROR, b"") if found is None else (status, found)
            elif command == Command.WRITE and not repetition:
                status = self._write(place, frame[REQUEST_HEADER.size : -CRC_BYTES])
            if status == Status.OK and command != Command.PING:
                self._repeated = sequence
        return Response(status, sequence, data)

    def _read(self, place: int, length: int) -> bytes | None:
        """Return the bytes; None where there is no register."""
        if place >= ID_BASE:
            return self._identity[place - ID_BASE :][:length]
        if place < CSR_BASE:
            return self.memory[place - MEMORY_BASE :][:length].tobytes()
        words = range(place - CSR_BASE, place - CSR_BASE + length, WORD_BYTES)
        if any(word not in self._registers for word in words):
            return None
        return b"".join(self._registers[word].to_bytes(WORD_BYTES, "little") for word in words)

    def _write(self, place: int, data: bytes) -> Status:
        if place < CSR_BASE:
            self.memory[place - MEMORY_BASE :][: len(data)] = np.frombuffer(data, np.uint8)
            return Status.OK
        for at in range(0, len(data), WORD_BYTES):
            if not self._write_register(place - CSR_BASE + at, int.from_bytes(data[at : at + WORD_BYTES], "little")):
                return Status.BUS_ERROR
        return Status.OK

    # --- registers ---------------------------------------------------------------------------------------------------

    def _set(self, name: str, value: int) -> None:
        self._registers[address(name)] = value

    def _set_fields(self, name: str, **values: int) -> None:
        table = REGISTERS[name].fields
        assert table is not None
        self._set(name, table.encode(values))

    def _get(self, name: str) -> int:
        return self._registers[address(name)]

    def _write_register(self, place: int, value: int) -> bool:
        register = next((register for register in REGISTERS.values() if register.addr == place), None)
        if register is None or register.access == Access.RO:
            return False
        if register.access == Access.RW:
            self._registers[place] = value
        elif register.access == Access.W1C:
            self._registers[place] &= ~value
        else:
            table = register.fields
            assert table is not None
            command = {field.name: value >> table.offsets[field.name] & 1 for field in table.fields}
            status = REGISTERS["STATUS"].fields
            assert status is not None
            failed = self._get("STATUS") >> status.offsets["error"] & 1
            if command["soft_reset"]:
                self._set("STATUS", 0)
                self._set("ERR_CAUSE", 0)
            elif command["start"] and not failed:
                self._run()
        return True

    def _run(self) -> None:
        bases = [self._get(f"REGION{index}_BASE_LO") for index in range(REGION_COUNT)]
        sizes = [self._get(f"REGION{index}_SIZE") for index in range(REGION_COUNT)]
        regions = [self.memory[base : base + size] for base, size in zip(bases, sizes, strict=True)]
        try:
            for base in bases:
                if base % REGION_ALIGN:
                    raise ExecutionError(ErrorCause.MISALIGNED, 0, base)
            self._backend.run_regions(regions, self._get("PROG_COUNT"))
        except ExecutionError as error:
            self._set("ERR_CAUSE", error.cause)
            self._set("ERR_PC", error.pc)
            self._set("ERR_INFO", error.info)
            self._set_fields("STATUS", error=1)
            self._set_fields("IRQ_STATUS", error=1)
        else:
            self._set_fields("STATUS", done=1)
            self._set_fields("IRQ_STATUS", done=1)
