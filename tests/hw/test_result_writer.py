"""The result writer against isa.EXEC's addresses and Numerics: rows at random spacing, in the order of the tiles."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw.ports import WriteSignature
from hw.result_writer import ResultWriter
from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Activation, Mode, ResidualOp
from hw.spec.numerics import NUMERICS


class Place(NamedTuple):
    """A row of results: output channel, line, first kept pixel and how many."""

    channel: int
    y: int
    x: int
    count: int


def small(rows: int, cols: int, **options: object) -> AcceleratorConfig:
    sizes = {"act_kib": 16, "weight_kib": 8, "param_entries": 256, "axi_data_width": 64, "max_kernel": 2}
    return AcceleratorConfig(rows=rows, cols=cols, **{**sizes, **options})


def fields(**values: int) -> dict[str, int]:
    base = {"mode": Mode.GEMM, "kh": 1, "kw": 1, "sy": 1, "sx": 1, "cin": 1, "cout": 5, "out_w": 9, "out_h": 2}
    base |= {"out_base": 3001, "out_cs": 61, "out_pitch": 13, "p_base": 5, "out_zp": 3, "q_lo": -100, "q_hi": 110}
    return {**base, **values}


RESIDUAL = {"res": ResidualOp.ADD, "res_base": 9007, "res_zp": -9, "res_mult": 7, "post_shift": 4}
GATE = {"res": ResidualOp.SCALE, "res_base": 9007, "res_zp": -128, "post_shift": 8}
CURVE = {"act": Activation.HSWISH, "act_offset": 30, "act_limit": 60, "post_shift": 6}
POOL = {"gap": 1, "gap_bias": -77, "gap_mult": 40_000, "gap_shift": 19, "gap_zp": -5}
BESIDE = POOL | {"res": ResidualOp.POOL, "res_base": 9007}
SHAPES = {
    "gemm": fields(),
    "gemm-stride": fields(sx=2, kw=2, **RESIDUAL),
    "channels": fields(mode=Mode.STOS_CH, **RESIDUAL),
    "lines": fields(mode=Mode.STOS_LN, cout=3),
    "lines-stride": fields(mode=Mode.STOS_LN, cout=2, sx=2, kw=2, out_w=7, out_h=5, **RESIDUAL),
    "column-stride": fields(mode=Mode.STOS_LN, cout=2, sx=2, kh=2, out_w=7, out_h=5, **RESIDUAL),
    "depthwise": fields(depthwise=1, cout=3, sx=2),
    "vec": fields(mode=Mode.VEC, cout=3, out_w=6, **RESIDUAL),
    "max": fields(mode=Mode.MAX, cout=3, kh=2, kw=2, sy=2, **RESIDUAL),
    "gemm-gate": fields(**GATE),
    "channels-gate-stride": fields(mode=Mode.STOS_CH, sx=2, kw=2, **GATE),
    "lines-gate": fields(mode=Mode.STOS_LN, cout=3, out_h=5, **GATE),
    "vec-gate-pool": fields(mode=Mode.VEC, cout=3, **GATE, **POOL),
    "gemm-curve": fields(**CURVE),
    "vec-gate-curve": fields(mode=Mode.VEC, cout=3, **{**GATE, **CURVE}),
    "channels-curve-add": fields(mode=Mode.STOS_CH, **{**RESIDUAL, **CURVE}),
    "gemm-pool": fields(**POOL),
    "channels-pool-stride": fields(mode=Mode.STOS_CH, sx=2, kw=2, **POOL, **RESIDUAL),
    "lines-pool": fields(mode=Mode.STOS_LN, cout=3, out_h=5, **POOL),
    "vec-pool": fields(mode=Mode.VEC, cout=3, **POOL),
    "gemm-pool-map": fields(**BESIDE),
    "channels-pool-map": fields(mode=Mode.STOS_CH, sx=2, kw=2, cout=11, **{**CURVE, **BESIDE}),
    "lines-pool-map": fields(mode=Mode.STOS_LN, cout=9, out_h=5, **BESIDE),
    "vec-pool-map": fields(mode=Mode.VEC, cout=8, out_w=2, out_h=1, **BESIDE),
    "one": fields(cout=1, out_w=1, out_h=1),
    "segments": fields(seg=2, seg_gap=1, out_w=4),
    "segments-missing": fields(seg=2, seg_missing=2, out_w=3, out_h=3, **GATE),
    "segments-channels": fields(mode=Mode.STOS_CH, seg=2, seg_gap=1, seg_missing=1, out_w=4, **RESIDUAL),
    "segments-lines": fields(mode=Mode.STOS_LN, cout=3, out_h=7, seg=1, seg_missing=2, out_w=4),
    "segments-lines-pool": fields(mode=Mode.STOS_LN, cout=3, out_h=7, seg=2, seg_gap=1, seg_missing=4, out_w=4, **POOL),
    "segments-vec-pool": fields(mode=Mode.VEC, cout=3, out_h=5, seg=2, seg_gap=1, seg_missing=2, out_w=4, **POOL),
    "segments-lines-pool-map": fields(mode=Mode.STOS_LN, cout=3, seg=2, seg_gap=1, out_w=4, **BESIDE),
    "segments-max": fields(mode=Mode.MAX, cout=3, seg=3, seg_gap=2, seg_missing=1, out_w=3),
}
PACKED = [name for name in SHAPES if name.startswith("segments")]
CONFIGS = {"3x4": small(3, 4), "4x5-pipe": small(4, 5, pipeline_mac=True), "1x2": small(1, 2)}


def halved(f: dict[str, int]) -> bool:
    """Whether tiles are computed at stride 1 and every second column kept."""
    return f["sx"] == 2 and f["kw"] > 1 and f["mode"] in (Mode.STOS_CH, Mode.STOS_LN)


def reads_second(f: dict[str, int]) -> bool:
    return f.get("res") in (ResidualOp.ADD, ResidualOp.SCALE)


def places(config: AcceleratorConfig, f: dict[str, int]) -> Iterator[Place]:
    kept = config.cols // 2 if halved(f) else config.cols
    tiles = [(x, min(kept, f["out_w"] - x)) for x in range(0, f["out_w"], kept)]
    if f["mode"] == Mode.STOS_LN:
        for channel in range(f["cout"]):
            for top in range(0, f["out_h"], config.rows):
                for x, count in tiles:
                    for y in range(top, min(top + config.rows, f["out_h"])):
                        yield Place(channel, y, x, count)
        return
    size = 1 if f["mode"] in (Mode.VEC, Mode.MAX) or f.get("depthwise") else config.rows
    for first in range(0, f["cout"], size):
        for y in range(f["out_h"]):
            for x, count in tiles:
                for channel in range(first, min(first + size, f["cout"])):
                    yield Place(channel, y, x, count)


class Bench:
    """The writer with its memories; a row enters after 0 to 3 idle cycles, or without any."""

    def __init__(self, config: AcceleratorConfig, f: dict[str, int], seed: int, *, dense: bool) -> None:
        self.config, self.fields, self.rng, self.dense = config, f, random.Random(seed), dense
        generator = np.random.default_rng(seed)
        self.act = generator.integers(-128, 128, config.act_bytes).astype(np.int8)
        self.params = [
            {
                "bias": self.rng.randint(-20_000, 20_000),
                "mult": self.rng.getrandbits(16),
                "shift": self.rng.randint(22, 26),
                "reserved": self.rng.getrandbits(8),
            }
            for _ in range(config.param_entries)
        ]
        self.places = list(places(config, f))
        self.rows = generator.integers(-40_000, 40_000, (len(self.places), config.cols)).tolist()
        self.entries: list[int] = []
        self.residuals: list[tuple[int, int, int, int]] = []
        self.writes: list[tuple[int, list[int]]] = []
        self.write_cycles: list[int] = []
        self.done_cycles: list[int] = []
        self.errors: list[int] = []

    def run(self, *, halt: bool = False) -> Bench:
        dut, config = ResultWriter(self.config), self.config

        async def bench(ctx) -> None:
            late: dict[int, list[tuple[object, object]]] = {}
            ctx.set(dut.cfg, self.fields)
            ctx.set(dut.halt, halt)
            ctx.set(dut.residual.req.ready, 1)
            ctx.set(dut.result.req.ready, 1)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            await ctx.tick()
            fed, cycle, end = 0, 0, None
            while end is None or cycle < end:
                feed = fed < len(self.rows) and (self.dense or self.rng.random() < 0.5)
                ctx.set(dut.row_valid, feed)
                ctx.set(dut.row, self.rows[fed] if feed else [self.rng.randint(-999, 999)] * config.cols)
                fed += feed
                if end is None and fed == len(self.rows):
                    end = cycle + 40
                for port, value in late.pop(cycle, []):
                    ctx.set(port, value)
                assert ctx.get(dut.param_en) == (feed and not halt)
                if ctx.get(dut.param_en):
                    self.entries.append(ctx.get(dut.param_addr))
                    late.setdefault(cycle + 1, []).append((dut.param_data, self.params[self.entries[-1]]))
                request = dut.residual.req
                if ctx.get(request.valid):
                    asked = tuple(ctx.get(getattr(request.payload, name)) for name in ("addr", "lo", "hi", "fill"))
                    self.residuals.append(asked)
                    index = (asked[0] + np.arange(config.cols)) % config.act_bytes
                    answered = cycle + dut.residual.signature.READ_LATENCY
                    late.setdefault(answered, []).append((dut.residual.data, self.act[index].tolist()))
                request = dut.result.req
                if ctx.get(request.valid):
                    assert ctx.get(request.payload.lo) == 0
                    data = [ctx.get(request.payload.data[lane]) for lane in range(ctx.get(request.payload.hi))]
                    self.writes.append((ctx.get(request.payload.addr), data))
                    self.write_cycles.append(cycle)
                if ctx.get(dut.range_error):
                    self.errors.append(ctx.get(dut.range_info))
                if ctx.get(dut.done):
                    self.done_cycles.append(cycle)
                await ctx.tick()
                cycle += 1

        simulator = Simulator(dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
        return self

    def offset(self, place: Place) -> int:
        return place.channel * self.fields["out_cs"] + place.y * self.fields["out_pitch"] + place.x

    def operand(self, place: Place) -> tuple[int, int]:
        """Return the second operand's first address and number of bytes."""
        if self.fields["res"] == ResidualOp.SCALE:
            return self.fields["res_base"] + place.channel, 1
        return self.fields["res_base"] + self.offset(place), place.count

    def outputs(self) -> list[list[int | None]]:
        """Return the requantised rows, None where packed lines have no pixel."""
        f, results = self.fields, []
        for place, row in zip(self.places, self.rows, strict=True):
            param = self.params[f["p_base"] + place.channel]
            options = {}
            if reads_second(f):
                at, count = self.operand(place)
                name = "gate" if f["res"] == ResidualOp.SCALE else "residual"
                options = {name: self.act[at : at + count], "res_zp": f["res_zp"], "res_mult": f.get("res_mult", 0)}
            if f.get("act"):
                options["hswish"] = f["act_offset"], f["act_limit"]
            result = NUMERICS.output(
                row[:: 1 + halved(f)][: place.count],
                *(param[name] for name in ("bias", "mult", "shift")),
                **{name: f[name] for name in ("out_zp", "q_lo", "q_hi")},
                post_shift=f.get("post_shift", 0),
                **options,
            )
            results.append([q if self.in_image(place, x) else None for x, q in enumerate(result.tolist(), place.x)])
        return results

    def in_image(self, place: Place, x: int) -> bool:
        """Whether pixel x of a row's line belongs to an image line."""
        f = self.fields
        if not (seg := f.get("seg", 0)):
            return True
        missing = place.y >= f["out_h"] - f.get("seg_missing", 0) and x >= f["out_w"] - seg
        return x % seg < seg - f.get("seg_gap", 0) and not missing


