"""Tiling: how a kernel is cut into strips of output lines and groups of output channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC, ResidualOp
from hw.spec.program import PARAM_DTYPE
from sw.compiler.errors import CompileError
from sw.compiler.lower import Kernel
from sw.compiler.memory import Ring
from sw.compiler.spread import kernel_cycles

__all__ = [
    "MAX_WIDTH",
    "TRANSFER_START",
    "Residency",
    "Tiling",
    "input_lines",
    "param_ring",
    "spans",
    "tilings",
    "weight_ring",
]

TRANSFER_START = 32
"""Cycles that a transfer costs besides its beats; several are in flight, so less than the latency of DRAM.

An average for choosing among tilings, not the burst-by-burst times of :mod:`sw.model.channels`, which would need the
order of all transfers; :mod:`sw.compiler.prefetch` has the latency of a single one."""

_FLOW = 4
"""Groups of channels whose constants should be on chip at once: one in use, one to be freed, others on their way."""

MAX_WIDTH = next(field for field in EXEC.fields if field.name == "out_w").maximum
"""Pixels of a line at most, also where the lines of a strip are joined into one."""


@dataclass(frozen=True)
class Residency:
    """Which of a kernel's tensors lie in the scratchpad as a whole; the others pass through strip buffers."""

    source: bool
    target: bool
    residual: bool


@dataclass(frozen=True)
class Tiling:
    """One way to cut a kernel.

    Parameters
    ----------
    lines, channels
        Output lines per strip and output channels per group.
    group_outer
        All strips of a group follow each other (weights move once), else all groups of a strip (inputs move once).
    weights_once
        The weights and parameters of all groups stay on chip from strip to strip.
    source, target, residual
        (number of buffers, bytes of each); (0, 0) where the tensor is resident or absent.
    cost
        Estimated cycles.
    """

    lines: int
    channels: int
    group_outer: bool
    weights_once: bool
    source: tuple[int, int]
    target: tuple[int, int]
    residual: tuple[int, int]
    cost: float

    @classmethod
    def whole(cls, kernel: Kernel) -> Tiling:
        """Return all channels and lines at once, with no strip buffers."""
        channels, lines, _ = kernel.map_shape
        return cls(lines, channels, False, True, (0, 0), (0, 0), (0, 0), 0.0)

    @property
    def buffers(self) -> list[int]:
        """Bytes of every strip buffer."""
        return [size for count, size in (self.source, self.target, self.residual) for _ in range(count)]

    @property
    def buffer_bytes(self) -> int:
        """Bytes of all strip buffers."""
        return sum(self.buffers)


def spans(total: int, step: int) -> list[tuple[int, int]]:
    """Cut 0..total into (start, stop) pieces of `step`."""
    return [(start, min(start + step, total)) for start in range(0, total, step)]


def input_lines(kernel: Kernel, first: int, stop: int) -> tuple[int, int]:
    """Return the input lines (start, stop) inside the tensor that output lines `first` to `stop` - 1 read."""
    height = kernel.source.shape[1]
    if kernel.whole:
        return 0, height
    start = first * kernel.stride[0] - kernel.pad[0]
    end = (stop - 1) * kernel.stride[0] - kernel.pad[0] + kernel.kernel[0]
    start, end = min(max(start, 0), height), min(max(end, 0), height)
    return start, max(start, end)


def weight_ring(config: AcceleratorConfig) -> Ring:
    """Return an empty ring over the weight scratchpad."""
    return Ring(config.weight_bytes, max(config.axi_bytes, config.weight_word_bytes))


def param_ring(config: AcceleratorConfig) -> Ring:
    """Return an empty ring over the parameter memory."""
    return Ring(config.param_bytes, max(config.axi_bytes, PARAM_DTYPE.itemsize))


