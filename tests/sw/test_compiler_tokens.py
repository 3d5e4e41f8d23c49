"""Tokens: sound under every interleaving tried, never a deadlock in program order, counters within bounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import TOKEN_MAX, Opcode, Queue, Region, Target
from sw.compiler import optimise
from sw.compiler.emit import emit
from sw.compiler.lower import lower
from sw.compiler.plan import plan
from sw.compiler.steps import Span, Step
from sw.compiler.tokens import Order, dependencies, order_steps, overlaps
from tests.sw.ir_graphs import block_net

MICRO = AcceleratorConfig(rows=3, cols=4, act_kib=2, act_banks=2, weight_kib=1, param_entries=16, axi_data_width=64)


def _bytes(span: Span) -> set[tuple[tuple[str, int], int]]:
    return {(span.key, span.base + i * span.stride + j) for i in range(span.count) for j in range(span.length)}


def _conflicts(steps: list[Step]) -> np.ndarray:
    """conflicts[i, j]: step i touches a byte that step j writes, or writes one that it touches (by brute force)."""
    reads = [set().union(*map(_bytes, step.reads), set()) for step in steps]
    writes = [set().union(*map(_bytes, step.writes), set()) for step in steps]
    matrix = np.zeros((len(steps), len(steps)), bool)
    for i, j in itertools.combinations(range(len(steps)), 2):
        hit = not (
            writes[i].isdisjoint(writes[j]) and writes[i].isdisjoint(reads[j]) and reads[i].isdisjoint(writes[j])
        )
        matrix[i, j] = matrix[j, i] = hit
    return matrix


def _steps(config: AcceleratorConfig, seed: int = 2, size: int = 12) -> list[Step]:
    _, graph = block_net(seed, size=size)
    graph = optimise(graph, config)
    kernels, views = lower(graph, config)
    return emit(plan(graph, kernels, views, config), config)[0]


def _simulate(steps: list[Step], order: Order, conflicts: np.ndarray, rng: np.random.Generator) -> int:
    """Run the queues with random delays; check hazards when a step starts. Returns the largest token count."""
    waiting = {queue: [i for i, step in enumerate(steps) if step.queue == queue] for queue in Queue}
    flying: dict[Queue, list[int]] = {queue: [] for queue in Queue}
    tokens = dict.fromkeys(itertools.product(Queue, Queue), 0)
    done = np.zeros(len(steps), bool)
    most = 0
    bias = dict(zip(Queue, rng.dirichlet([0.5] * len(Queue)), strict=True))
    while not done.all():
        moves: list[tuple[Queue, bool]] = []
        for queue in Queue:
            if waiting[queue]:
                head = waiting[queue][0]
                ready = all(tokens[other, queue] for other in Queue if order.wait[head] >> other & 1)
                if queue == Queue.EXEC and len(flying[queue]) > order.overlap[head]:
                    ready = False
                if ready:
                    moves.append((queue, True))
            if flying[queue]:
                moves.append((queue, False))
        assert moves, "deadlock"
        weights = np.array([bias[queue] + 0.01 for queue, _ in moves])
        queue, start = moves[rng.choice(len(moves), p=weights / weights.sum())]
        if start:
            head = waiting[queue].pop(0)
            for other in Queue:
                if order.wait[head] >> other & 1:
                    tokens[other, queue] -= 1
            for earlier in np.flatnonzero(conflicts[head, :head] & ~done[:head]):
                # a queue moves its data in order; but an EXEC may read before the one before it has written
                ordered = steps[earlier].queue == queue
                if ordered and queue == Queue.EXEC:
                    ordered = not any(a.overlaps(b) for a in steps[earlier].writes for b in steps[head].reads)
                assert ordered, f"step {head} starts while {earlier} is not done"
            flying[queue].append(head)
        else:
            finished = flying[queue].pop(0)
            done[finished] = True
            for other in Queue:
                if order.signal[finished] >> other & 1:
                    tokens[queue, other] += 1
            most = max(most, *tokens.values())
    assert not any(tokens.values()), "every token given is taken"
    return most


@pytest.mark.parametrize("config", [MICRO, PRESETS["tiny"], PRESETS["edge8"]], ids=["micro", "tiny", "edge8"])
def test_no_interleaving_breaks_a_hazard(config: AcceleratorConfig) -> None:
    steps = _steps(config)
    order = order_steps(steps)
    conflicts = _conflicts(steps)
    assert conflicts.sum() > len(steps)
    for seed in range(30):
        assert _simulate(steps, order, conflicts, np.random.default_rng(seed)) <= TOKEN_MAX


def test_the_check_sees_a_missing_token() -> None:
    steps = _steps(MICRO)
    order = order_steps(steps)
    conflicts = _conflicts(steps)
    taker = next(i for i, step in enumerate(steps) if step.opcode == Opcode.EXEC and order.wait[i] == 1)
    giver = max(i for i in range(taker) if steps[i].queue == Queue.LOAD and order.signal[i] >> Queue.EXEC & 1)
    order.wait[taker] = 0
    order.signal[giver] &= ~(1 << Queue.EXEC)
    with pytest.raises(AssertionError, match="is not done"):
        for seed in range(30):
            _simulate(steps, order, conflicts, np.random.default_rng(seed))


def test_program_order_runs_one_step_at_a_time() -> None:
    steps = _steps(MICRO)
    order = order_steps(steps)
    tokens = dict.fromkeys(itertools.product(Queue, Queue), 0)
    for index, step in enumerate(steps):
        for other in Queue:
            if order.wait[index] >> other & 1:
                tokens[other, step.queue] -= 1
                assert tokens[other, step.queue] >= 0
        for other in Queue:
            tokens[step.queue, other] += order.signal[index] >> other & 1


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_token_counters_stay_within_a_limit(limit: int) -> None:
    steps = _steps(MICRO)
    conflicts = _conflicts(steps)
    order = order_steps(steps, limit=limit)
    worst = max(_simulate(steps, order, conflicts, np.random.default_rng(seed)) for seed in range(20))
    assert worst <= limit
    free = max(_simulate(steps, order_steps(steps), conflicts, np.random.default_rng(seed)) for seed in range(20))
    assert free > 2, "without a limit this program gives more"


def test_transfers_run_ahead_of_execution() -> None:
    """The next layer's constants and the next strip's input do not wait for the execution before them."""
    steps = _steps(PRESETS["edge8"])
    order = order_steps(steps)
    constants = [i for i, step in enumerate(steps) if step.blob is not None]
    assert sum(order.wait[i] == 0 for i in constants) > 0.9 * len(constants)
    # the column filters of both FuSe blocks start while the row filters drain
    assert sum(order.overlap) == 2


def test_overlap_is_set_where_nothing_is_read_that_the_exec_before_writes() -> None:
    steps = _steps(MICRO)
    flags = overlaps(steps)
    execs = [index for index, step in enumerate(steps) if step.opcode == Opcode.EXEC]
    assert not any(flag for index, flag in enumerate(flags) if index not in execs)
    assert not flags[execs[0]]
    for before, index in itertools.pairwise(execs):
        written = set().union(*map(_bytes, steps[before].writes))
        read = set().union(*(_bytes(span) for span in steps[index].reads if span.memory == Target.ACT))
        assert flags[index] == (not written & read)
    assert 0.2 * len(execs) < sum(flags) < len(execs) - 1


def test_overlap_looks_at_the_exec_before_only() -> None:
    """What an earlier EXEC writes may be read, and what the one before reads or writes may be written."""

    def step(read: int, write: int) -> Step:
        spans = [[Span(Target.ACT, place, 1, 0, 8)] for place in (read, write)]
        return Step(Opcode.EXEC, {}, 0, reads=spans[0], writes=spans[1])

    steps = [step(0, 16), step(0, 32), step(16, 0), step(64, 0), step(0, 64), step(64, 80)]
    assert overlaps(steps) == [0, 1, 1, 1, 0, 0]


def test_spans_overlap_when_they_share_a_byte() -> None:
    rng = np.random.default_rng(0)
    shared = apart = 0
    for _ in range(3000):
        stride = int(rng.integers(1, 12))
        spans = []
        for _ in range(2):
            step = stride if rng.random() < 0.7 else int(rng.integers(1, 12))
            length = int(rng.integers(1, step + 1)) if rng.random() < 0.8 else int(rng.integers(1, 30))
            spans.append(Span(Target.ACT, int(rng.integers(0, 40)), int(rng.integers(1, 5)), step, length))
        first, second = spans
        truth = bool(_bytes(first) & _bytes(second))
        assert first.overlaps(second) == second.overlaps(first)
        assert first.overlaps(second) >= truth
        if first.covers(second):
            assert _bytes(first) >= _bytes(second)
        if first.solid or second.solid:
            exact = first.overlaps(second) == truth
            assert exact
            shared, apart = shared + truth, apart + (not truth)
    assert shared > 100 and apart > 100
    assert not Span(Target.ACT, 0, 1, 0, 9).overlaps(Span(Region.CONST, 0, 1, 0, 9))


def test_dependencies_reach_every_conflict() -> None:
    """Direct dependencies and their transitive closure order each conflicting pair."""
    steps = _steps(MICRO)
    conflicts = _conflicts(steps)
    needs = dependencies(steps)
    reach = np.zeros((len(steps), len(steps)), bool)
    for index, direct in enumerate(needs):
        for earlier in direct:
            reach[index, earlier] = True
            reach[index] |= reach[earlier]
    for i, j in zip(*np.nonzero(np.tril(conflicts)), strict=True):
        assert reach[i, j]
