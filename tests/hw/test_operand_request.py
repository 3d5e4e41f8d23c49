"""The request stages under stalls: every step once, in order, with the bytes and errors it should have."""

from __future__ import annotations

import dataclasses
import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from hw.layouts import table_layout
from hw.operand_request import request_pipeline, request_stages, step_layout
from hw.ports import operand_signature
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC

CONFIG = AcceleratorConfig(rows=3, cols=4, act_kib=16, weight_kib=8, param_entries=256, axi_data_width=64, max_kernel=3)
CONFIGS = [CONFIG, dataclasses.replace(CONFIG, pipeline_mac=True)]


def random_step(rng: random.Random, count: int) -> dict[str, int]:
    near_end = CONFIG.act_bytes - CONFIG.read_span
    return {
        "addr": rng.choice((rng.randrange(near_end), near_end + rng.randint(-3, 2 * CONFIG.read_span))),
        "x": rng.randint(-count - 1, 12),
        "line_valid": int(rng.random() < 0.8),
        "capture": rng.getrandbits(1),
        "weight": rng.getrandbits(24),
        "lane": rng.randrange(CONFIG.rows),
        "last": rng.getrandbits(1),
        "rows": rng.randint(1, CONFIG.rows),
    }


def expected(step: dict[str, int], width: int, first: int, pixels: range) -> dict[str, int]:
    inside = [first + i for i in pixels if step["line_valid"] and 0 <= step["x"] + i < width]
    lo, hi = (inside[0], inside[-1] + 1) if inside else (0, 0)
    beyond = bool(inside) and step["addr"] + inside[-1] >= CONFIG.act_bytes
    return {"addr": step["addr"] % CONFIG.act_bytes, "lo": lo, "hi": hi, "beyond": int(beyond)}


@pytest.mark.parametrize(
    ("first", "count", "stride"),
    [(CONFIG.halo, CONFIG.cols, 1), (0, CONFIG.read_lanes, 1), (CONFIG.halo, CONFIG.cols, 2)],
)
@pytest.mark.parametrize(("flow", "grant", "admission"), [(1, 1, 1), (0.6, 1, 1), (1, 0.5, 1), (1, 1, 0.5), (0.7,) * 3])
@pytest.mark.parametrize("config", CONFIGS, ids=["plain", "pipelined"])
def test_every_step_once_in_order(
    config: AcceleratorConfig, first: int, count: int, stride: int, flow: float, grant: float, admission: float
) -> None:
    rng = random.Random(int(100 * flow + 10 * grant + admission) + first)
    m = Module()
    cfg, run, admit, strided = Signal(table_layout(EXEC)), Signal(), Signal(), Signal()
    step = Signal(step_layout(CONFIG))
    operand = operand_signature(config).create()
    members = {name: step[name] for name in step_layout(CONFIG).members}
    pipeline = request_pipeline(
        m, config, cfg, operand, run=run, step=members, admit=admit, strided=strided, first=first, count=count
    )
    width, fill = 7, 0xA5
    steps = [random_step(rng, count) for _ in range(250)]
    pixels = range(count) if stride == 1 else range(0, 2 * CONFIG.cols, 2)
    wanted = [expected(s, width, first if stride == 1 else 0, pixels) for s in steps]
    assert 10 < sum(w["beyond"] for w in wanted) < 240
    cycles = 0

    async def bench(ctx) -> None:
        nonlocal cycles
        ctx.set(cfg.in_w, width)
        ctx.set(cfg.in_zp, fill - 256)
        ctx.set(strided, stride == 2)
        taken = issued = 0
        admitted = False
        while issued < len(steps):
            running = taken < len(steps) and rng.random() < flow
            ctx.set(run, running)
            ctx.set(step, steps[taken] if running else random_step(rng, count))
            admitted = admitted or rng.random() < admission  # as the sequencers: never taken back before the grant
            ctx.set(admit, admitted)
            ready = rng.random() < grant
            ctx.set(operand.req.ready, ready)

            waiting = ctx.get(pipeline.waiting)
            valid = ctx.get(operand.req.valid)
            assert valid == (waiting and admitted)
            assert ctx.get(pipeline.issued) == (valid and ready)
            assert ctx.get(pipeline.busy) == (taken > issued)
            if waiting:  # the same step, with everything that belongs to it, until its grant
                want, request = wanted[issued], operand.req.payload
                got = {name: ctx.get(getattr(request, name)) for name in ("addr", "lo", "hi")}
                assert got | {"beyond": ctx.get(pipeline.range_error)} == want, issued
                assert ctx.get(request.fill) == fill
                assert ctx.get(request.strided) == (stride == 2)
                assert {name: ctx.get(pipeline.step[name]) for name in members} == steps[issued]
            else:
                assert not ctx.get(pipeline.range_error)
            taken += ctx.get(pipeline.advance)
            if ctx.get(pipeline.issued):
                issued, admitted = issued + 1, False
            assert taken - issued <= request_stages(config) + 1
            await ctx.tick()
            cycles += 1
        ctx.set(run, 0)
        ctx.set(admit, 1)
        for _ in range(4):
            assert not ctx.get(operand.req.valid) and not ctx.get(pipeline.busy)
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    if flow == grant == admission == 1:  # some cycles of latency, then a step per cycle
        assert cycles == len(steps) + request_stages(config)
