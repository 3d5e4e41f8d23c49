"""The request stages under stalls: every step once, in order, with the bytes and errors it should have."""

from __future__ import annotations

import dataclasses
import random

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from hw.operand_request import OperandRequest, issue_layout, request_stages
from hw.spec.config import AcceleratorConfig

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


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (1, 1), (0, 2)])
@pytest.mark.parametrize(("flow", "grant", "admission"), [(1, 1, 1), (0.6, 1, 1), (1, 0.5, 1), (1, 1, 0.5), (0.7,) * 3])
@pytest.mark.parametrize("config", CONFIGS, ids=["plain", "pipelined"])
def test_every_step_once_in_order(
    config: AcceleratorConfig, window: int, stride: int, flow: float, grant: float, admission: float
) -> None:
    rng = random.Random(int(100 * flow + 10 * grant + admission) + 2 * (1 - window))
    m = Module()
    m.submodules.dut = dut = OperandRequest(config)
    m.d.comb += dut.window.eq(window)
    first, count = (0, CONFIG.read_lanes) if window else (CONFIG.halo, CONFIG.cols)
    kept = issue_layout(CONFIG).members
    width, fill = 7, 0xA5
    steps = [random_step(rng, count) for _ in range(250)]
    pixels = range(count) if stride == 1 else range(0, 2 * CONFIG.cols, 2)
    wanted = [expected(s, width, first if stride == 1 else 0, pixels) for s in steps]
    assert 10 < sum(w["beyond"] for w in wanted) < 240
    cycles = 0

    async def bench(ctx) -> None:
        nonlocal cycles
        ctx.set(dut.in_w, width)
        ctx.set(dut.in_zp, fill - 256)
        ctx.set(dut.strided, stride == 2)
        taken = issued = 0
        admitted = False
        while issued < len(steps):
            running = taken < len(steps) and rng.random() < flow
            ctx.set(dut.steps.valid, running)
            ctx.set(dut.steps.payload, steps[taken] if running else random_step(rng, count))
            admitted = admitted or rng.random() < admission  # as the sequencers: never taken back before the grant
            ctx.set(dut.admit, admitted)
            ready = rng.random() < grant
            ctx.set(dut.operand.req.ready, ready)

            waiting = ctx.get(dut.port.waiting)
            valid = ctx.get(dut.operand.req.valid)
            assert valid == (waiting and admitted)
            assert ctx.get(dut.port.issued) == (valid and ready)
            assert ctx.get(dut.port.busy) == (taken > issued)
            if waiting:  # the same step, with everything that belongs to it, until its grant
                want, request = wanted[issued], dut.operand.req.payload
                got = {name: ctx.get(getattr(request, name)) for name in ("addr", "lo", "hi")}
                assert got | {"beyond": ctx.get(dut.range_error)} == want, issued
                assert ctx.get(request.fill) == fill
                assert ctx.get(request.strided) == (stride == 2)
                assert {name: ctx.get(dut.port.step[name]) for name in kept} == {
                    name: steps[issued][name] for name in kept
                }
            else:
                assert not ctx.get(dut.range_error)
            taken += running and ctx.get(dut.steps.ready)
            if ctx.get(dut.port.issued):
                issued, admitted = issued + 1, False
            assert taken - issued <= request_stages(config) + 1
            await ctx.tick()
            cycles += 1
        ctx.set(dut.steps.valid, 0)
        ctx.set(dut.admit, 1)
        for _ in range(4):
            assert not ctx.get(dut.operand.req.valid) and not ctx.get(dut.port.busy)
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    if flow == grant == admission == 1:  # some cycles of latency, then a step per cycle
        assert cycles == len(steps) + request_stages(config)
