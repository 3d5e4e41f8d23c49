"""Packed lines on the ISS: planes packed, convolved with segments and unpacked are plain convolutions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Mode, Region, Target
from hw.spec.numerics import NUMERICS, quantize_multiplier
from hw.spec.program import PARAM_DTYPE
from sim.backend import UndefinedError
from sim.iss import IssBackend
from sim.program_builder import ProgramBuilder

CONFIG = AcceleratorConfig(rows=5, cols=32, act_kib=64, max_kernel=7, axi_data_width=64)
TINY = PRESETS["tiny"]
CHANNELS = 7  # two blocks of rows
ZERO_POINTS = (-7, 11, 3)
AREA = CONFIG.act_bytes // 4


@dataclass(frozen=True)
class Packing:
    """How planes of `height` lines of `width` pixels lie in lines of `count` segments."""

    height: int
    width: int
    count: int
    gap: int

    @property
    def seg(self) -> int:
        return self.width + self.gap

    @property
    def lines(self) -> int:
        return -(-self.height // self.count)

    @property
    def missing(self) -> int:
        return self.count * self.lines - self.height

    def pack(self, planes: np.ndarray, outside: int) -> np.ndarray:
        packed = np.full((planes.shape[0], self.lines, self.count * self.seg), outside, np.int8)
        for line in range(self.height):
            segment, y = divmod(line, self.lines)
            packed[:, y, segment * self.seg :][:, : self.width] = planes[:, line]
        return packed

    def fields(self, place: str) -> dict[str, int]:
        """Fields of an input or output plane, pixels without gaps between."""
        width = self.count * self.seg
        return {
            f"{place}_w": width,
            f"{place}_h": self.lines,
            f"{place}_pitch": width,
            f"{place}_cs": width * self.lines,
        }

    @property
    def segments(self) -> dict[str, int]:
        return {"seg": self.seg, "seg_gap": self.gap, "seg_missing": self.missing}


class Packed:
    """A program in the making that convolves packed planes, and what PyTorch computes for the plain ones."""

    def __init__(self, packing: Packing, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.packing, self.builder = packing, ProgramBuilder(CONFIG)
        self.plain = self.rng.integers(-128, 128, (CHANNELS, packing.height, packing.width), dtype=np.int8)
        self.zero_point, self.base, self.words = ZERO_POINTS[0], 0, 0
        self.builder.load_const(Target.ACT, 0, packing.pack(self.plain, self.zero_point).tobytes())

    def convolve(self, mode: Mode, kernel: tuple[int, int], stride: int = 1, **fields: int) -> None:
        """Append a depthwise convolution with padding kernel//2, the result beside the input."""
        kh, kw = kernel
        source, target = self.packing, Packing(
            -(-self.packing.height // stride), self.packing.width, self.packing.count, self.packing.gap
        )  # fmt: skip
        taps = self.rng.integers(-128, 128, (CHANNELS, kh, kw), dtype=np.int8)
        blocks = -(-CHANNELS // CONFIG.rows)
        words = np.zeros((blocks, kh, kw, CONFIG.weight_word_bytes), np.int8)
        for c in range(CHANNELS):
            block, row = divmod(c, CONFIG.rows)
            n = min(CONFIG.rows, CHANNELS - block * CONFIG.rows)
            words[block, :, :, n - 1 - row] = taps[c, :, ::-1]
        params = np.zeros(CHANNELS + 1, PARAM_DTYPE)
        params["bias"] = self.rng.integers(-9999, 9999, params.shape)
        params["mult"], params["shift"] = quantize_multiplier(50 / (74**2 * (kh * kw) ** 0.5))
        zero_point = ZERO_POINTS[ZERO_POINTS.index(self.zero_point) + 1]
        base = self.base + AREA
        self.builder.load_const(Target.WEIGHT, self.words * CONFIG.weight_word_bytes, words.tobytes())
        self.builder.load_const(Target.PARAM, 0, params.tobytes())
        self.builder.exec(
            mode=mode, in_base=self.base, in_zp=self.zero_point, out_base=base, kh=kh, kw=kw, sy=stride, sx=1,
            pad_y=kh // 2, pad_x=kw // 2, cout=CHANNELS, w_base=self.words, out_zp=zero_point, q_lo=-128, q_hi=127,
            **source.fields("in"), **target.fields("out"), **target.segments, **fields,
        )  # fmt: skip
        self.words += words[..., 0].size
        padded = np.pad(
            self.plain, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2)), constant_values=self.zero_point
        ).astype(np.float64)
        kernels = torch.from_numpy(taps[:, None].astype(np.float64))
        acc = torch.nn.functional.conv2d(torch.from_numpy(padded)[None], kernels, stride=(stride, 1), groups=CHANNELS)
        self.plain = NUMERICS.output(
            acc[0].numpy().astype(np.int64),
            *(params[name][:CHANNELS, None, None].astype(np.int64) for name in ("bias", "mult", "shift")),
            out_zp=zero_point, q_lo=-128, q_hi=127,
        )  # fmt: skip
        self.packing, self.zero_point, self.base = target, zero_point, base

    def check(self) -> None:
        """Run; the last result must be the plain one packed, its zero point between the lines."""
        expected = self.packing.pack(self.plain, self.zero_point)
        assert self.plain.std() > 10, "a test of constants"
        self.builder.store(Region.WORK, mem_addr=self.base, rows=1, row_bytes=expected.size)
        result = IssBackend(CONFIG).run(self.builder.finish(work_bytes=expected.size), {})
        out = np.frombuffer(result.regions[Region.WORK], np.int8)[: expected.size].reshape(expected.shape)
        assert (out == expected).all()


