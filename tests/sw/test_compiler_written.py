"""Which bytes of the scratchpad steps have written."""

from __future__ import annotations

from hw.spec.isa import Opcode, Region, Target
from sw.compiler.steps import Span, Step
from sw.compiler.written import Written


def step(*writes: Span) -> Step:
    return Step(Opcode.EXEC, {}, 0, writes=list(writes))


def chip(base: int, count: int, stride: int, length: int) -> Span:
    return Span(Target.ACT, base, count, stride, length)


def test_every_byte_of_every_line_must_have_been_written() -> None:
    steps = [step(chip(0, 3, 10, 4))]
    written = Written(64)
    assert written.covers(steps, [], [chip(0, 3, 10, 4), chip(11, 2, 10, 3)])
    assert not written.covers(steps, [], [chip(0, 3, 10, 5)])
    assert not written.covers(steps, [], [chip(0, 1, 0, 14)])


def test_more_steps_count_once_and_later_ones_from_then_on() -> None:
    steps = [step(chip(0, 1, 0, 8))]
    written, wanted = Written(64), [chip(0, 1, 0, 12)]
    assert written.covers(steps, [step(chip(8, 1, 0, 4))], wanted)
    assert not written.covers(steps, [], wanted)
    steps.append(step(chip(6, 1, 0, 6)))
    assert written.covers(steps, [], wanted)


def test_other_memories_do_not_count() -> None:
    elsewhere = [Span(memory, 0, 1, 0, 8) for memory in (Target.WEIGHT, Target.PARAM, *Region)]
    assert not Written(64).covers([step(*elsewhere)], [], [chip(0, 1, 0, 1)])
