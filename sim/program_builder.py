"""Write programs by hand: instructions checked as the hardware would, dependency tokens found from the accesses."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import (
    INSTRUCTION_BYTES,
    ISA_VERSION,
    Instruction,
    Opcode,
    Queue,
    Region,
    Target,
    assemble,
)
from hw.spec.program import PARAM_DTYPE, Layer, Program, TensorSpec
from sim.iss.dma import transfer
from sim.iss.machine import Block
from sim.iss.operands import operands

__all__ = ["ProgramBuilder", "align"]

Space = tuple[type, int]
Clock = dict[Queue, int]

_UNBOUNDED = 1 << 62
_DATA_ALIGNMENT = 128
"""Largest AXI beat, and a multiple of the instruction size."""


def align(value: int, unit: int) -> int:
    """Round `value` up to a multiple of `unit`."""
    return -(-value // unit) * unit


@dataclass(frozen=True)
class _Access:
    queue: Queue
    pc: int
    space: Space
    block: Block
    write: bool


class ProgramBuilder:
    """Collects instructions and constant data.

    Whenever an instruction touches bytes that one of another queue uses (one of the two writing), the earlier one
    gives a token and the later one takes it, unless tokens order the two already.  Every token is taken by the next
    instruction that needs it, so givers and takers always match.

    Parameters
    ----------
    config
        Configuration to write for.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.instructions: list[Instruction] = [Instruction(Opcode.HEADER)]
        self.layers: list[Layer] = []
        self._data = bytearray()
        self._accesses: list[_Access] = []
        self._clocks: dict[int, Clock] = {}
        self._known: dict[Queue, Clock] = {queue: dict.fromkeys(Queue, 0) for queue in Queue}

    def const(self, data: bytes) -> int:
        """Add constant data, aligned for every target; return its place, to be used as ``dram_offset`` of a LOAD."""
        self._data += bytes(align(len(self._data), _DATA_ALIGNMENT) - len(self._data))
        place = len(self._data)
        self._data += data
        return place

    def load(self, target: Target, region: Region, **fields: int) -> int:
        """Append a LOAD and return its index; see :data:`hw.spec.isa.LOAD` for the fields."""
        instruction = Instruction(Opcode.LOAD, {"target": int(target), "region": int(region), **fields})
        what = transfer(self.config, instruction, [_UNBOUNDED] * len(Region))
        return self._append(
            Queue.LOAD, instruction, [(what.region, what.dram, False), (what.target, what.onchip, True)]
        )

    def load_const(self, target: Target, address: int, data: bytes) -> int:
        """Append a LOAD of one row of constant data."""
        return self.load(
            target, Region.CONST, dram_offset=self.const(data), mem_addr=address, rows=1, row_bytes=len(data)
        )

    def store(self, region: Region, **fields: int) -> int:
        """Append a STORE and return its index; see :data:`hw.spec.isa.STORE` for the fields."""
        instruction = Instruction(Opcode.STORE, {"region": int(region), **fields})
        what = transfer(self.config, instruction, [_UNBOUNDED] * len(Region))
        return self._append(
            Queue.STORE, instruction, [(what.target, what.onchip, False), (what.region, what.dram, True)]
        )

    def exec(self, **fields: int) -> int:
        """Append an EXEC and return its index; ``overlap=1`` is taken back where it would be unsafe."""
        instruction = Instruction(Opcode.EXEC, fields)
        what = operands(self.config, instruction)
        reads = [(Target.ACT, block, False) for block in (*what.reads, *([what.second] if what.second else []))]
        writes = [(Target.ACT, block, True) for block in what.writes]
        for target, used, size in (
            (Target.WEIGHT, what.weight_words, self.config.weight_word_bytes),
            (Target.PARAM, what.param_entries, PARAM_DTYPE.itemsize),
        ):
            reads.append((target, Block(used.start * size, 1, 0, 1, 0, len(used) * size), False))
        if instruction["overlap"] and any(self._written_last(block) for _, block, _ in reads[:-2]):
            instruction = replace(instruction, values={**fields, "overlap": 0})
        return self._append(Queue.EXEC, instruction, [*reads, *writes])

    def finish(
        self,
        *,
        inputs: tuple[TensorSpec, ...] = (),
        outputs: tuple[TensorSpec, ...] = (),
        work_bytes: int = 0,
    ) -> Program:
        """Append HALT, place the constants behind the instructions, and return the program."""
        stream = [*self.instructions, Instruction(Opcode.HALT)]
        header = {"isa_version": ISA_VERSION, "config_hash": self.config.hash, "count": len(stream)}
        stream[0] = Instruction(Opcode.HEADER, header)
        start = align(len(stream) * INSTRUCTION_BYTES, _DATA_ALIGNMENT)
        for pc, instruction in enumerate(stream):
            if instruction.opcode == Opcode.LOAD and instruction["region"] == Region.CONST:
                offset = instruction["dram_offset"] + start
                stream[pc] = replace(instruction, values={**instruction.values, "dram_offset": offset})
        code = assemble(stream)
        image = code + bytes(start - len(code)) + bytes(self._data)
        sizes = [len(image), work_bytes, 0, 0]
        for tensor in (*inputs, *outputs):
            sizes[tensor.region] = max(sizes[tensor.region], tensor.end)
        region_sizes = tuple(align(size, _DATA_ALIGNMENT) for size in sizes)
        return Program(self.config, image, len(stream), region_sizes, inputs, outputs, tuple(self.layers), outputs)

    def _written_last(self, block: Block) -> bool:
        """Whether the EXEC before writes bytes of a scratchpad block."""
        sinks = [a for a in self._accesses if a.queue == Queue.EXEC and a.write]
        return any(block.overlaps(sink.block) for sink in sinks if sink.pc == sinks[-1].pc)

    def _append(
        self, queue: Queue, instruction: Instruction, accesses: list[tuple[Target | Region, Block, bool]]
    ) -> int:
        pc = len(self.instructions)
        mine = [_Access(queue, pc, (type(space), int(space)), block, write) for space, block, write in accesses]
        wait = 0
        for other in set(Queue) - {queue}:
            unordered = [a for a in self._accesses if a.queue == other and a.pc > self._known[queue][other]]
            conflict = max((a.pc for a in unordered if _conflicts(a, mine)), default=0)
            if conflict:
                self._give(conflict, queue)
                wait |= 1 << other
                done = {**self._clocks[conflict], other: conflict}
                self._known[queue] = {q: max(self._known[queue][q], done[q]) for q in Queue}
        self._accesses += mine
        self._clocks[pc] = dict(self._known[queue])
        self.instructions.append(replace(instruction, values={**instruction.values, "wait": wait}))
        return pc

    def _give(self, pc: int, queue: Queue) -> None:
        giver = self.instructions[pc]
        signal = giver["signal"] | 1 << queue
        self.instructions[pc] = replace(giver, values={**giver.values, "signal": signal})


def _conflicts(earlier: _Access, accesses: list[_Access]) -> bool:
    return any(
        earlier.space == later.space and (earlier.write or later.write) and earlier.block.overlaps(later.block)
        for later in accesses
    )
