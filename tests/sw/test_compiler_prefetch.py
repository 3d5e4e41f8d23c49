"""Prefetch: another valid order of the same steps, in which loads that can run do not stand behind those that wait."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Mode, Opcode, Region, Target
from sw.compiler.prefetch import place_loads
from sw.compiler.steps import Span, Step

CONFIG = PRESETS["edge8"]


def _load(base: int, size: int, *, blob: int | None = None, needs: Sequence[Span] = ()) -> Step:
    target = Target.ACT if blob is None else Target.WEIGHT
    values = {"rows": 1, "row_bytes": size}
    return Step(Opcode.LOAD, values, 0, blob=blob, reads=list(needs), writes=[Span(target, base, 1, 0, size)])


def _store(base: int, size: int, home: int) -> Step:
    values = {"rows": 1, "row_bytes": size}
    read, write = Span(Target.ACT, base, 1, 0, size), Span(Region.WORK, home, 1, 0, size)
    return Step(Opcode.STORE, values, 0, reads=[read], writes=[write])


def _exec(cycles: int, reads: Sequence[tuple[Target, int]], write: int) -> Step:
    values = dict.fromkeys(("depthwise",), 0) | {"mode": int(Mode.GEMM)}
    values |= dict.fromkeys(("cout", "out_h", "out_w", "kh", "kw", "sy", "sx"), 1) | {"cin": cycles}
    spans = [Span(target, base, 1, 0, 64) for target, base in reads]
    return Step(Opcode.EXEC, values, 0, reads=spans, writes=[Span(Target.ACT, write, 1, 0, 64)])


def _conflict(a: Step, b: Step) -> bool:
    both = ((a.writes, b.reads), (a.reads, b.writes), (a.writes, b.writes))
    return any(one.overlaps(two) for first, second in both for one in first for two in second)


def _random_steps(rng: np.random.Generator) -> list[Step]:
    steps = []
    for number in range(int(rng.integers(5, 60))):
        place, other = (64 * int(rng.integers(0, 8)) for _ in range(2))
        match int(rng.integers(0, 4)):
            case 0:
                steps.append(_load(place, 64))
            case 1:
                steps.append(_load(place, 64 * int(rng.integers(1, 4)), blob=number))
            case 2:
                steps.append(_store(place, 64, other))
            case _:
                cycles = int(rng.integers(10, 2000))
                steps.append(_exec(cycles, [(Target.ACT, place), (Target.WEIGHT, other)], 64 * int(rng.integers(0, 8))))
    return steps


@pytest.mark.parametrize("seed", range(40))
def test_no_conflicting_steps_change_sides(seed: int) -> None:
    steps = _random_steps(np.random.default_rng(seed))
    moved = place_loads(steps, CONFIG)
    assert {id(step) for step in moved} == {id(step) for step in steps} and len(moved) == len(steps)
    place = {id(step): position for position, step in enumerate(moved)}
    for first, second in itertools.combinations(steps, 2):
        if _conflict(first, second):
            assert place[id(first)] < place[id(second)]
    for kind in (
        lambda step: step.opcode != Opcode.LOAD,
        lambda step: step.opcode == Opcode.LOAD and step.blob is None,
        lambda step: step.opcode == Opcode.LOAD and step.blob is not None,
    ):
        assert list(filter(kind, moved)) == list(filter(kind, steps))


def test_constants_do_not_wait_for_activations_that_wait() -> None:
    """The second EXEC's activations are stored first; its weights are loaded while the first one runs."""
    first, store = _exec(5000, [(Target.ACT, 0), (Target.WEIGHT, 0)], 128), _store(128, 64, 0)
    data = _load(256, 64, needs=[Span(Region.WORK, 0, 1, 0, 64)])
    weights = _load(64, 64, blob=1)
    second = _exec(100, [(Target.ACT, 256), (Target.WEIGHT, 64)], 512)
    steps = [_load(0, 64), _load(0, 64, blob=0), first, store, data, weights, second]
    loads = [step for step in place_loads(steps, CONFIG) if step.opcode == Opcode.LOAD]
    assert loads.index(weights) < loads.index(data)


def test_constants_come_many_execs_ahead_but_behind_the_activations_at_hand() -> None:
    def chain(config: AcceleratorConfig) -> list[int]:
        steps: list[Step] = []
        for number in range(20):
            steps += [
                _load(1024 * (number % 2), 64),
                _load(512 * number, 512, blob=number),
                _exec(400, [(Target.ACT, 1024 * (number % 2)), (Target.WEIGHT, 512 * number)], 4096 + 64 * number),
            ]
        moved = place_loads(steps, config)
        seen, ahead = 0, []
        for step in moved:
            seen += step.opcode == Opcode.EXEC
            if step.blob is not None:
                ahead.append(step.blob - seen)
        return ahead

    ahead = chain(CONFIG)
    assert max(ahead) > 8, "constants run ahead, as all of them fit"
    assert ahead[0] == 0
