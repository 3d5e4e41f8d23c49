"""Cycle estimates that the compiler decides by; the RTL is the truth, this only ranks alternatives.

Steady-state tile costs of an R x C array (a tile drains one row per cycle while the next one computes): GEMM
max(K, n); STOS_CH kh phases of max(n, kw); STOS_LN the first kernel line of a phase max(n, kw), every further one kw;
depthwise as GEMM one channel at a time; VEC one access per line of a tile, MAX one per tap.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Mode

__all__ = ["Extent", "drain_cycles", "exec_cycles", "pick_mode"]

_NEXT = 8
"""Cycles from the last step of an EXEC to the first one of the next, which overlaps with its drain."""

_OUTPUT = 20
"""Stages from the array to a result's place, and from there back to the array."""


@dataclass(frozen=True)
class Extent:
    """What one EXEC computes: channels, output lines and pixels, kernel and strides."""

    cin: int
    cout: int
    out_h: int
    out_w: int
    kh: int
    kw: int
    sy: int
    sx: int


def _blocks(count: int, size: int) -> list[int]:
    """Sizes of the blocks that `count` things make."""
    return [min(size, count - start) for start in range(0, count, size)]


def exec_cycles(config: AcceleratorConfig, mode: Mode, depthwise: bool, extent: Extent) -> int:
    """Estimate the cycles of an EXEC."""
    rows, kh, kw = config.rows, extent.kh, extent.kw
    # ST-OS with windows of several taps computes every pixel and keeps every second one at stride 2
    halved = extent.sx == 2 and kw > 1 and mode in (Mode.STOS_CH, Mode.STOS_LN)
    tiles = -(-extent.out_w // (config.cols // 2 if halved else config.cols))
    channels = _blocks(extent.cout, rows)
    lines = extent.out_h
    if mode == Mode.GEMM and not depthwise:
        steps = extent.cin * kh * kw
        cycles = sum(max(steps, n) for n in channels) * lines * tiles
        if channels[-1] != channels[0]:
            # the PEs of all rows must have finished the tile before
            cycles += max(0, rows + config.cols - 1 - max(steps, channels[-1]))
    elif mode == Mode.GEMM:
        cycles = extent.cout * max(kh * kw, 1) * lines * tiles
    elif mode == Mode.STOS_CH:
        cycles = sum(kh * max(n, kw) for n in channels) * lines * tiles + channels[0] + kw
    elif mode == Mode.STOS_LN:
        streams = sum(_line_stream(n, extent) for n in _blocks(lines, rows))
        cycles = extent.cout * tiles * streams + min(lines, rows) + kw
    else:
        taps = kh * kw if mode == Mode.MAX else 1
        cycles = extent.cout * taps * lines * tiles
    return cycles + _next(config)


def _next(config: AcceleratorConfig) -> int:
    # Where the next one reads the results it waits until the array has drained, about rows + cols; that is rarer.
    return _NEXT + (config.rows + config.cols) // 4


def drain_cycles(config: AcceleratorConfig, mode: Mode, cout: int) -> int:
    """Estimate what an EXEC costs more if the next one waits for its results: until its last row has left the array."""
    drain = {Mode.GEMM: config.rows + config.cols + min(config.rows, cout)}
    drain |= dict.fromkeys((Mode.STOS_CH, Mode.STOS_LN), config.rows)
    return max(0, drain.get(mode, 0) + _OUTPUT - _next(config))


def _line_stream(lines: int, extent: Extent) -> int:
    """Cycles of one STOS_LN tile of `lines` output lines: at stride sy, a phase for the kernel lines of each parity."""
    phases = min(extent.sy, extent.kh)
    captures = [len(range(phase, extent.kh, extent.sy)) for phase in range(phases)]
    return sum(max(lines, extent.kw) + (count - 1) * extent.kw for count in captures)


def pick_mode(config: AcceleratorConfig, extent: Extent) -> tuple[Mode, bool]:
    """Return (mode, depthwise flag) for a depthwise layer: the cheaper ST-OS form, or GEMM without ST-OS."""
    if not config.stos:
        return Mode.GEMM, True
    return min((Mode.STOS_CH, Mode.STOS_LN), key=lambda mode: exec_cycles(config, mode, False, extent)), False
