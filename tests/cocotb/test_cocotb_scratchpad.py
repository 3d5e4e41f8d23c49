# amaranth: UnusedElaboratable=no
"""The emitted scratchpad: unaligned accesses on all ports at once, against a mirror of the memory."""

from __future__ import annotations

import pytest

from hw.layouts import act_addr_width
from hw.ports import ReadSignature, WriteSignature
from hw.scratchpad import READ_PORTS, WRITE_PORTS, Scratchpad
from hw.spec.config import AcceleratorConfig
from sim.cocotb.runner import run_bench

SMALL = {"weight_kib": 8, "param_entries": 256, "axi_data_width": 64}
CONFIGS = {
    "tiny": AcceleratorConfig(rows=4, cols=4, act_kib=1, act_banks=2, **SMALL),
    "6x10": AcceleratorConfig(rows=6, cols=10, act_kib=2, act_banks=4, **SMALL),
    "one bank": AcceleratorConfig(rows=4, cols=5, act_kib=1, act_banks=1, stos=False, **SMALL),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_scratchpad(name: str) -> None:
    config = CONFIGS[name]
    ports = {name: member.signature for name, member in Scratchpad(config).signature.members.items()}
    run_bench(
        lambda: Scratchpad(config),
        "sim.cocotb.bench_scratchpad",
        parameters={
            "reads": {port: (ports[port].lanes, ports[port].strided_lanes) for port in READ_PORTS},
            "writes": {port: (ports[port].lanes, 0) for port in WRITE_PORTS},
            "addr_width": act_addr_width(config),
            "bytes": config.act_bytes,
            "read_latency": ReadSignature.READ_LATENCY,
            "write_latency": WriteSignature.WRITE_LATENCY,
            "count": 300,
            "seed": 1,
        },
    )
