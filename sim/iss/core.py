"""Fetch, tokens and dispatch: a program run instruction by instruction, in program order."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from hw.spec.config import AcceleratorConfig
from hw.spec.csr import ErrorCause
from hw.spec.fields import FieldError
from hw.spec.isa import (
    INSTRUCTION_BYTES,
    ISA_VERSION,
    QUEUE_OF,
    TOKEN_MAX,
    Instruction,
    Opcode,
    Queue,
    Region,
    Target,
    decode,
)
from hw.spec.program import PARAM_DTYPE, Program
from sim.backend import ExecutionError, Int8Array, Result, UndefinedError
from sim.iss.dma import move, transfer
from sim.iss.execute import execute
from sim.iss.hazards import Hazards
from sim.iss.machine import Block, FaultError, Machine, UndefinedUseError
from sim.iss.operands import operands
from sw.regions import build_regions, read_outputs

__all__ = ["IssBackend"]

Observer = Callable[[int, Instruction, Machine], None]


class IssBackend:
    """The instruction set simulator as a :class:`~sim.backend.Backend`.

    Parameters
    ----------
    config
        Configuration of the simulated accelerator.
    check_hazards
        Also check that tokens order all conflicting accesses of the concurrent queues, that ``overlap`` is safe and
        that no on-chip byte is read before it is written (costs some time and memory).
    observer
        Called after every completed instruction with its index, the instruction and the machine's state.
    """

    def __init__(
        self, config: AcceleratorConfig, *, check_hazards: bool = True, observer: Observer | None = None
    ) -> None:
        self.config, self.check_hazards, self.observer = config, check_hazards, observer

    def run(self, program: Program, inputs: Mapping[str, Int8Array]) -> Result:
        """Run a program once; see :meth:`sim.backend.Backend.run`.

        Raises
        ------
        UndefinedError
            If the program relies on what the ISA leaves undefined.
        """
        program.check(self.config)
        regions = build_regions(program, inputs)
        self.run_regions(regions, program.instruction_count)
        return Result(read_outputs(program, regions), [region.tobytes() for region in regions])

    def run_regions(self, regions: list[npt.NDArray[np.uint8]], instruction_count: int) -> None:
        """Run what lies in DRAM regions, which the run changes: the instructions at the start of region CONST.

        Raises
        ------
        ExecutionError, UndefinedError
            As :meth:`run` does.
        """
        _Core(self, instruction_count, Machine(self.config, regions)).run()


class _Core:
    """One run."""

    def __init__(self, backend: IssBackend, instruction_count: int, machine: Machine) -> None:
        self.config, self.observer, self.machine = backend.config, backend.observer, machine
        # The stream is fetched before anything is stored: programs that change themselves are not supported.
        self.stream = machine.regions[Region.CONST].tobytes()[: instruction_count * INSTRUCTION_BYTES]
        self.limit = instruction_count
        self.tokens = {(source, sink): 0 for source in Queue for sink in Queue}
        self.hazards: Hazards | None = None
        if backend.check_hazards:
            self.hazards = Hazards(
                {target: memory.size for target, memory in machine.onchip.items()},
                {region: machine.regions[region].size for region in Region},
            )

    def run(self) -> None:
        """Run to HALT.

        Raises
        ------
        ExecutionError, UndefinedError
            Where the program stops short of it.
        """
        pc = 0
        try:
            self.header()
            for pc in range(1, self.limit):
                instruction = self.fetch(pc)
                if instruction.opcode == Opcode.HALT:
                    return
                self.step(pc, instruction)
                if self.observer is not None:
                    self.observer(pc, instruction, self.machine)
            pc = self.limit
            raise FaultError(ErrorCause.TRUNCATED, pc, f"{self.limit} instructions and no HALT")
        except FaultError as fault:
            raise ExecutionError(fault.cause, pc, fault.info, fault.detail) from None
        except UndefinedUseError as error:
            raise UndefinedError(pc, str(error)) from None

    def header(self) -> None:
        """Check the first instruction."""
        if self.limit < 1:
            raise FaultError(ErrorCause.TRUNCATED, 0, "the program has no instructions")
        word = self.word(0)
        opcode, info = word[0] & 0xF, int.from_bytes(word[:4], "little")
        if opcode != Opcode.HEADER:
            raise FaultError(ErrorCause.NO_HEADER, info, f"the first instruction has opcode {opcode}")
        header = self.fetch(0)
        if header["isa_version"] != ISA_VERSION or header["config_hash"] != self.config.hash:
            raise FaultError(
                ErrorCause.HASH_MISMATCH,
                header["config_hash"],
                f"HEADER names configuration {header['config_hash']:016x}, ISA {header['isa_version']}; this is "
                f"{self.config.hash_hex}, ISA {ISA_VERSION}",
            )
        self.limit = min(self.limit, header["count"])

    def word(self, pc: int) -> bytes:
        """Return the bytes of an instruction."""
        word = self.stream[pc * INSTRUCTION_BYTES :][:INSTRUCTION_BYTES]
        if len(word) < INSTRUCTION_BYTES:
            raise FaultError(ErrorCause.DRAM_RANGE, pc * INSTRUCTION_BYTES, "the instruction lies beyond region CONST")
        return word

    def fetch(self, pc: int) -> Instruction:
        """Decode an instruction."""
        word = self.word(pc)
        code = word[0] & 0xF
        if code not in set(Opcode) or (code == Opcode.HEADER and pc > 0):
            raise FaultError(ErrorCause.BAD_OPCODE, code, f"opcode {code}")
        info = int.from_bytes(word[:4], "little")
        try:
            instruction = decode(word)
        except FieldError as error:
            raise FaultError(ErrorCause.BAD_FIELD, info, str(error)) from None
        queue = QUEUE_OF.get(instruction.opcode)
        impossible = (1 << len(Queue)) - 1 if queue is None else 1 << queue
        if (instruction["wait"] | instruction["signal"]) & impossible:
            raise FaultError(
                ErrorCause.BAD_FIELD, info, f"{instruction.opcode.name}: tokens of its own queue, or no queue"
            )
        return instruction

    def step(self, pc: int, instruction: Instruction) -> None:
        """Take the tokens, carry out the instruction, give the tokens."""
        queue = QUEUE_OF[instruction.opcode]
        for source in Queue:
            if instruction["wait"] >> source & 1:
                if not self.tokens[source, queue]:
                    raise FaultError(
                        ErrorCause.DEADLOCK,
                        0,
                        f"{instruction.opcode.name} waits for a token of queue {source.name}, and none was given "
                        f"before it in program order",
                    )
                self.tokens[source, queue] -= 1
                if self.hazards is not None:
                    self.hazards.take(queue, source)
        if queue == Queue.EXEC:
            self.execute(pc, instruction)
        else:
            self.move(pc, instruction, queue)
        for sink in Queue:
            if instruction["signal"] >> sink & 1:
                if self.tokens[queue, sink] == TOKEN_MAX:
                    detail = f"{TOKEN_MAX} tokens from {queue.name} to {sink.name} are unused"
                    raise FaultError(ErrorCause.TOKEN_OVERFLOW, sink, detail)
                self.tokens[queue, sink] += 1
                if self.hazards is not None:
                    self.hazards.give(queue, sink, pc)

    def move(self, pc: int, instruction: Instruction, queue: Queue) -> None:
        """Carry out a LOAD or STORE."""
        what = transfer(self.config, instruction, [region.size for region in self.machine.regions])
        if self.hazards is not None:
            here, there = (what.region, what.dram), (what.target, what.onchip)
            source, sink = (here, there) if queue == Queue.LOAD else (there, here)
            self.hazards.read(queue, pc, *source)
            self.hazards.write(queue, pc, *sink)
        move(self.machine, instruction, what)

    def execute(self, pc: int, instruction: Instruction) -> None:
        """Carry out an EXEC."""
        what = operands(self.config, instruction)
        if self.hazards is not None:
            self.hazards.begin_exec(pc, bool(instruction["overlap"]))
            for target, used, size in (
                (Target.WEIGHT, what.weight_words, self.config.weight_word_bytes),
                (Target.PARAM, what.param_entries, PARAM_DTYPE.itemsize),
            ):
                self.hazards.read(Queue.EXEC, pc, target, Block(used.start * size, 1, 0, 1, 0, len(used) * size))
            second = () if what.second is None else (what.second,)
            for block in (*what.reads, *second):
                self.hazards.read(Queue.EXEC, pc, Target.ACT, block)
            for block in what.writes:
                self.hazards.write(Queue.EXEC, pc, Target.ACT, block)
        execute(self.machine, instruction, what)
