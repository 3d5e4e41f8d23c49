"""The walk's tiles and pointers against nested loops, with random inner loops and steps that wait."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from amaranth.sim import Simulator

from hw.spec.config import AcceleratorConfig
from hw.tile_walk import TileWalk

SIZES = {"act_kib": 16, "weight_kib": 8, "param_entries": 256, "axi_data_width": 64, "max_kernel": 3}
CONFIGS = [
    AcceleratorConfig(rows=3, cols=4, **SIZES),
    AcceleratorConfig(rows=1, cols=5, **SIZES),
    AcceleratorConfig(rows=4, cols=3, stos=False, **SIZES),
]
MODES = {  # blocks of one channel, an input for each block, rows are lines
    "gemm": (0, 0, 0),
    "depthwise": (1, 1, 0),
    "stos-channels": (0, 1, 0),
    "stos-lines": (1, 1, 1),
}
Tile = dict[str, int]


def tiles(config: AcceleratorConfig, f: dict[str, int], mode: str, halved: int) -> Iterator[Tile]:
    """Return what is known of every tile: the pointer of its first step is `base`."""
    single, own_inputs, lines = MODES[mode]
    rows = config.rows
    width = config.cols // 2 if halved else config.cols
    block, line_unit = 1 if single else rows, rows if lines else 1
    for first in range(0, f["cout"], block):
        group, place = divmod(first, rows)
        lane = min(rows, f["cout"] - group * rows) - 1 - place if single else min(rows, f["cout"] - first) - 1
        for y in range(0, f["out_h"], line_unit):
            for x in range(0, f["out_w"], width):
                line = y * f["sy"] - f["pad_y"]
                left = f["out_h"] - y if lines else f["cout"] - first
                yield {
                    "base": f["in_base"] + own_inputs * first * f["in_cs"] + line * f["in_pitch"],
                    "x": x * f["sx"] - 7,
                    "line": line,
                    "weight": f["w_base"] + 10 * group,
                    "lane": lane,
                    "rows": 1 if single and not lines else min(rows, left),
                }


@pytest.mark.parametrize(
    ("config", "mode"),
    [(config, mode) for config in CONFIGS for mode in MODES if config.stos or "stos" not in mode],
    ids=lambda value: value if isinstance(value, str) else f"{value.rows}x{value.cols}",
)
def test_tiles_are_the_loop_nest(config: AcceleratorConfig, mode: str) -> None:
    rng = random.Random(f"{config.cols} {mode}")
    dut = TileWalk(config)
    single, own_inputs, lines = MODES[mode]

    async def walked(ctx, f: dict[str, int], halved: int) -> None:
        walk, place, answer = dut.walk, dut.place, dut.answer
        ctx.set(dut.cfg, f)
        settings = {"single": single, "own_inputs": own_inputs, "first_x": -7}
        if config.stos:
            settings |= {"lines": lines, "halved": halved, "by_line": 0}
        wanted = list(tiles(config, f, mode, halved))
        ctx.set(walk, {**settings, "factor": f["pad_y"]})
        await ctx.tick()
        factor = f["sy"]
        ctx.set(walk, {**settings, "factor": factor, "begin": 1})
        await ctx.tick()
        for number, want in enumerate(wanted):
            expected = dict(want)
            inner = want["base"]
            for last in [0] * rng.randrange(4) + [1]:
                while rng.random() < 0.3:  # a step that waits changes nothing
                    ctx.set(walk, {**settings, "factor": factor, "moves": 1, "inner": 1, "tile": last, "by_pitch": 1})
                    await ctx.tick()
                offset = rng.randrange(16)
                ctx.set(walk, {**settings, "factor": factor, "offset": offset})
                found = {name: ctx.get((answer if name == "line" else place)[name]) for name in want}
                assert ctx.get(answer.inside) == (0 <= found["line"] < f["in_h"])
                assert {**found, "line": found["line"] - offset} == expected, (f, number)
                goes_on = rng.choice(("", "moves", "inner"))
                by = rng.choice(("by_pitch", "by_channel", *(("by_line",) if config.stos else ())))
                bits = {"moves": goes_on != "" or last, "inner": goes_on == "inner" or last, "tile": last}
                step = {"advance": 1, **{name: int(bit) for name, bit in bits.items()}, by: 1}
                ctx.set(walk, {**settings, "factor": factor, **step, "next_weight": want["weight"] + 10})
                if last:
                    final = number == len(wanted) - 1
                    assert ctx.get(answer.finish) == final
                    after = None if final else wanted[number + 1]
                    assert ctx.get(answer.weights_end) == (final or after["weight"] != want["weight"])
                    if config.stos and not final and (lines or not single):
                        assert ctx.get(answer.next_one_row) == (after["rows"] == 1)
                else:
                    assert not (ctx.get(answer.finish) or ctx.get(answer.weights_end))
                await ctx.tick()
                distance = {"by_pitch": f["in_pitch"], "by_channel": f["in_cs"], "by_line": f["sy"] * f["in_pitch"]}[by]
                if goes_on == "inner":
                    inner += distance
                    expected["base"] = inner
                elif goes_on == "moves":
                    expected["base"] += distance

    async def bench(ctx) -> None:
        for _ in range(12):
            sx = rng.choice((1, 2))
            f = {"in_base": rng.randrange(1 << 13), "in_cs": rng.randrange(500), "in_pitch": rng.randrange(80)}
            f |= {"in_h": rng.randint(1, 20)}
            f |= {"sx": sx, "w_base": rng.randrange(50), "pad_y": rng.randint(-3, 3), "sy": rng.randint(1, 4)}
            f |= {"cout": rng.randint(1, 9), "out_h": rng.randint(1, 9), "out_w": rng.randint(1, 17)}
            await walked(ctx, f, int(config.stos and own_inputs and sx == 2 and rng.random() < 0.5))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
