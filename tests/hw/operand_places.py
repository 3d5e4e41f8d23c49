"""What a request of the array's operand port reads."""

from __future__ import annotations

from hw.spec.config import AcceleratorConfig

__all__ = ["operand_bytes", "operand_places"]


def operand_bytes(config: AcceleratorConfig, strided: bool) -> dict[int, int]:
    """Return lane and byte of an access, for the lanes whose answers mean something."""
    if strided:
        return {config.halo + column: 2 * column for column in range(config.cols)}
    return {lane: lane for lane in range(config.read_lanes)}


def operand_places(
    config: AcceleratorConfig, addr: int, lo: int, hi: int, strided: int
) -> tuple[tuple[int, int], ...]:
    """Return lane and byte address of what is read; the first and the last byte must be for a lane."""
    lanes = operand_bytes(config, bool(strided))
    assert (lo == hi == 0) or {lo, hi - 1} <= set(lanes.values()), "bytes that no lane needs"
    return tuple((lane, (addr + byte) % config.act_bytes) for lane, byte in lanes.items() if lo <= byte < hi)
