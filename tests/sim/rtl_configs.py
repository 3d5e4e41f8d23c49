"""Accelerators whose generated Verilog random programs and networks run on; one home, so that each is built once."""

from __future__ import annotations

from hw.spec.config import PRESETS, AcceleratorConfig

__all__ = ["CONFIGS"]

_SMALL = {"act_kib": 32, "act_banks": 2, "weight_kib": 8, "param_entries": 256, "axi_data_width": 64}

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "6x10": AcceleratorConfig(rows=6, cols=10, max_kernel=5, reset_low=True, **_SMALL),
    "4x24": AcceleratorConfig(rows=4, cols=24, max_kernel=9, **_SMALL),
    "plain": AcceleratorConfig(rows=5, cols=4, stos=False, pipeline_mac=True, **_SMALL),
}
