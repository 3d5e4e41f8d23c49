# amaranth: UnusedElaboratable=no
"""Output stage against :meth:`Numerics.output`: ties, saturation, extreme shifts, residual, h-swish, gate, latency."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.sim import Simulator

from hw.output_stage import OutputStage, output_config
from hw.shared import Emitter, convert
from hw.spec.isa import Activation, ResidualOp
from hw.spec.numerics import NUMERICS

INT32 = np.iinfo(np.int32)
COMBINATIONS = [(act, res) for act in Activation for res in ResidualOp]


def vector(rng: random.Random, lanes: int) -> dict:
    """Return the inputs of one vector; acc + bias fits 32 bits."""
    bias = rng.choice((0, rng.randint(-5000, 5000), rng.randint(INT32.min, INT32.max), INT32.min, INT32.max))
    mult = rng.choice((0, 1, 32768, 65535, rng.getrandbits(16), rng.getrandbits(16)))
    shift = rng.randint(0, NUMERICS.max_shift)
    act, res = rng.choice(COMBINATIONS)
    post = rng.choice((0, rng.randint(0, 15), 15, rng.randint(16, 31), 31))
    unit = rng.randint(50, 10_000)  # h-swish: 1.0
    offset = rng.choice((0, 32767, rng.randint(0, 32767)))
    limit = rng.choice((0, 65535, rng.randint(0, 65535)))
    top = 0  # magnitude of the values before the post shift, if they are to be found in and around a byte
    style = rng.randrange(5)
    if style >= 3 and act == Activation.HSWISH:
        offset, limit, top = 3 * unit, 6 * unit, 4 * unit
        post = max((limit * top).bit_length() - rng.randint(6, 9), 0)
        top *= 1 + (res == ResidualOp.SCALE)  # of which the gate leaves about half
    elif style >= 3 and res == ResidualOp.SCALE:
        post, top = rng.randint(4, 14), 200 << rng.randint(0, 6)
    elif style >= 3 and res == ResidualOp.ADD:
        top = 200 << post % 15
        post %= 15
    res_mult = rng.choice((0, 1, 65535, rng.getrandbits(16)))
    if top:
        mult, shift, bias = rng.randint(1, 65535), rng.randint(0, 20), rng.randint(-99, 99)
        res_mult = rng.randint(0, top // 200)
    totals = []
    for _ in range(lanes):
        if style == 0:
            total = rng.randint(INT32.min, INT32.max)
        elif style == 1:
            total = rng.choice((INT32.min, INT32.max, 0, -1, 1)) + rng.randint(-2, 2)
        elif style == 2:  # exact ties of the channel shift: an odd multiple of half
            mult = 1 << rng.randint(0, 15)
            half = 1 << max(shift - 1 - (mult.bit_length() - 1), 0)
            total = half * (2 * rng.randint(-300, 300) + 1)
        else:  # results in and around a byte, whatever mult and shift are
            wanted = rng.randint(-top, top) if top else rng.randint(-200, 200) << post
            total = (wanted << shift) // max(mult, 1) + rng.randint(-1, 1)
        low, high = max(INT32.min, INT32.min + bias), min(INT32.max, INT32.max + bias)
        totals.append(min(max(total, low), high))
    bounds = [rng.choice((-128, 127, 0, rng.randint(-128, 127))) for _ in range(2)]
    if rng.random() < 0.8:  # else often in the wrong order, where the upper bound wins
        bounds.sort()
    if rng.random() < 0.5:
        bounds = [-128, 127]
    return {
        "acc": [total - bias for total in totals],
        "param": {"bias": bias, "mult": mult, "shift": shift, "reserved": rng.getrandbits(8)},
        "cfg": {
            "out_zp": rng.choice((-128, 0, 127, rng.randint(-128, 127))),
            "q_lo": bounds[0],
            "q_hi": bounds[1],
            "post_shift": post,
            "act": act,
            "act_offset": offset,
            "act_limit": limit,
            "res": res,
            "res_zp": rng.choice((-128, 127, rng.randint(-128, 127))),
            "res_mult": res_mult,
        },
        "residual": [rng.choice((-128, 127, rng.randint(-128, 127))) for _ in range(lanes)],
    }


def golden(item: dict) -> list[int]:
    cfg = item["cfg"]
    options = {}
    if cfg["res"] == ResidualOp.ADD:
        options = {"residual": item["residual"], "res_mult": cfg["res_mult"]}
    elif cfg["res"] == ResidualOp.SCALE:
        options = {"gate": item["residual"][0]}
    if cfg["act"] == Activation.HSWISH:
        options["hswish"] = cfg["act_offset"], cfg["act_limit"]
    common = {name: cfg[name] for name in ("out_zp", "q_lo", "q_hi", "post_shift", "res_zp")}
    param = {name: item["param"][name] for name in ("bias", "mult", "shift")}
    return NUMERICS.output(item["acc"], **param, **common, **options).tolist()


def simulate(dut: OutputStage, items: list[dict | None], rng: random.Random) -> list[list[int]]:
    """Feed one vector per cycle (None: a cycle without one); return the results of those that there are."""
    got = []

    async def bench(ctx) -> None:
        for cycle in range(len(items) + dut.LATENCY):
            item = items[cycle] if cycle < len(items) else None
            ctx.set(dut.valid, item is not None)
            for port in ("acc", "param", "cfg") if item else ():
                ctx.set(getattr(dut, port), item[port])
            earlier = cycle - dut.RESIDUAL_STAGE
            if 0 <= earlier < len(items) and items[earlier]:
                ctx.set(dut.residual, items[earlier]["residual"])
            else:
                ctx.set(dut.residual, [rng.randint(-128, 127) for _ in range(dut.lanes)])
            due = items[cycle - dut.LATENCY] if cycle >= dut.LATENCY else None
            assert ctx.get(dut.out_valid) == (due is not None)
            if due:
                got.append(list(ctx.get(dut.q)))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return got


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize("lanes", [1, 3, 6, 12])
def test_bit_exact(lanes: int, pipeline: bool) -> None:
    rng = random.Random(lanes)
    dut = OutputStage(lanes, pipeline=pipeline)
    stages = dut.LATENCY, dut.RESIDUAL_STAGE
    assert stages == (7 + 9 * pipeline, 3 + pipeline)
    items = [vector(rng, lanes) if rng.random() < 0.9 else None for _ in range(4000 // lanes)]
    got = simulate(dut, items, rng)
    fed = [item for item in items if item]
    seen: dict[tuple[int, int], set[int]] = {}
    for item, result in zip(fed, got, strict=True):
        assert result == golden(item), item
        seen.setdefault((item["cfg"]["act"], item["cfg"]["res"]), set()).update(result)
    assert set(seen) == set(COMBINATIONS)
    assert min(map(len, seen.values())) > 20 and len(set().union(*seen.values())) > 100  # not all of it clamped


@pytest.mark.parametrize("pipeline", [False, True])
def test_every_shift_and_tie(pipeline: bool) -> None:
    """Each shift 0 to 47 with totals around every half near zero and at both ends."""
    dut = OutputStage(6, pipeline=pipeline)
    cfg = {name: 0 for name, _ in output_config()} | {"out_zp": 3, "q_lo": -128, "q_hi": 127}
    cfg |= {"res_mult": 9, "act_offset": 5, "act_limit": 7}  # not in use
    items = []
    for shift in range(NUMERICS.max_shift + 1):
        for mult in (1, 65535, 1 << max(0, min(15, shift - 17))):
            half = (1 << max(shift - 1, 0)) // mult
            totals = [k * half + d for k in (-5, -3, -2, -1, 1, 2, 3, 5) for d in (-1, 0, 1)]
            totals += [INT32.min, INT32.min + 1, -1, 0, 1, INT32.max]
            for start in range(0, len(totals), 6):
                acc = [min(max(t, INT32.min), INT32.max) for t in totals[start : start + 6]]
                param = {"bias": 0, "mult": mult, "shift": shift, "reserved": 0}
                items.append({"acc": acc, "param": param, "cfg": cfg, "residual": [77] * 6})
    ties = sum(
        2 * abs(acc * item["param"]["mult"]) % (2 << item["param"]["shift"]) == 1 << item["param"]["shift"]
        for item in items
        for acc in item["acc"]
    )
    assert ties > 100
    for item, result in zip(items, simulate(dut, items, random.Random(0)), strict=True):
        assert result == golden(item), item


@pytest.mark.parametrize("pipeline", [False, True])
def test_corners_of_the_product(pipeline: bool) -> None:
    """Sums at the ends of 16 bits and of the curve, all extreme offsets, limits and gates, each post shift."""
    rng = random.Random(1)
    sums = [-(1 << 23), -(1 << 15) - 1, -(1 << 15), -(1 << 15) + 1, -3001, -3000, -2999, -1, 0, 1, 2999, 3000, 3001]
    sums += [(1 << 15) - 2, (1 << 15) - 1, 1 << 15, (1 << 23) - 1, 17]
    curves = [(o, n) for o in (0, 1, 3000, 32766, 32767) for n in (0, 1, 6000, 32767, 32768, 65534, 65535)]
    gates = [(gate, zp) for gate in (-128, -1, 0, 127) for zp in (-128, 0, 127)]
    settings: list[dict] = [
        {"act": Activation.HSWISH, "act_offset": offset, "act_limit": limit} for offset, limit in curves
    ]
    settings += [{"res": ResidualOp.SCALE, "res_zp": zp, "gate": gate, "act_limit": 9} for gate, zp in gates]
    settings += [
        {"act": Activation.HSWISH, "act_offset": offset, "act_limit": limit, "res": ResidualOp.SCALE, "res_zp": zp}
        | {"gate": gate}
        for (offset, limit), (gate, zp) in zip(curves, itertools.cycle(gates), strict=False)
    ]
    items = []
    for values in settings:
        for post in {0, 31, rng.randint(1, 30), rng.randint(16, 30)}:
            cfg = {name: 0 for name, _ in output_config()} | {"q_lo": -128, "q_hi": 127, "post_shift": post}
            gate = values.get("gate", 99)
            cfg |= {name: value for name, value in values.items() if name != "gate"}
            param = {"bias": 0, "mult": 1, "shift": 0, "reserved": 0}
            items += [
                {"acc": sums[start : start + 6], "param": param, "cfg": cfg, "residual": [gate, *[55] * 5]}
                for start in range(0, len(sums), 6)
            ]
    rng.shuffle(items)
    results = simulate(OutputStage(6, pipeline=pipeline), items, rng)
    for item, result in zip(items, results, strict=True):
        assert result == golden(item), item
    assert len({value for result in results for value in result}) > 30


def test_lanes_are_one_module() -> None:
    platform = Emitter()
    convert(OutputStage(12), "output_stage", platform)
    assert [key[0].__name__ for key in platform.modules] == ["OutputLane"]
    assert rtlil.convert(OutputStage(3), emit_src=False).count("\nmodule \\top.lane") >= 3


def test_no_lanes_are_refused() -> None:
    with pytest.raises(ValueError, match="not 0"):
        OutputStage(0)
