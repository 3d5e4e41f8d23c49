"""The published closed form reproduces its authors' figures for MobileNetV2 at 224x224."""

from __future__ import annotations

import pytest

from sw.model.authors import depthwise_cycles, fuse_cycles, gemm_cycles

BLOCKS = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def mobilenet_v2(n: int, half: bool) -> int:
    total, height, cin = gemm_cycles(112 * 112, 27, 32, n, n), 112, 32
    for expand, cout, repeats, first_stride in BLOCKS:
        for index in range(repeats):
            stride, hidden = first_stride if index == 0 else 1, cin * expand
            if expand != 1:
                total += gemm_cycles(height * height, cin, hidden, n, n)
            low = height // stride
            if half:
                total += 2 * fuse_cycles(height * hidden // 2, height, 3, stride, n, n)
            else:
                total += depthwise_cycles(hidden, low * low, 9, n, n)
            total += gemm_cycles(low * low, hidden, cout, n, n)
            height, cin = low, cout
    return total + gemm_cycles(49, 320, 1280, n, n) + gemm_cycles(1, 1280, 1000, n, n)


@pytest.mark.parametrize(("n", "depthwise", "fuse_half"), [(16, 5495, 2098), (32, 3641, 800), (64, 2962, 412)])
def test_published_thousand_cycles(n: int, depthwise: int, fuse_half: int) -> None:
    assert mobilenet_v2(n, half=False) == pytest.approx(1000 * depthwise, abs=600)
    assert mobilenet_v2(n, half=True) == pytest.approx(1000 * fuse_half, abs=600)


def test_partial_folds_are_credited() -> None:
    assert gemm_cycles(4, 10, 4, 4, 4) == 10 + 4 + 4 - 1
    assert gemm_cycles(5, 10, 4, 4, 4) == (10 + 7) + (10 + 1 + 4 - 1)
