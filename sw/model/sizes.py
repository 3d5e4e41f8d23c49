"""Accelerators of any size for sweeps, with memories and bus in proportion as the presets have them."""

from __future__ import annotations

from hw.spec.config import PRESETS, AcceleratorConfig

__all__ = ["square"]


def square(size: int) -> AcceleratorConfig:
    """Return an accelerator of `size` x `size` PEs: an edge preset, or one scaled like them.

    Per row and column 16 KiB of activations, 8 KiB of weights and a byte of bus width, rounded up to powers of two and
    to what the bus allows.

    Raises
    ------
    hw.spec.config.ConfigError
        If the hardware has no such size.
    """
    for name, config in PRESETS.items():
        if name.startswith("edge") and config.rows == config.cols == size:
            return config
    scale = 1 << max(size - 1, 0).bit_length()
    return AcceleratorConfig(
        rows=size,
        cols=size,
        max_kernel=min(7, 2 * size),
        act_kib=min(16 * scale, 8192),
        weight_kib=min(8 * scale, 4096),
        axi_data_width=min(max(8 * scale, 64), 1024),
    )
