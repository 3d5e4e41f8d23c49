"""What identifies a measurement: not the weights, but everything that decides cycles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hw.spec.config import preset
from hw.spec.isa import Instruction, Opcode, assemble
from hw.spec.program import Program
from sw.compiler import compile_graph
from sw.random_inputs import random_inputs
from sw.rtl_identity import NUMBERS, hardware_key, schedule_key
from tests.sw.ir_graphs import block_net


def changed(program: Program, **values: int) -> Program:
    """Return a program of as many instructions, with values in its first EXEC changed."""
    stream = program.instructions()
    index = next(i for i, item in enumerate(stream) if item.opcode == Opcode.EXEC)
    stream[index] = Instruction(Opcode.EXEC, stream[index].values | values)
    code = assemble(stream)
    return replace(program, image=code + program.image[len(code) :])


def test_schedule() -> None:
    program = compile_graph(block_net(0)[1], preset("tiny"))
    key = schedule_key(program)
    other_weights = replace(program, image=program.image[:-1] + bytes([program.image[-1] ^ 1]))
    assert schedule_key(other_weights) == key
    assert schedule_key(changed(program, **dict.fromkeys(NUMBERS, 1))) == key
    assert schedule_key(changed(program, in_base=program.instructions()[-2]["in_base"] + 8)) != key
    assert schedule_key(compile_graph(block_net(0)[1], preset("edge8"))) != key


def test_hardware() -> None:
    assert len(hardware_key()) == 64 and hardware_key() == hardware_key()


def test_random_inputs_are_the_same_every_time() -> None:
    program = compile_graph(block_net(0)[1], preset("tiny"))
    once, again = random_inputs(program), random_inputs(program)
    assert set(once) == {spec.name for spec in program.inputs}
    assert all(np.array_equal(once[name], again[name]) and once[name].dtype == np.int8 for name in once)
