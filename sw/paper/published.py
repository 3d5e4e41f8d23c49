"""What the FuSeConv paper publishes (Selvam, Ganesan and Kumar, DATE 2021, arXiv 2105.13434)."""

from __future__ import annotations

__all__ = ["BASELINE", "MACS", "NETWORKS", "PUBLISHED_SIZE", "SIZES", "SPEED_UPS", "VARIANTS", "network_name"]

NETWORKS = {
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "mnasnet_b1": "MnasNet-B1",
    "mobilenet_v3_small": "MobileNetV3-S",
    "mobilenet_v3_large": "MobileNetV3-L",
}
"""Its networks, and how they are printed."""

BASELINE = "depthwise"

VARIANTS = {"fuse_full": "Full", "fuse_half": "Half", "fuse_full_50": "50 % Full", "fuse_half_50": "50 % Half"}
"""Its variants, and how they are printed."""

SIZES = (8, 16, 32, 64, 128)
"""Rows and columns of the square arrays looked at."""

PUBLISHED_SIZE = 64

SPEED_UPS: dict[str, dict[str, float]] = {
    "mobilenet_v1": {"fuse_full": 4.1, "fuse_half": 6.76, "fuse_full_50": 2.3, "fuse_half_50": 2.36},
    "mobilenet_v2": {"fuse_full": 5.1, "fuse_half": 7.23, "fuse_full_50": 2.0, "fuse_half_50": 2.1},
    "mnasnet_b1": {"fuse_full": 5.06, "fuse_half": 7.15, "fuse_full_50": 1.88, "fuse_half_50": 1.97},
    "mobilenet_v3_small": {"fuse_full": 3.02, "fuse_half": 4.16, "fuse_full_50": 1.6, "fuse_half_50": 1.68},
    "mobilenet_v3_large": {"fuse_full": 3.61, "fuse_half": 5.45, "fuse_full_50": 1.76, "fuse_half_50": 1.83},
}
"""Over the depthwise network, on an array of :data:`PUBLISHED_SIZE`."""

MACS = {"mobilenet_v1": {BASELINE: 589, "fuse_full_50": 764}}
"""Millions of multiply-accumulates of networks whose speed-up is not reached here."""


def network_name(network: str, variant: str) -> str:
    """Return the zoo's name of a variant."""
    return network if variant == BASELINE else f"{network}:{variant}"
