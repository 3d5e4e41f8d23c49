"""The top's interface: port names and widths, no combinational paths, identity over the bus."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Fragment

from hw.accelerator import Accelerator
from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Queue
from tests.hw.accelerator_bench import AcceleratorRig
from tests.hw.axi_model import check_registered
from tests.hw.control_bench import simulate

TINY = PRESETS["tiny"]


@pytest.mark.parametrize("config", [TINY, PRESETS["edge16"].twin(axi_addr_width=33)])
def test_ports(config: AcceleratorConfig) -> None:
    """Full channel sets under the standard names, in the right direction and width."""
    address, width = config.axi_addr_width, config.axi_data_width
    channel = {"id": 1, "addr": address, "len": 8, "size": 3, "burst": 2, "lock": 1, "cache": 4, "prot": 3}
    channel |= {"qos": 4, "region": 4, "valid": 1}
    outputs = {f"m_axi_{x}{name}": bits for x in ("aw", "ar") for name, bits in channel.items()}
    outputs |= {"m_axi_wdata": width, "m_axi_wstrb": width // 8, "m_axi_wlast": 1, "m_axi_wvalid": 1}
    outputs |= {"m_axi_bready": 1, "m_axi_rready": 1}
    inputs = {f"m_axi_{x}ready": 1 for x in ("aw", "w", "ar")}
    inputs |= {"m_axi_bid": 1, "m_axi_bresp": 2, "m_axi_bvalid": 1}
    inputs |= {"m_axi_rid": 1, "m_axi_rdata": width, "m_axi_rresp": 2, "m_axi_rlast": 1, "m_axi_rvalid": 1}
    inputs |= {
        f"s_axil_{x}{name}": bits for x in ("aw", "ar") for name, bits in (("addr", 12), ("prot", 3), ("valid", 1))
    }
    inputs |= {"s_axil_wdata": 32, "s_axil_wstrb": 4, "s_axil_wvalid": 1, "s_axil_bready": 1, "s_axil_rready": 1}
    outputs |= {"s_axil_awready": 1, "s_axil_wready": 1, "s_axil_arready": 1, "s_axil_bresp": 2, "s_axil_bvalid": 1}
    outputs |= {"s_axil_rdata": 32, "s_axil_rresp": 2, "s_axil_rvalid": 1, "irq": 1}
    for queue in Queue:
        outputs |= {
            f"trace_{queue.name.lower()}_{what}": bits for what, bits in (("start", 1), ("pc", 32), ("done", 1))
        }

    dut = Accelerator(config)
    Fragment.get(dut, None)
    found: dict[str, dict[str, int]] = {"In": {}, "Out": {}}
    for (name,), member, signal in dut.signature.flatten(dut):
        found[member.flow.name][name] = len(signal)
    assert found["In"] == inputs
    assert found["Out"] == outputs


def test_no_combinational_paths() -> None:
    dut = Accelerator(TINY)
    handshakes = [(m.flow.name, s) for (name,), m, s in dut.signature.flatten(dut) if name.endswith(("valid", "ready"))]
    inputs = [signal for flow, signal in handshakes if flow == "In"]
    outputs = [signal for flow, signal in handshakes if flow == "Out"]
    assert len(inputs) == len(outputs) == 10

    async def bench(ctx: Any) -> None:
        for pattern in range(4):
            for index, signal in enumerate(inputs):
                ctx.set(signal, pattern >> index % 2 & 1)
            await ctx.tick().repeat(3)
            await check_registered(ctx, inputs, outputs)

    simulate(dut, bench)


def test_identity_registers() -> None:
    rig = AcceleratorRig(TINY, [b""] * 4)

    async def bench(ctx: Any) -> None:
        await rig.begin(ctx)
        assert await rig.bus.get("HASH_HI") << 32 | await rig.bus.get("HASH_LO") == TINY.hash
        assert await rig.bus.get("SHAPE") == TINY.rows | TINY.cols << 16
        assert await rig.bus.get("REGION2_BASE_HI") == rig.bases[2] >> 32

    rig.run(bench)