def _group_sizes(kernel: Kernel, config: AcceleratorConfig) -> list[int]:
    """Return group sizes whose weights and parameters fit, those that leave room for the next groups' if any does.

    Raises
    ------
    CompileError
        If not even one block of channels fits.
    """
    cout, rows = kernel.map_shape[0], config.rows
    weights, params = weight_ring(config), param_ring(config)
    blocks = -(-cout // rows)
    wanted = {min(cout, rows * -(-blocks // parts)) for parts in range(1, blocks + 1)}
    wanted |= {size for size in (1 << bit for bit in range(rows.bit_length())) if size < min(cout, rows)}
    fits = []
    for size in sorted(wanted, reverse=True):
        need = weights.room(kernel.words(size, rows) * config.weight_word_bytes)
        entries = params.room(size * PARAM_DTYPE.itemsize)
        if need <= weights.size and entries <= params.size:
            fits.append((size, min(weights.size // need if need else _FLOW, params.size // entries, _FLOW)))
    if not fits:
        need = kernel.words(1, rows) * config.weight_word_bytes
        raise CompileError(
            kernel.name,
            f"the weights of one block of channels take {need} bytes ({kernel.words(1, rows)} words of "
            f"{config.weight_word_bytes}), the weight scratchpad has {config.weight_bytes}: raise weight_kib",
        )
    most = max(count for _, count in fits)
    return [size for size, count in fits if count == most]


def _strip_heights(kernel: Kernel, whole: bool) -> list[int]:
    height, width = kernel.map_shape[1:]
    if kernel.pool is not None or kernel.whole or whole:
        return [height]
    heights = {-(-height // parts) for parts in range(1, height + 1)}
    return sorted(h for h in heights if not kernel.pointwise or h * width <= MAX_WIDTH) or [1]


def tilings(kernel: Kernel, config: AcceleratorConfig, residency: Residency) -> list[Tiling]:
    """Return the ways to cut a kernel, cheapest first; the last resort is the one with the smallest buffers.

    A residual map shares the output's strides, so unless both lie in strip buffers, or both on chip, only whole planes
    are offered.

    Raises
    ------
    CompileError
        If the weights do not fit.
    """
    mixed = kernel.residual_op == ResidualOp.ADD and residency.residual != residency.target
    found = [
        tiling
        for channels in _group_sizes(kernel, config)
        for lines in _strip_heights(kernel, mixed)
        for tiling in _variants(kernel, config, residency, lines, channels)
    ]
    return sorted(found, key=lambda t: (t.cost, t.buffer_bytes))


def _variants(
    kernel: Kernel, config: AcceleratorConfig, residency: Residency, lines: int, channels: int
) -> Iterator[Tiling]:
    cout, height, width = kernel.map_shape
    cin, in_h, in_w = kernel.source.shape
    strips, groups = spans(height, lines), spans(cout, channels)
    out_bytes = channels * lines * width
    in_lines = in_h if kernel.whole else min(in_h, (lines - 1) * kernel.stride[0] + kernel.kernel[0])
    in_bytes = (cin if kernel.dense else channels) * in_lines * in_w
    weights, params = weight_ring(config), param_ring(config)
    sizes = [stop - start for start, stop in groups]
    word_bytes = [weights.room(kernel.words(n, config.rows) * config.weight_word_bytes) for n in sizes]
    entry_bytes = [params.room(n * PARAM_DTYPE.itemsize) for n in sizes]
    const_bytes = sum(word_bytes) + sum(entry_bytes)
    fit = len(groups) == 1 or (sum(word_bytes) <= weights.size and sum(entry_bytes) <= params.size)
    target_bytes = channels if kernel.reduced else out_bytes

    loaded_lines = sum(stop - start for start, stop in (input_lines(kernel, *strip) for strip in strips))
    source_total = 0 if residency.source else cin * in_w * loaded_lines
    second_total = 0 if kernel.residual is None or residency.residual else kernel.residual.size
    target_total = 0 if residency.target else cout if kernel.reduced else cout * height * width
    cycles = 0
    for count, (n, rest) in _distinct(cout, channels):
        for times, (h, tail) in _distinct(height, lines):
            cycles += count * times * kernel_cycles(config, kernel, n or rest, h or tail)

    pieces = len(strips) * len(groups)
    # a gate is loaded once, as a whole
    gated = kernel.residual_op == ResidualOp.SCALE
    for group_outer in (False, True) if len(strips) > 1 and len(groups) > 1 else (False,):
        again_weights = 1 if group_outer or fit else len(strips)
        again_source = len(groups) if group_outer and kernel.dense else 1
        # every line range of a channel is a row of its own, and ends in a beat that is not full
        ends = len(strips) if len(strips) > 1 else 0
        loads = (source_total * again_source + second_total) / config.axi_bytes
        if loads:
            loads += pieces * TRANSFER_START + (0 if residency.source else ends * cin * again_source)
        stores = target_total / config.axi_bytes
        if stores:
            stores += pieces * TRANSFER_START + ends * cout
        traffic = loads + const_bytes * again_weights / config.axi_bytes
        # With two buffers loads, execution and stores go on side by side but for the first and last pieces; constants
        # arrive ahead of time.
        serial = cycles + loads + stores
        longest = max(cycles, loads, stores)
        abreast = longest + (serial - longest) / pieces
        source_pieces = pieces if not kernel.dense or group_outer else len(strips)
        for copies in (2, 1) if pieces > 1 else (1,):
            yield Tiling(
                lines,
                channels,
                group_outer,
                fit and not group_outer and len(strips) > 1,
                source=(0, 0) if residency.source else (min(copies, source_pieces), in_bytes),
                target=(0, 0) if residency.target else (min(copies, pieces), target_bytes),
                residual=(0, 0)
                if kernel.residual is None or residency.residual
                else (1, cout)
                if gated
                else (min(copies, pieces), out_bytes),
                cost=max(serial if copies == 1 else abreast, traffic),
            )


def _distinct(total: int, step: int) -> list[tuple[int, tuple[int, int]]]:
    """Return (count, (full size, 0)) and, if there is one, (1, (0, size of the last piece))."""
    full, rest = divmod(total, step)
    return [(full, (step, 0))] + ([(1, (0, rest))] if rest else [])
