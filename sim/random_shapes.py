"""Random EXEC geometries within a cost limit."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import EXEC, Mode

__all__ = ["Shape", "random_shape"]

_KERNELS = (1, 1, 3, 3, 5, 2, 4, 6, 7, 9, 11, 13, 15)
_ATTEMPTS = 10_000
_WEIGHTLESS = (Mode.VEC, Mode.MAX)
_PACKED = 0.4
"""Share of the geometries that have segments."""
_MAXIMUM = {field.name: field.maximum for field in EXEC.fields}


@dataclass(frozen=True)
class Shape:
    """Fields of an EXEC that give its geometry, places aside (``depthwise`` and ``cin`` as in the instruction)."""

    mode: Mode
    depthwise: int
    kh: int
    kw: int
    sy: int
    sx: int
    pad_y: int
    pad_x: int
    in_h: int
    in_w: int
    out_h: int
    out_w: int
    cin: int
    cout: int
    seg: int = 0
    seg_gap: int = 0
    seg_missing: int = 0
    fold: int = 0

    @property
    def fields(self) -> dict[str, Any]:
        """Field names and values."""
        return asdict(self)

    @property
    def single(self) -> bool:
        """Whether every output channel has one input channel."""
        return self.mode != Mode.GEMM or bool(self.depthwise)

    @property
    def channels(self) -> int:
        """Input channels."""
        return self.cout if self.single else self.cin

    @property
    def taps(self) -> int:
        """Input pixels that make one output."""
        return self.kh * self.kw * (1 if self.single else self.cin)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return 0 if self.mode in _WEIGHTLESS else self.taps * self.cout * self.out_h * self.out_w

    def words(self, config: AcceleratorConfig) -> int:
        """Weight words."""
        return 0 if self.mode in _WEIGHTLESS else -(-self.cout // config.rows) * self.taps

    def cycles(self, config: AcceleratorConfig) -> int:
        """Rough cost in clock cycles, to keep programs short: tiles times steps, no tile cheaper than its drain."""
        rows, steps = config.rows, self.taps
        strips = -(-self.out_w * self.sx // config.cols)
        blocks = -(-self.cout // rows)
        match self.mode:
            case Mode.VEC | Mode.MAX:
                return self.cout * self.out_h * strips * steps
            case Mode.STOS_CH:
                return blocks * self.out_h * strips * self.kh * max(rows, self.kw + 1)
            case Mode.STOS_LN:
                return self.cout * -(-self.out_h // rows) * strips * ((self.kh + self.sy) * rows + steps)
            case _ if self.depthwise:
                return self.cout * self.out_h * strips * max(steps, rows)
            case _:
                return blocks * self.out_h * strips * max(steps, rows)


def random_shape(
    config: AcceleratorConfig,
    rng: np.random.Generator,
    modes: tuple[Mode, ...],
    *,
    cycles: int,
    tensor_bytes: int,
    source: tuple[int, int, int] | None = None,
) -> Shape:
    """Draw geometries until one fits.

    Parameters
    ----------
    config, rng, modes
        What to draw for, from, and among.
    cycles
        Limit of :meth:`Shape.cycles`.
    tensor_bytes
        Limit of input and output bytes.
    source
        Shape (channels, lines, pixels) of the input if it is given.

    Raises
    ------
    ValueError
        If nothing fits.
    """
    for attempt in range(_ATTEMPTS):
        # Shrink when the budget is tight.
        shape = _draw(config, rng, modes, min(1.0, 40 / (attempt + 1)), source)
        if rng.random() < _PACKED:
            shape = _pack(config, rng, shape)
        if (
            shape.cycles(config) <= cycles
            and shape.words(config) <= config.weight_words
            and shape.cout <= config.param_entries
            and shape.channels * shape.in_h * shape.in_w <= tensor_bytes
            and shape.cout * shape.out_h * shape.out_w <= tensor_bytes
        ):
            return shape
    raise ValueError(f"no geometry for input {source} within {cycles} cycles and {tensor_bytes} bytes")


def _draw(
    config: AcceleratorConfig,
    rng: np.random.Generator,
    modes: tuple[Mode, ...],
    scale: float,
    source: tuple[int, int, int] | None,
) -> Shape:
    def upto(high: float) -> int:
        return int(rng.integers(1, 2 + int(high * scale)))

    def pick(values: tuple[int, ...]) -> int:
        return int(rng.choice(values))

    def output(extent: int, kernel: int, stride: int, pad: int) -> int:
        natural = (extent + 2 * pad - kernel) // stride + 1
        return max(1, natural) if rng.random() < 0.8 else int(rng.integers(1, extent + 4))

    mode = Mode(pick(tuple(int(m) for m in modes)))
    depthwise = int(mode == Mode.GEMM and rng.random() < 0.4)
    kernels = tuple(k for k in _KERNELS if k <= config.max_kernel)
    kh, kw = (1, 1) if mode == Mode.VEC else (pick(kernels), pick(kernels))
    sy, sx = pick((1, 1, 1, 2, 2, 3, 4)), pick((1, 2))
    usual = rng.random() < 0.7
    pad_y = kh // 2 if usual else int(rng.integers(-2, kh + 2))
    pad_x = kw // 2 if usual else int(rng.integers(-2, kw + 2))
    cin, in_h, in_w = source or (upto(2.5 * config.rows), upto(9), upto(2.6 * config.cols))
    cout = upto(2.5 * config.rows)
    if source and (mode != Mode.GEMM or depthwise):
        cout = cin
    out_h, out_w = output(in_h, kh, sy, pad_y), output(in_w, kw, sx, pad_x)
    return Shape(mode, depthwise, kh, kw, sy, sx, pad_y, pad_x, in_h, in_w, out_h, out_w, cin, cout)


def _pack(config: AcceleratorConfig, rng: np.random.Generator, shape: Shape) -> Shape:
    """Return a geometry with segments: mostly equal ones that fill the line, with a gap no wider than the kernel."""

    def upto(high: int, field: str) -> int:
        return int(rng.integers(0, min(high, _MAXIMUM[field]) + 1))

    fold = int(shape.mode in (Mode.STOS_CH, Mode.STOS_LN) and rng.random() < 0.7)
    if rng.random() < 0.25:
        # no gaps: only the lines beyond the first and the last one are found by segments, at any stride
        return replace(shape, seg=max(1, upto(2 * config.cols, "seg")), fold=fold)
    out_w = min(shape.out_w, config.cols) if rng.random() < 0.3 else int(rng.integers(1, config.cols + 1))
    seg = int(rng.integers(1, min(out_w, _MAXIMUM["seg"]) + 1, 2).max())
    if rng.random() < 0.7:
        out_w -= out_w % seg
    gap = min(shape.kw // 2, seg - 1) if rng.random() < 0.6 else upto(seg - 1, "seg_gap")
    most = shape.out_h if rng.random() < 0.1 else shape.out_h // 2
    missing = upto(most, "seg_missing") if rng.random() < 0.6 else 0
    return replace(shape, sx=1, out_w=out_w, seg=seg, seg_gap=gap, seg_missing=missing, fold=fold)
