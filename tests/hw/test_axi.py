# amaranth: UnusedElaboratable=no
"""AXI signatures and the register slice."""

from __future__ import annotations

import random

import pytest
from amaranth.lib.wiring import Flow, Signature
from amaranth.sim import Simulator, SimulatorContext

from hw.axi import AXI4LiteSignature, AXI4ReadSignature, AXI4WriteSignature, RegisterSlice
from tests.hw.axi_model import check_registered


def directions(signature: Signature) -> dict[Flow, set[str]]:
    """Member names by direction, seen from the manager."""
    flat = {path[0]: member.flow for path, member, _ in signature.flatten(signature.create())}
    return {flow: {name for name, other in flat.items() if other is flow} for flow in Flow}


def names(channel: str, members: str) -> set[str]:
    return {channel + member for member in members.split()}


ADDRESS = "id addr len size burst lock cache prot qos region valid"


def test_full_channels() -> None:
    read = directions(AXI4ReadSignature(40, 128, 2))
    assert read[Flow.Out] == names("ar", ADDRESS) | {"rready"}
    assert read[Flow.In] == {"arready"} | names("r", "id data resp last valid")
    write = directions(AXI4WriteSignature(40, 128, 2))
    assert write[Flow.Out] == names("aw", ADDRESS) | names("w", "data strb last valid") | {"bready"}
    assert write[Flow.In] == {"awready", "wready"} | names("b", "id resp valid")
    lite = directions(AXI4LiteSignature(12))
    outputs = names("aw", "addr prot valid") | names("w", "data strb valid") | names("ar", "addr prot valid")
    assert lite[Flow.Out] == outputs | {"bready", "rready"}
    assert lite[Flow.In] == {"awready", "wready", "arready"} | names("b", "resp valid") | names("r", "data resp valid")


def test_widths() -> None:
    port = AXI4WriteSignature(36, 256, 3).create()
    widths = {name: len(getattr(port, name)) for name in ("awaddr", "awid", "wdata", "wstrb", "bid", "awlen")}
    assert widths == {"awaddr": 36, "awid": 3, "wdata": 256, "wstrb": 32, "bid": 3, "awlen": 8}
    with pytest.raises(ValueError, match="data_width=48"):
        AXI4ReadSignature(32, 48)
    with pytest.raises(ValueError, match="id_width=0"):
        AXI4WriteSignature(32, 64, 0)
    with pytest.raises(ValueError, match="data_width=128"):
        AXI4LiteSignature(12, 128)


@pytest.mark.parametrize(("gap", "stall"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.4, 0.6)])
def test_register_slice(gap: float, stall: float) -> None:
    """Nothing is lost, doubled or reordered; full rate; latency 1; no combinational path."""
    dut = RegisterSlice(16)
    rng = random.Random(f"{gap} {stall}")
    items = [rng.getrandbits(16) for _ in range(200)]
    got: list[int] = []

    async def bench(ctx: SimulatorContext) -> None:
        pending = list(items)
        offered = False
        cycles = 0
        held = None
        while len(got) < len(items):
            offered = offered or bool(pending and rng.random() >= gap)
            ready = rng.random() >= stall
            ctx.set(dut.i.valid, offered)
            ctx.set(dut.i.payload, pending[0] if offered else rng.getrandbits(16))
            ctx.set(dut.o.ready, ready)
            await check_registered(ctx, [dut.i.valid, dut.o.ready], [dut.i.ready, dut.o.valid])
            _, _, taken, valid, value = await ctx.tick().sample(dut.i.ready, dut.o.valid, dut.o.payload)
            cycles += 1
            assert held is None or (valid and value == held), "an offer was withdrawn"
            held = value if valid and not ready else None
            if offered and taken:
                pending.pop(0)
                offered = False
            if valid and ready:
                got.append(value)
        if not gap and not stall:
            assert cycles == len(items) + 1
        await ctx.tick()
        assert not ctx.get(dut.o.valid)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert got == items
