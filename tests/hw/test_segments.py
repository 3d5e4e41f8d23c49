# amaranth: UnusedElaboratable=no
"""The mask of packed lines against its definition: every segment and gap, a new line in every cycle."""

from __future__ import annotations

import itertools
import random

import pytest
from amaranth.sim import Simulator

from hw.segments import SegmentMask


def definition(lanes: int, seg: int, gap: int, edge: int) -> list[bool]:
    return [lane >= edge or (seg > 0 and lane % seg >= seg - gap) for lane in range(lanes)]


@pytest.mark.parametrize(
    ("lanes", "latency"), [(2, 1), (3, 2), (4, 2), (5, 3), (9, 8), (10, 4), (24, 8), (33, 6), (64, 8), (256, 8)]
)
def test_every_segment_and_gap(lanes: int, latency: int) -> None:
    rng = random.Random(lanes)
    cases = [(0, 0)] + [(seg, gap) for seg in range(1, lanes + 1) for gap in range(min(seg, 16))]
    if lanes > 64:
        cases = rng.sample(cases, 900)
    rng.shuffle(cases)
    lines = [(seg, gap, rng.choice((lanes, rng.randint(0, lanes)))) for seg, gap in cases]
    dut = SegmentMask(lanes, latency)
    got: list[list[bool]] = []

    async def bench(ctx) -> None:
        for seg, gap, edge in itertools.chain(lines, [(0, 0, 0)] * latency):
            ctx.set(dut.seg, seg)
            ctx.set(dut.seg_gap, gap)
            ctx.set(dut.edge, edge)
            dropped = ctx.get(dut.dropped)
            got.append([bool(dropped >> lane & 1) for lane in range(lanes)])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert got[latency:] == [definition(lanes, *line) for line in lines]


@pytest.mark.parametrize(("lanes", "latency"), [(2, 0), (4, 1), (5, 2), (64, 5), (256, 7)])
def test_too_short_a_latency_is_refused(lanes: int, latency: int) -> None:
    with pytest.raises(ValueError, match=f"mask of {lanes} lanes takes {latency + 1} cycles, more than {latency}"):
        SegmentMask(lanes, latency)
