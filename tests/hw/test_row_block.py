"""Blocks of rows cover the array with at most two shapes."""

import pytest

from hw.row_block import block_sizes


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 16, 17, 64, 255, 256])
def test_blocks_cover_the_rows(rows: int) -> None:
    sizes = block_sizes(rows)
    assert sum(sizes) == rows and min(sizes) > 0
    assert len(set(sizes)) <= 2 and len(sizes) <= rows**0.5 + 1
