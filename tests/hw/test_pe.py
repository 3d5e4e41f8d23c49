"""The processing element against a Python model of its registers, and against dot products."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator

from hw.pe import PE, mac_latency

VARIANTS = pytest.mark.parametrize("pipeline", [False, True], ids=["plain", "pipe"])


def simulate(dut: PE, bench: object) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


class Model:
    """Registers of a PE that was built with `pipeline`; GEMM only: inputs of ST-OS are left out."""

    def __init__(self, pipeline: bool) -> None:
        self.products = [0] * (mac_latency(pipeline) - 1)
        self.h = self.v = self.acc = self.d = self.held = 0

    def clock(self, i: dict[str, int]) -> None:
        tap = i.get("w_row_n", 0xFF) ^ 0xFF
        self.products.append(self.h * ((tap ^ 0x80) - 0x80 if i.get("stos") else self.v))
        self.h = self.v if i.get("capture") else i["h_in"]
        if i.get("v_en", 1):
            self.v = i["v_in"]
        finished = self.acc
        self.acc = (0 if i["clear"] else finished) + self.products.pop(0)
        if i["clear"] and i["used"]:
            self.d, self.held = finished, 1
        elif not self.held or i["go"]:
            self.d, self.held = i["d_in"], 0


@VARIANTS
@pytest.mark.parametrize("stos", [True, False], ids=["stos", "gemm"])
def test_random_cycles(pipeline: bool, stos: bool) -> None:
    rng = random.Random(2 * stos + pipeline)
    dut, model = PE(stos=stos, pipeline_mac=pipeline), Model(pipeline)
    held_over = 0

    def byte() -> int:
        return rng.choice((-128, 127, rng.randint(-128, 127)))

    async def bench(ctx) -> None:
        nonlocal held_over
        for cycle in range(1500):
            inputs = {"h_in": byte(), "v_in": byte(), "d_in": rng.randint(-(1 << 31), (1 << 31) - 1)}
            inputs |= {"clear": int(rng.random() < 0.2), "used": int(rng.random() < 0.7), "go": rng.getrandbits(1)}
            if stos:
                inputs |= {name: rng.getrandbits(1) for name in ("stos", "capture", "v_en")}
                inputs["w_row_n"] = ~byte() & 0xFF if inputs["stos"] else 0xFF
            for name, value in inputs.items():
                ctx.set(getattr(dut, name), value)
            held_over += model.held and not inputs["go"]
            await ctx.tick()
            model.clock(inputs)
            got = {name: ctx.get(getattr(dut, name)) for name in ("h", "v", "d")}
            assert got == {name: getattr(model, name) for name in got}, cycle

    simulate(dut, bench)
    assert held_over > 50


@VARIANTS
def test_back_to_back_dot_products(pipeline: bool) -> None:
    """`clear` comes mac_latency cycles behind a tile's last operands; the next tile needs no cycle in between."""
    rng = random.Random(5)
    dut = PE(stos=False, pipeline_mac=pipeline)
    tiles = [[(rng.randint(-128, 127), rng.randint(-128, 127)) for _ in range(rng.randint(1, 6))] for _ in range(60)]
    stream = [pair for tile in tiles for pair in tile]
    ends, position = set(), 0
    for tile in tiles:
        position += len(tile)
        # operands are registered one edge after they are set; their sum stands mac_latency later
        ends.add(position + mac_latency(pipeline))
    sums: list[int] = []

    async def bench(ctx) -> None:
        ctx.set(dut.used, 1)
        ctx.set(dut.go, 1)
        for cycle in range(len(stream) + 4):
            h, v = stream[cycle] if cycle < len(stream) else (0, 0)
            ctx.set(dut.h_in, h)
            ctx.set(dut.v_in, v)
            ctx.set(dut.clear, cycle in ends)
            await ctx.tick()
            if cycle in ends:
                sums.append(ctx.get(dut.d))

    simulate(dut, bench)
    assert sums == [sum(h * v for h, v in tile) for tile in tiles]
