"""The GEMM sequencer's steps against the loop nest of isa.EXEC, with the read port denied at random."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from amaranth.sim import Simulator

from hw.gemm_sequencer import GemmSequencer
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Mode
from tests.hw.operand_places import operand_places
from tests.hw.operand_rig import with_requests


class Step(NamedTuple):
    """What a step reads (byte address per operand lane; the others are padding) and does."""

    reads: tuple[tuple[int, int], ...]
    weight: int | None
    lane: int | None
    last: bool
    rows: int


def small(rows: int, cols: int, **options: object) -> AcceleratorConfig:
    sizes = {"act_kib": 16, "weight_kib": 8, "param_entries": 256, "axi_data_width": 64, "max_kernel": 3}
    return AcceleratorConfig(rows=rows, cols=cols, **{**sizes, **options})


def fields(**values: int) -> dict[str, int]:
    base = {"mode": Mode.GEMM, "kh": 1, "kw": 1, "sy": 1, "sx": 1, "cin": 1, "cout": 1, "in_w": 9, "in_h": 6}
    return {**base, "out_w": 9, "out_h": 2, "in_base": 500, "in_cs": 80, "in_pitch": 11, "w_base": 37, **values}


INSTRUCTIONS = {
    "pointwise": fields(cin=5, cout=7),
    "shallow": fields(cout=7),
    "deep": fields(cin=9, cout=2, out_w=4),
    "3x3": fields(kh=3, kw=3, cin=2, cout=4, pad_y=1, pad_x=1, in_h=3, out_h=4),
    "stride": fields(kh=3, kw=2, sy=2, sx=2, cin=2, cout=3, pad_y=1, pad_x=1, out_w=5),
    "far-padding": fields(kh=2, kw=2, cout=3, pad_y=4, pad_x=11, out_w=18, out_h=9, in_h=5),
    "negative-padding": fields(kh=2, cin=2, pad_y=-2, pad_x=-3, out_w=6),
    "depthwise": fields(depthwise=1, kh=3, kw=3, cout=7, cin=0, pad_y=1, pad_x=1),
    "depthwise-stride": fields(depthwise=1, kh=2, kw=3, cout=4, cin=3, sy=3, sx=2, out_w=5, out_h=2, pad_x=2),
    "vec": fields(mode=Mode.VEC, cout=6, cin=3),
    "max": fields(mode=Mode.MAX, cout=6, cin=3, kh=2, kw=2, sy=2, out_h=3, pad_y=1),
    "max-stride": fields(mode=Mode.MAX, cout=4, kh=3, kw=3, sy=2, sx=2, out_w=5, pad_y=1, pad_x=1),
    "max-line": fields(mode=Mode.MAX, cout=2, kw=3, pad_x=1),
    "vec-stride": fields(mode=Mode.VEC, cout=2, sy=2, sx=2, out_w=5, pad_y=1, pad_x=2),
}
CONFIGS = {"3x4": small(3, 4), "4x3": small(4, 3, stos=False), "1x2": small(1, 2), "2x5": small(2, 5)}


def loop_nest(config: AcceleratorConfig, f: dict[str, int]) -> Iterator[Step]:
    direct, depthwise = f["mode"] in (Mode.VEC, Mode.MAX), bool(f.get("depthwise"))
    rows, cols = config.rows, config.cols
    size = 1 if direct or depthwise else rows
    for first in range(0, f["cout"], size):
        n = min(size, f["cout"] - first)
        block, place = divmod(first, rows)
        block_channels = min(rows, f["cout"] - block * rows)
        channels = range(first, first + 1) if size == 1 and (direct or depthwise) else range(f["cin"])
        taps = [
            (number, channel, ky, kx)
            for number, channel in enumerate(channels)
            for ky in range(f["kh"])
            for kx in (reversed(range(f["kw"])) if direct or depthwise else range(f["kw"]))
        ]
        for y in range(f["out_h"]):
            for x in range(0, f["out_w"] * f["sx"], cols * f["sx"]):
                for place_in_tile, (number, channel, ky, kx) in enumerate(taps):
                    line = y * f["sy"] + ky - f.get("pad_y", 0)
                    reads = []
                    for column in range(cols):
                        pixel = x + column * f["sx"] + kx - f.get("pad_x", 0)
                        if 0 <= line < f["in_h"] and 0 <= pixel < f["in_w"]:
                            address = f["in_base"] + channel * f["in_cs"] + line * f["in_pitch"] + pixel
                            reads.append((config.halo + column, address))
                    if depthwise:
                        word = (block * f["kh"] + ky) * f["kw"] + f["kw"] - 1 - kx
                    else:
                        word = ((block * f["cin"] + number) * f["kh"] + ky) * f["kw"] + kx
                    yield Step(
                        tuple(reads),
                        None if direct else f["w_base"] + word,
                        block_channels - 1 - place if depthwise else None,
                        place_in_tile == len(taps) - 1,
                        n,
                    )


def issued(config: AcceleratorConfig, f: dict[str, int], denial: float, seed: int) -> tuple[list[Step], list[int]]:
    """Run an instruction; return its steps and their cycles."""
    rng, dut = random.Random(seed), GemmSequencer(config)
    m, requests = with_requests(dut)
    direct, depthwise = f["mode"] in (Mode.VEC, Mode.MAX), bool(f.get("depthwise"))
    steps: list[Step] = []
    cycles: list[int] = []

    async def bench(ctx) -> None:
        request = requests.operand.req
        ctx.set(dut.cfg, f)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.active) and not ctx.get(request.valid)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        cycle, denied = 0, None
        while ctx.get(dut.active):
            ready = rng.random() >= denial
            ctx.set(request.ready, ready)
            payload = tuple(ctx.get(getattr(request.payload, name)) for name in ("addr", "lo", "hi", "strided"))
            assert denied in (None, payload), "a denied request was changed or withdrawn"
            valid = ctx.get(request.valid)
            denied = payload if valid and not ready else None
            assert ctx.get(dut.issue) == (valid and ready)
            assert not ctx.get(requests.range_error)
            assert not (valid and ctx.get(dut.drain_wait))
            if ctx.get(dut.issue):
                assert ctx.get(dut.one_lane) == depthwise
                steps.append(
                    Step(
                        operand_places(config, *payload),
                        None if direct else ctx.get(dut.weight_addr),
                        ctx.get(dut.lane) if depthwise else None,
                        bool(ctx.get(dut.last)),
                        ctx.get(dut.tile_rows),
                    )
                )
                cycles.append(cycle)
            await ctx.tick()
            cycle += 1
            assert cycle < 20_000, "hung"
            if denied is not None:
                assert ctx.get(request.valid), "a denied request was withdrawn"
        assert cycles[-1] == cycle - 1  # active ends with the last step

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return steps, cycles


@pytest.mark.parametrize("name", INSTRUCTIONS)
@pytest.mark.parametrize("denial", [0, 0.4], ids=["free", "denied"])
def test_steps_are_the_loop_nest(name: str, denial: float) -> None:
    """Tiles end n rows apart or more, and further where the number of used rows changes."""
    f = INSTRUCTIONS[name]
    for config in [CONFIGS["4x3"], CONFIGS["1x2"]] if denial else [CONFIGS["3x4"], CONFIGS["2x5"]]:
        steps, cycles = issued(config, f, denial, seed=config.cols)
        assert steps == list(loop_nest(config, f))
        if f["mode"] in (Mode.VEC, Mode.MAX):  # nothing drains
            assert denial or cycles == list(range(cycles[0], cycles[0] + len(steps)))
            continue
        ends = [(cycle, step.rows) for cycle, step in zip(cycles, steps, strict=True) if step.last]
        depth = len(steps) // len(ends)
        for (before, rows), (end, next_rows) in zip(ends, ends[1:], strict=False):
            room = next_rows if rows == next_rows else config.rows + config.cols - 1
            assert end - before >= room
            assert denial or end - before == max(room, depth)  # and no later than that


@pytest.mark.parametrize("spare", [0, -1])
@pytest.mark.parametrize(
    "values", [{"in_w": 6, "out_w": 6}, {"in_w": 6, "out_w": 3, "sx": 2}, {"in_w": 4, "out_w": 3, "sx": 2, "pad_x": 2}]
)
def test_range_error_only_for_bytes_in_use(spare: int, values: dict[str, int]) -> None:
    """At stride 2 the last byte of the line is not in use."""
    config = CONFIGS["3x4"]
    used = 1 + (values["out_w"] - 1) * values.get("sx", 1) - values.get("pad_x", 0)
    f = fields(cin=1, out_h=1, in_base=config.act_bytes - used - spare, **values)
    dut = GemmSequencer(config)
    m, requests = with_requests(dut)
    errors = 0

    async def bench(ctx) -> None:
        nonlocal errors
        ctx.set(dut.cfg, f)
        ctx.set(requests.operand.req.ready, 1)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        while ctx.get(dut.active):
            errors += ctx.get(requests.range_error)
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert errors == (spare < 0)
