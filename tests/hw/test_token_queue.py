"""Token queue and token counters: order, waiting, giving, overflow, in-flight limit."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest

from hw.spec.isa import TOKEN_MAX, Instruction, Opcode, Queue, encode
from hw.token_queue import IN_FLIGHT_DEPTH, QUEUE_DEPTH, TokenCounters, TokenQueue
from tests.hw.control_bench import simulate


def word(wait: int, signal: int, tag: int) -> int:
    values = {"wait": wait, "signal": signal, "rows": tag}
    return int.from_bytes(encode(Instruction(Opcode.STORE, values)), "little")


async def put(ctx: Any, dut: TokenQueue, wait: int, signal: int, pc: int) -> None:
    ctx.set(dut.enq.payload, {"word": word(wait, signal, pc), "pc": pc})
    ctx.set(dut.enq.valid, 1)
    await ctx.tick().until(dut.enq.ready)
    ctx.set(dut.enq.valid, 0)


@pytest.mark.parametrize("pipeline", [False, True])
def test_random_traffic(pipeline: bool) -> None:
    """Against a model: issued in order, only with its tokens; masks taken and given are those of the instructions."""
    dut = TokenQueue(pipeline=pipeline)
    rng = random.Random(1)
    program = [(rng.getrandbits(3), rng.getrandbits(3)) for _ in range(200)]
    issued: deque[int] = deque()
    finished: list[int] = []

    async def feed(ctx: Any) -> None:
        for pc, (wait, signal) in enumerate(program):
            while rng.random() < 0.3:
                await ctx.tick()
            await put(ctx, dut, wait, signal, pc)

    async def run(ctx: Any) -> None:
        count, available, done, held = 0, 0, False, None
        while len(finished) < len(program):
            ready = rng.random() < 0.6
            # A token that is there stays until it is taken.
            available |= rng.getrandbits(3) & rng.getrandbits(3)
            done = bool(issued) and rng.random() < 0.4
            ctx.set(dut.issue.ready, ready)
            ctx.set(dut.available, available)
            ctx.set(dut.done, done)
            _, _, valid, payload, take, give, missing, busy, oldest = await ctx.tick().sample(
                dut.issue.valid, dut.issue.payload, dut.take, dut.give, dut.missing, dut.busy, dut.oldest_pc
            )
            assert busy == bool(issued)
            assert held is None or valid, "VALID fell before READY"
            held = payload.pc if valid and not ready else None
            if done:
                pc = issued.popleft()
                assert oldest == pc and give == program[pc][1]
                finished.append(pc)
            else:
                assert give == 0
            if valid:
                assert payload.pc == count and payload.word == word(*program[count], count)
                assert program[count][0] & ~available == 0 and missing == 0
            if valid and ready:
                assert take == program[count][0]
                available &= ~take
                issued.append(count)
                assert len(issued) <= IN_FLIGHT_DEPTH
                count += 1
            else:
                assert take == 0
        assert finished == list(range(len(program)))

    simulate(dut, feed, run)


def test_missing_names_the_tokens_and_hold_stops() -> None:
    dut = TokenQueue()

    async def bench(ctx: Any) -> None:
        assert ctx.get(dut.empty)
        await put(ctx, dut, 0b110, 0, 5)
        ctx.set(dut.issue.ready, 1)
        await ctx.tick().repeat(2)
        ctx.set(dut.available, 0b010)
        assert ctx.get(dut.missing) == 0b100 and not ctx.get(dut.issue.valid) and not ctx.get(dut.empty)
        assert ctx.get(dut.oldest_pc) == 5
        ctx.set(dut.available, 0b111)
        assert ctx.get(dut.issue.valid) and ctx.get(dut.take) == 0b110
        ctx.set(dut.hold, 1)
        assert not ctx.get(dut.issue.valid) and ctx.get(dut.take) == 0

    simulate(dut, bench)


def test_depth_latency_and_in_flight_limit() -> None:
    dut = TokenQueue()

    async def bench(ctx: Any) -> None:
        await put(ctx, dut, 0, 0, 0)
        assert not ctx.get(dut.issue.valid)
        await ctx.tick()
        assert ctx.get(dut.issue.valid), "an instruction is offered two cycles after it was put"
        for pc in range(1, QUEUE_DEPTH):
            await put(ctx, dut, 0, 0, pc)
        assert not ctx.get(dut.enq.ready)
        ctx.set(dut.issue.ready, 1)
        for pc in range(QUEUE_DEPTH, IN_FLIGHT_DEPTH):
            await put(ctx, dut, 0, 0, pc)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.empty) and ctx.get(dut.busy)
        await put(ctx, dut, 0, 0, 99)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.issue.valid), "nothing more is issued until one is done"
        ctx.set(dut.done, 1)
        await ctx.tick()
        ctx.set(dut.done, 0)
        assert ctx.get(dut.issue.valid)

    simulate(dut, bench)


def test_pipelined_latency_and_period() -> None:
    """Three cycles from entry and from a token, two between instructions, hold at once."""
    dut = TokenQueue(pipeline=True)
    seen = []

    async def bench(ctx: Any) -> None:
        ctx.set(dut.issue.ready, 1)
        ctx.set(dut.available, 0b111)
        await put(ctx, dut, 0b001, 0, 0)  # ends in the cycle after it was put
        for cycle in range(1, 12):
            ctx.set(dut.enq.payload, {"word": word(0b010, 0, cycle), "pc": cycle})
            ctx.set(dut.enq.valid, cycle < 3)
            ctx.set(dut.hold, cycle in (7, 8))
            if ctx.get(dut.issue.valid):
                seen.append((cycle, ctx.get(dut.issue.payload.pc), ctx.get(dut.take)))
            await ctx.tick()

    simulate(dut, bench)
    assert seen == [(3, 0, 1), (5, 1, 2), (9, 2, 2)]


def test_counters_against_a_model() -> None:
    dut = TokenCounters()
    rng = random.Random(2)

    async def bench(ctx: Any) -> None:
        count = dict.fromkeys(((a, b) for a in Queue for b in Queue if a != b), 0)
        for step in range(600):
            bias = 0.7 if step < 300 else 0.2
            give = {a: sum(1 << b for b in Queue if a != b and rng.random() < bias) for a in Queue}
            take = {b: sum(1 << a for a in Queue if a != b and count[a, b] and rng.random() < 0.4) for b in Queue}
            for queue in Queue:
                ctx.set(dut.give[queue], give[queue])
                ctx.set(dut.take[queue], take[queue])
                available = sum(1 << a for a in Queue if a != queue and count[a, queue])
                assert ctx.get(dut.available[queue]) == available
            for a, b in count:
                over = (give[a] >> b & 1) and not (take[b] >> a & 1) and count[a, b] == TOKEN_MAX
                assert ctx.get(dut.overflow[a][b]) == bool(over)
                count[a, b] += (give[a] >> b & 1) - (take[b] >> a & 1) - bool(over)
            await ctx.tick()
        ctx.set(dut.clear, 1)
        await ctx.tick()
        assert all(ctx.get(dut.available[queue]) == 0 for queue in Queue)

    simulate(dut, bench)


def test_overflow_at_the_limit_only() -> None:
    dut = TokenCounters()

    async def bench(ctx: Any) -> None:
        ctx.set(dut.give[Queue.LOAD][Queue.EXEC], 1)
        for _ in range(TOKEN_MAX):
            assert ctx.get(dut.overflow[Queue.LOAD]) == 0
            await ctx.tick()
        assert ctx.get(dut.overflow[Queue.LOAD]) == 1 << Queue.EXEC
        ctx.set(dut.take[Queue.EXEC][Queue.LOAD], 1)
        assert ctx.get(dut.overflow[Queue.LOAD]) == 0, "given and taken in one cycle is no overflow"

    simulate(dut, bench)
