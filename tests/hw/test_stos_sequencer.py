"""The ST-OS sequencer's loads, captures and taps against the loop nest of isa.EXEC, with the read port denied."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from amaranth.sim import Simulator

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Mode
from hw.stos_sequencer import StosSequencer
from tests.hw.operand_places import operand_places
from tests.hw.operand_rig import with_requests

Event = tuple[object, ...]
"""("load", (lane, byte address), ...), ("capture",) or ("tap", weight word, lane, last, rows)."""


def small(rows: int, cols: int, **options: bool) -> AcceleratorConfig:
    memories = {"act_kib": 16, "weight_kib": 8, "param_entries": 256, "axi_data_width": 64}
    return AcceleratorConfig(rows=rows, cols=cols, max_kernel=3, **memories, **options)


def fields(**values: int) -> dict[str, int]:
    base = {"kh": 1, "kw": 1, "sy": 1, "sx": 1, "cout": 1, "in_w": 9, "in_h": 6, "out_w": 9, "out_h": 2}
    return {**base, "in_base": 500, "in_cs": 80, "in_pitch": 11, "w_base": 37, **values}


SHAPES = {
    "row": fields(kw=3, pad_x=1, cout=7),
    "column": fields(kh=3, pad_y=1, out_h=6, cout=2),
    "3x3": fields(kh=3, kw=3, pad_y=1, pad_x=1, in_h=4, out_h=4, cout=4, out_w=7),
    "point": fields(cout=5, out_h=3),
    "column-stride": fields(kh=3, sy=2, sx=2, pad_y=1, in_h=9, out_h=5, out_w=5, cout=2),
    "point-stride": fields(sx=2, pad_x=3, out_w=9, cout=5),
    "stride": fields(kh=3, kw=2, sy=2, sx=2, pad_y=1, pad_x=1, cout=3, out_w=5, out_h=4),
    "long-stride": fields(kh=2, kw=2, sy=4, cout=2, out_w=5, out_h=3, in_h=11),
    "far-padding": fields(kh=2, kw=3, pad_y=5, pad_x=9, cout=2, out_w=12, out_h=8, in_h=2),
    "negative-padding": fields(kh=2, kw=2, pad_y=-2, pad_x=-3, cout=4, out_w=6),
}
FOLDED = {
    "column": fields(fold=1, seg=3, kh=3, pad_y=1, out_h=6, cout=2),
    "gap": fields(fold=1, seg=4, kh=3, kw=3, pad_y=1, pad_x=1, in_h=4, out_h=4, cout=2),
    "steep": fields(fold=1, seg=2, kh=3, kw=2, sy=2, pad_y=2, out_h=5, in_h=5, cout=3),
    "steeper": fields(fold=1, seg=3, kh=2, kw=3, sy=4, pad_y=9, pad_x=2, out_h=9, in_h=7),
    "strided": fields(fold=1, seg=7, kh=3, sx=2, sy=2, pad_y=1, pad_x=-5, out_w=3, out_h=4, cout=2),
    "strided-square": fields(fold=1, seg=6, kh=3, kw=3, sx=2, sy=2, pad_y=1, pad_x=1, out_w=4, out_h=3, cout=2),
    "beyond": fields(fold=1, seg=5, kh=3, pad_y=5, pad_x=-1, out_h=9, in_h=2, cout=2),
    "two-segments": fields(fold=1, seg=2, kh=5, pad_y=2, in_h=1, in_w=9, out_w=9, out_h=1, cout=2),
    "two-segments-square": fields(fold=1, seg=3, kh=5, kw=3, pad_y=4, pad_x=-3, in_h=2, in_w=17, out_w=5, out_h=8),
    "two-segments-apart": fields(fold=1, seg=1, kh=3, sy=3, pad_y=9, in_h=4, out_h=9),
    "tall": fields(fold=1, seg=1, kh=2, pad_y=1, in_h=300, out_h=3, in_pitch=5, in_w=3),
    "no-lines": fields(fold=1, seg=3, kh=2, pad_y=2, in_h=0, out_h=4),
}
"""Tiles lie beside each other, although an instruction with segments has a single one per line."""
CONFIGS = [small(3, 4), small(4, 3), small(1, 2), small(2, 5, pipeline_mac=True)]


def events(config: AcceleratorConfig, f: dict[str, int]) -> Iterator[Event]:
    """Yield what has to happen, in order: taps belong to the capture before them."""
    rows, kh, kw, sy = config.rows, f["kh"], f["kw"], f["sy"]
    strided = f["sx"] == 2 and kw == 1
    tile_step = config.cols * f["sx"] if strided or f["sx"] == 1 else config.cols // 2 * 2
    lines_mode = f["mode"] == Mode.STOS_LN

    def load(channel: int, line: int, x: int) -> Event:
        # column j meets tap kx in register halo + j - (kw-1-kx), where output pixel x + j needs pixel x + j + kx - pad
        first = x - f.get("pad_x", 0)
        if f.get("fold") and not 0 <= line < f["in_h"]:  # the line of the neighbouring segment
            side = max(-2, min(line // max(f["in_h"], 1), 2))
            line, first = line - side * f["in_h"], first + side * f["seg"]
        pixels = {lane: first + kw - 1 - config.halo + lane for lane in range(config.read_lanes)}
        if strided:
            pixels = {config.halo + j: first + 2 * j for j in range(config.cols)}
        base = f["in_base"] + channel * f["in_cs"] + line * f["in_pitch"]
        inside = 0 <= line < f["in_h"]
        return ("load", *((lane, base + pixel) for lane, pixel in pixels.items() if inside and 0 <= pixel < f["in_w"]))

    def taps(block: int, ky: int, lane: int | None, rows: int, last: bool) -> Iterator[Event]:
        yield ("capture",)
        for tap in range(kw):
            word = f["w_base"] + (block * kh + ky) * kw + tap  # the line's last tap first
            yield ("tap", word, lane, last and tap == kw - 1, rows)

    places = range(0, (f["out_w"] - 1) * f["sx"] + 1, tile_step)
    if lines_mode:
        for channel in range(f["cout"]):
            block, row = divmod(channel, rows)
            lane = min(rows, f["cout"] - block * rows) - 1 - row
            for y in range(0, f["out_h"], rows):
                n = min(rows, f["out_h"] - y)
                for x in places:
                    for phase in range(min(sy, kh)):
                        top = y * sy - f.get("pad_y", 0) + phase
                        for index in range(n - 1):
                            yield load(channel, top + index * sy, x)
                        for ky in range(phase, kh, sy):
                            yield load(channel, (y + n - 1) * sy - f.get("pad_y", 0) + ky, x)
                            yield from taps(block, ky, lane, n, last=phase == min(sy, kh) - 1 and ky + sy >= kh)
        return
    for first in range(0, f["cout"], rows):
        n = min(rows, f["cout"] - first)
        for y in range(f["out_h"]):
            for x in places:
                for ky in range(kh):
                    for channel in range(first, first + n):
                        yield load(channel, y * sy + ky - f.get("pad_y", 0), x)
                    yield from taps(first // rows, ky, None, n, last=ky == kh - 1)


def run(config: AcceleratorConfig, f: dict[str, int], denial: float, seed: int) -> list[tuple[int, Event]]:
    """Run an instruction; return its events with their cycles, of one cycle the tap first and the load last."""
    rng, dut = random.Random(seed), StosSequencer(config)
    m, requests = with_requests(dut)
    lines_mode = f["mode"] == Mode.STOS_LN
    log: list[tuple[int, Event]] = []

    async def bench(ctx) -> None:
        request = requests.operand.req
        ctx.set(dut.cfg, f)
        await ctx.tick().repeat(3)
        assert not (ctx.get(dut.active) or ctx.get(request.valid) or ctx.get(dut.tap) or ctx.get(dut.capture))
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        cycle, denied = 0, None
        while ctx.get(dut.active):
            ready = rng.random() >= denial
            ctx.set(request.ready, ready)
            valid = ctx.get(request.valid)
            payload = tuple(ctx.get(getattr(request.payload, name)) for name in ("addr", "lo", "hi", "strided"))
            assert denied is None or (valid and denied == payload), "a denied request was changed or withdrawn"
            denied = payload if valid and not ready else None
            assert ctx.get(dut.load) == (valid and ready)
            assert not ctx.get(requests.range_error)
            if ctx.get(dut.tap):
                assert ctx.get(dut.one_lane) == lines_mode
                lane = ctx.get(dut.lane) if lines_mode else None
                rows = ctx.get(dut.tile_rows)
                log.append((cycle, ("tap", ctx.get(dut.weight_addr), lane, bool(ctx.get(dut.last)), rows)))
            else:
                assert not ctx.get(dut.last)
            if ctx.get(dut.capture):
                log.append((cycle, ("capture",)))
            if ctx.get(dut.load):
                log.append((cycle, ("load", *operand_places(config, *payload))))
            await ctx.tick()
            cycle += 1
            assert cycle < 20_000, "hung"
        assert log[-1][0] == cycle - 1  # active ends with the last tap

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return log


@pytest.mark.parametrize("mode", [Mode.STOS_CH, Mode.STOS_LN], ids=["CH", "LN"])
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("denial", [0, 0.4], ids=["free", "denied"])
def test_events_are_the_loop_nest(mode: Mode, name: str, denial: float) -> None:
    check_events({**SHAPES[name], "mode": mode}, denial)


@pytest.mark.parametrize("mode", [Mode.STOS_CH, Mode.STOS_LN], ids=["CH", "LN"])
@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("denial", [0, 0.8], ids=["free", "denied"])
def test_folded_lines_are_the_neighbouring_segments(mode: Mode, name: str, denial: float) -> None:
    f = {**FOLDED[name], "mode": mode}
    check_events(f, denial)
    # without folding there would be less to read
    config = CONFIGS[0]
    assert (list(events(config, f)) == list(events(config, {**f, "fold": 0}))) == (name == "no-lines")


def check_events(f: dict[str, int], denial: float) -> None:
    """What happens, and when, is what an instruction asks for."""
    for config in CONFIGS:
        log, want = run(config, f, denial, seed=config.cols), list(events(config, f))
        # loads run ahead of taps but never past the capture of the lines before them
        assert [event for _, event in log if event[0] != "tap"] == [event for event in want if event[0] != "tap"]
        assert [event for _, event in log if event[0] != "load"] == [event for event in want if event[0] != "load"]
        # a line is captured at the earliest in the cycle after its load, when it stands in the vertical chain
        for (before, _), (cycle, event) in zip(moves := [e for e in log if e[1][0] != "tap"], moves[1:], strict=False):
            assert event[0] != "capture" or cycle > before
        # taps follow their capture without a gap, the next capture not before the last of them
        captures = [cycle for cycle, event in log if event[0] == "capture"]
        taps = [cycle for cycle, event in log if event[0] == "tap"]
        assert taps == [cycle + 1 + tap for cycle in captures for tap in range(f["kw"])]
        assert all(later - cycle >= f["kw"] for cycle, later in zip(captures, captures[1:], strict=False))
        # results leave at a row per cycle
        ends = [(cycle, event[4]) for cycle, event in log if event[0] == "tap" and event[3]]
        assert all(later - end >= rows for (end, _), (later, rows) in zip(ends, ends[1:], strict=False))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.rows}x{c.cols}")
def test_row_tiles_cost_max_rows_kw(config: AcceleratorConfig) -> None:
    """One phase, one capture: loads run ahead, and the capture falls into the last tap."""
    for kw in (1, 2, 3):
        log = run(config, fields(mode=Mode.STOS_CH, kw=kw, cout=config.rows), 0, seed=0)
        ends = [cycle for cycle, event in log if event[0] == "tap" and event[3]]
        assert {later - end for end, later in zip(ends, ends[1:], strict=False)} == {max(config.rows, kw)}


@pytest.mark.parametrize("spare", [0, -1])
def test_range_error_only_for_bytes_in_use(spare: int) -> None:
    config = CONFIGS[0]
    f = fields(mode=Mode.STOS_CH, in_w=4, out_w=4, out_h=1, kw=3, pad_x=1, in_base=config.act_bytes - 4 - spare)
    dut = StosSequencer(config)
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


@pytest.mark.parametrize(("in_h", "in_pitch"), [(2**12, 2**16), (2**16 - 1, 2**20 - 1), (2**8, 2**20 - 1)])
def test_folded_lines_beyond_every_pointer_are_an_error(in_h: int, in_pitch: int) -> None:
    """The plane's size does not fit a pointer; in the first case its last bits are those of no size at all."""
    f = fields(mode=Mode.STOS_LN, fold=1, seg=1, pad_y=1, in_h=in_h, in_pitch=in_pitch, in_base=in_pitch % 2**16)
    dut = StosSequencer(CONFIGS[0])
    m, requests = with_requests(dut)
    errors = []

    async def bench(ctx) -> None:
        ctx.set(dut.cfg, f)
        ctx.set(requests.operand.req.ready, 1)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        while not ctx.get(dut.load):
            await ctx.tick()
        errors.append(ctx.get(requests.range_error))

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert errors == [1]