def check(bench: Bench) -> None:
    """Parameters, residuals, writes and the end of an instruction are what it asks for."""
    f = bench.fields
    outputs = bench.outputs()
    assert bench.entries == [f["p_base"] + place.channel for place in bench.places]
    asked = [bench.operand(place) for place in bench.places] if reads_second(f) else []
    assert bench.residuals == [(addr, 0, count, f["res_zp"] % 256) for addr, count in asked]
    filled = [[f["out_zp"] if q is None else q for q in row] for row in outputs]
    want = [(f["out_base"] + bench.offset(p), row) for p, row in zip(bench.places, filled, strict=True)]
    if f.get("gap"):
        totals: dict[int, int] = {}  # channels are complete in ascending order
        for place, row in zip(bench.places, outputs, strict=True):
            totals[place.channel] = totals.get(place.channel, 0) + sum(q for q in row if q is not None)
        pool = {name: f[f"gap_{name}"] for name in ("bias", "mult", "shift", "zp")}
        means, cols = [int(NUMERICS.pool(total, **pool)) for total in totals.values()], bench.config.cols
        if f.get("res") == ResidualOp.POOL:
            want += [(f["res_base"] + c, means[c : c + cols]) for c in range(0, len(means), cols)]
        else:
            want = [(f["out_base"] + c * f["out_cs"], [mean]) for c, mean in enumerate(means)]
    assert bench.writes == want
    assert not bench.errors
    # a read that is accepted in the cycle after `done` or later sees the last write
    assert bench.done_cycles == [bench.write_cycles[-1] + 1 + WriteSignature.WRITE_LATENCY]
    assert f["cout"] == 1 or len({value for _, row in bench.writes for value in row}) > 2  # not all clamped