SHAPES = [
    (height, width, count, kernel)
    for height, width, count in [
        (14, 14, 2), (7, 7, 3), (7, 7, 4), (9, 5, 4), (12, 3, 5), (8, 28, 1), (13, 4, 3), (6, 2, 6)
    ]
    for kernel in (1, 3, 5, 7)
    # A window reaches no further than two segments to the side, and the line is no longer than the array.
    if kernel // 2 <= 2 * -(-height // count) and count * (width + kernel // 2) <= CONFIG.cols
]  # fmt: skip
SHAPE = pytest.mark.parametrize(("height", "width", "count", "kernel"), SHAPES)


def test_shapes_reach_all_cases() -> None:
    packings = [Packing(height, width, count, kernel // 2) for height, width, count, kernel in SHAPES]
    assert {packing.missing for packing in packings} >= {0, 1, 2, 3}
    assert {kernel for *_, kernel in SHAPES} == {1, 3, 5, 7}
    assert any(packing.lines == packing.gap for packing in packings)


STOS = pytest.mark.parametrize("mode", [Mode.STOS_CH, Mode.STOS_LN], ids=["CH", "LN"])


@SHAPE
@STOS
def test_columns_then_rows(mode: Mode, height: int, width: int, count: int, kernel: int) -> None:
    packed = Packed(Packing(height, width, count, kernel // 2), seed=height)
    packed.convolve(mode, (kernel, 1), fold=1)
    packed.convolve(Mode.STOS_CH, (1, kernel))
    packed.check()


@SHAPE
@STOS
def test_square_kernels(mode: Mode, height: int, width: int, count: int, kernel: int) -> None:
    packed = Packed(Packing(height, width, count, kernel // 2), seed=height + 1)
    packed.convolve(mode, (kernel, kernel), fold=1)
    packed.check()


@pytest.mark.parametrize("width", [7, 9])
@STOS
def test_stride_along_y(mode: Mode, width: int) -> None:
    packed = Packed(Packing(16, width, 2, 1), seed=width)
    packed.convolve(mode, (3, 1), stride=2, fold=1)
    packed.convolve(Mode.STOS_LN, (1, 3))
    packed.check()


def test_without_fold_lines_end_at_the_segment() -> None:
    packed = Packed(Packing(14, 7, 2, 1), seed=0)
    packed.convolve(Mode.STOS_LN, (3, 1))
    with pytest.raises(AssertionError):
        packed.check()


def test_pooled_sums_leave_out_what_lies_between() -> None:
    packed = Packed(Packing(7, 7, 4, 1), seed=4)
    mult, shift = quantize_multiplier(1 / 49)
    packed.convolve(Mode.STOS_LN, (3, 1), fold=1, gap=1, gap_bias=-49 * ZERO_POINTS[1], gap_mult=mult, gap_shift=shift)
    plane = packed.packing.fields("out")["out_cs"]
    packed.builder.store(Region.WORK, mem_addr=packed.base, rows=CHANNELS, row_bytes=1, mem_stride=plane, dram_stride=1)
    result = IssBackend(CONFIG).run(packed.builder.finish(work_bytes=CHANNELS), {})
    means = np.rint((packed.plain.astype(np.float64) - ZERO_POINTS[1]).mean(axis=(1, 2)))
    found = np.frombuffer(result.regions[Region.WORK], np.int8)[:CHANNELS]
    assert (np.abs(found - means) <= 1).all() and means.std() > 1


def folded(pad_y: int, written: range) -> None:
    """Run a strip of one line over two lines of two segments (4 bytes each), of which only some bytes are written."""
    builder = ProgramBuilder(TINY)
    builder.load_const(Target.ACT, written.start, bytes(len(written)))
    builder.load_const(Target.WEIGHT, 0, bytes(8))
    builder.load_const(Target.PARAM, 0, bytes(8))
    builder.exec(
        mode=Mode.STOS_LN, in_w=4, in_h=2, in_pitch=4, out_base=64, out_w=4, out_h=1, out_pitch=4, kh=1, kw=1, sy=1,
        sx=1, pad_y=pad_y, cout=1, q_hi=127, seg=2, fold=1,
    )  # fmt: skip
    IssBackend(TINY).run(builder.finish(), {})


@pytest.mark.parametrize(
    ("pad_y", "bytes_read"),
    [(0, range(4)), (-1, range(4, 8)), (-2, range(2, 4)), (-3, range(6, 8)), (1, range(4, 6)), (2, range(2))],
)
def test_only_bytes_read_count(pad_y: int, bytes_read: range) -> None:
    folded(pad_y, bytes_read)
    for less in (bytes_read[1:], bytes_read[:-1]):
        with pytest.raises(UndefinedError, match="reads bytes of ACT that nothing has written"):
            folded(pad_y, less)


@pytest.mark.parametrize("pad_y", [3, 4, -4, -9])
def test_lines_beyond_the_neighbour_are_the_zero_point(pad_y: int) -> None:
    folded(pad_y, range(100, 101))
