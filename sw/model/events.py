"""What happens in the hardware while a layer runs, counted from its instructions: the events that cost energy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from hw.spec.config import SUB_BANKS, AcceleratorConfig
from hw.spec.isa import INSTRUCTION_BYTES, Instruction, Mode, Opcode, ResidualOp, Target
from hw.spec.program import PARAM_DTYPE
from sw.compiler.traffic import loaded_bytes, stored_bytes
from sw.model.execute import ExecCycles, exec_cycles, pooled_vectors

__all__ = ["Events", "count_events", "parameter_line_bytes", "weight_line_bytes"]

_OPERAND_BITS = 8 + 8 + 32
"""Registers of a PE that a step clocks: both operands and the accumulator."""

_DRAIN_BITS = 32


@dataclass(frozen=True)
class Events:
    """Numbers of events; sums of them are those of several instructions or layers.

    Parameters
    ----------
    macs
        Multiply-accumulates of the network.  PEs without work see zeros, which are not counted here.
    register_bits
        Bits of PE registers clocked: operands and accumulators of all PEs in every step, drain registers on the way of
        each used row to the bottom edge.
    comparisons
        Pixels that the running maximum compares.
    outputs, second_operands
        Pixels through the output stage, and of these those with a second operand.
    scratchpad_words
        Words of activation memories read or written: a read takes a whole line of sub-banks, a write the words in which
        it has bytes (on average over its alignments).
    weight_lines, parameter_lines
        Lines of the two memories read by EXECs or written by LOADs.
    dram_read, dram_written
        Bytes on the bus, instructions included.
    """

    macs: int = 0
    register_bits: int = 0
    comparisons: int = 0
    outputs: int = 0
    second_operands: int = 0
    scratchpad_words: float = 0.0
    weight_lines: int = 0
    parameter_lines: int = 0
    dram_read: int = 0
    dram_written: int = 0

    def __add__(self, other: Events) -> Events:
        fields = dataclasses.fields(Events)
        return Events(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields})


def count_events(
    config: AcceleratorConfig, instructions: Sequence[Instruction], macs: int = 0, costs: Sequence[ExecCycles] = ()
) -> Events:
    """Count what instructions make happen.

    Parameters
    ----------
    config
        The accelerator.
    instructions
        Those of a layer, for example.
    macs
        Multiply-accumulates that they do; instructions do not tell how much of a kernel meets padding.
    costs
        What the EXECs among them take on their own, in order, where that is known already.
    """
    total = Events(macs=macs, dram_read=INSTRUCTION_BYTES * len(instructions))
    known = iter(costs)
    for instruction in instructions:
        if instruction.opcode == Opcode.EXEC:
            total += _exec(config, instruction, next(known, None) or exec_cycles(config, instruction))
        elif instruction.opcode == Opcode.LOAD:
            total += _load(config, instruction)
        elif instruction.opcode == Opcode.STORE:
            total += _store(config, instruction)
    return total


def _exec(config: AcceleratorConfig, item: Instruction, cost: ExecCycles) -> Events:
    outputs = item["cout"] * item["out_h"] * item["out_w"]
    second = ResidualOp(item["res"]).reads
    reads = cost.reads + (cost.rows if second else 0)
    beside = item["res"] == ResidualOp.POOL
    # pooled: a byte per channel instead of rows of pixels
    writes, length = (item["cout"], 1.0) if item["gap"] and not beside else (cost.rows, outputs / cost.rows)
    written = writes * _words(config, length)
    if beside:
        vectors = pooled_vectors(config, item)
        written += vectors * _words(config, item["cout"] / vectors)
    array = item["mode"] not in (Mode.VEC, Mode.MAX)
    clocked = max(cost.reads, cost.steps) * config.rows * _OPERAND_BITS + cost.drain_moves * _DRAIN_BITS
    return Events(
        register_bits=clocked * config.cols if array else 0,
        comparisons=cost.reads * config.cols if item["mode"] == Mode.MAX else 0,
        outputs=outputs,
        second_operands=outputs if second else 0,
        scratchpad_words=reads * SUB_BANKS + written,
        weight_lines=cost.steps,
        parameter_lines=cost.rows,
    )


def _load(config: AcceleratorConfig, item: Instruction) -> Events:
    moved = loaded_bytes(item, config.axi_bytes)
    beats = moved // config.axi_bytes
    if item["target"] == Target.ACT:
        return Events(scratchpad_words=beats * _words(config, moved / beats), dram_read=moved)
    if item["target"] == Target.WEIGHT:
        return Events(weight_lines=-(-moved // weight_line_bytes(config)), dram_read=moved)
    return Events(parameter_lines=-(-moved // parameter_line_bytes(config)), dram_read=moved)


def _store(config: AcceleratorConfig, item: Instruction) -> Events:
    beats = loaded_bytes(item, config.axi_bytes) // config.axi_bytes  # whole ones, as of a LOAD
    return Events(scratchpad_words=beats * SUB_BANKS, dram_written=stored_bytes(item))


def _words(config: AcceleratorConfig, length: float) -> float:
    """Return the words of ``sub_bytes`` that `length` bytes at any address lie in, on average."""
    return (length - 1) / config.sub_bytes + 1


def weight_line_bytes(config: AcceleratorConfig) -> int:
    """Return the width of the weight memory: a word, or a beat if that is more."""
    return max(config.weight_word_bytes, config.axi_bytes)


def parameter_line_bytes(config: AcceleratorConfig) -> int:
    """Return the width of the parameter memory: a set, or a beat if that is more."""
    return max(PARAM_DTYPE.itemsize, config.axi_bytes)