@pytest.mark.parametrize("kw", [1, 3])
def test_a_held_capture_keeps_the_first_lines_only(kw: int) -> None:
    """Lines load, wait, and go on as if nothing had been once they are captured."""
    config = CONFIGS[0]
    f = fields(mode=Mode.STOS_LN, kh=2, kw=kw, out_h=3, cout=2)
    held_for, logs = 20, []
    for held in (0, held_for):
        dut, log = StosSequencer(config), []
        m, requests = with_requests(dut)

        async def bench(ctx, dut=dut, requests=requests, log=log, held=held) -> None:
            ctx.set(dut.cfg, f)
            ctx.set(requests.operand.req.ready, 1)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            cycle = 0
            while ctx.get(dut.active):
                ctx.set(dut.hold_capture, cycle < held)
                names = ("load", "capture", "tap", "last")
                log.append((cycle, [name for name in names if ctx.get(getattr(dut, name))]))
                await ctx.tick()
                cycle += 1

        simulator = Simulator(m)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
        logs.append(log)
    free, late = ([(cycle, names) for cycle, names in log if names] for log in logs)
    first = next(index for index, (_, names) in enumerate(free) if "capture" in names)
    assert late[:first] == free[:first]
    assert late[first][0] == held_for
    delay = held_for - free[first][0]
    assert [(cycle - delay, names) for cycle, names in late[first:]] == free[first:]