@pytest.mark.parametrize("name", SHAPES)
def test_rows_at_random_spacing(name: str) -> None:
    check(Bench(CONFIGS["3x4"], SHAPES[name], seed=len(name), dense=False).run())


@pytest.mark.parametrize(
    "name",
    [
        *("gemm", "channels-pool-stride", "lines-stride", "lines-pool", "vec-pool"),
        *("gemm-gate", "lines-gate", "channels-curve-add", "max"),
        *("channels-pool-map", "lines-pool-map", "vec-pool-map"),
    ],
)
def test_a_row_every_cycle(name: str) -> None:
    """As VEC feeds them, and tiles that follow each other; with the longer pipeline of `pipeline_mac`."""
    check(Bench(CONFIGS["4x5-pipe"], SHAPES[name], seed=len(name), dense=True).run())


BEYOND = 16 * 1024 - 4 * 61 - 2
"""Base address of a map whose last pixel lies one byte beyond the scratchpad; its last vector is that pixel alone."""


@pytest.mark.parametrize(
    ("values", "first_error"),
    [
        ({"p_base": 256 - 4}, 256),
        ({**RESIDUAL, "res_base": BEYOND}, 16 * 1024),
        ({**GATE, "res_base": 16 * 1024 - 4}, 16 * 1024),
        ({"out_base": BEYOND}, 16 * 1024),
        ({"out_base": 16 * 1024 - 4 * 61, **POOL}, 16 * 1024),
        ({"out_base": BEYOND, **BESIDE}, 16 * 1024),
        ({**BESIDE, "res_base": 16 * 1024 - 4}, 16 * 1024),
    ],
    ids=["param", "residual", "gate", "result", "pooled", "map", "beside"],
)
def test_first_address_beyond_its_memory(values: dict[str, int], first_error: int) -> None:
    """One byte or entry too few is an error, named by the address; nothing is written beyond."""
    name = next(key for key in ("p_base", "out_base", "res_base") if key in values)
    config, line = CONFIGS["1x2"], fields(out_w=3, out_h=1)
    short = Bench(config, {**line, **values}, seed=1, dense=True)
    assert short.run().errors[0] == first_error
    assert all(addr + len(data) <= config.act_bytes for addr, data in short.writes)
    fits = Bench(config, {**line, **values, name: values[name] - 1}, seed=1, dense=True).run()
    assert not fits.errors and len(fits.done_cycles) == 1


@pytest.mark.parametrize("name", PACKED)
def test_pixels_between_image_lines(name: str) -> None:
    """Some pixels are left out and some are not, wherever the array's rows end."""
    for config in (CONFIGS["4x5-pipe"], small(2, 9)):
        bench = Bench(config, SHAPES[name], seed=len(name), dense=True).run()
        check(bench)
        kept = {q is None for row in bench.outputs() for q in row}
        assert kept == {False, True}


@pytest.mark.parametrize("name", ["gemm-stride", "lines-stride", "lines-pool"])
def test_single_row(name: str) -> None:
    """One row of two columns: every tile is one row, of one pixel where every second column is kept."""
    bench = Bench(CONFIGS["1x2"], {**SHAPES[name], "out_h": 2}, seed=3, dense=False).run()
    check(bench)


def test_halt_drops_rows() -> None:
    bench = Bench(CONFIGS["1x2"], fields(), seed=1, dense=True).run(halt=True)
    assert not bench.entries and not bench.writes and not bench.done_cycles
