from __future__ import annotations

import math

import numpy as np
import pytest

from hw.spec.config import PRESETS
from hw.spec.isa import Region
from hw.spec.packing import Packing
from hw.spec.program import Program, ProgramError, TensorSpec
from sw.regions import (
    InputError,
    build_regions,
    dequantise,
    quantise_input,
    read_outputs,
    read_tensor,
    write_tensor,
)

X = TensorSpec("x", Region.INPUT, 3, (2, 3, 4), 17, 0.5, 1)
Z = TensorSpec("z", Region.INPUT, 40, (1, 1, 5), 0, 0.5, 1)
PROGRAM = Program(PRESETS["tiny"], b"image", 0, (16, 8, 64, 0), (X, Z), (X,))
VALUE = np.arange(-12, 12, dtype=np.int8).reshape(2, 3, 4)
TAIL = np.full((1, 1, 5), 7, np.int8)


def test_regions_hold_image_and_inputs_and_zeros() -> None:
    regions = build_regions(PROGRAM, {"x": VALUE, "z": TAIL})
    assert [region.size for region in regions] == [16, 8, 64, 0]
    assert regions[Region.CONST].tobytes() == b"image" + bytes(11)
    expected = np.zeros(64, np.int8)
    expected[3:15], expected[20:32], expected[40:45] = VALUE[0].ravel(), VALUE[1].ravel(), 7
    assert (regions[Region.INPUT].view(np.int8) == expected).all()
    assert not regions[Region.WORK].any()


def test_tensors_come_back_from_arrays_and_bytes() -> None:
    regions = build_regions(PROGRAM, {"x": VALUE, "z": TAIL})
    copy = read_tensor(regions, X)
    assert (copy == VALUE).all()
    copy[...] = 0
    assert (read_outputs(PROGRAM, [region.tobytes() for region in regions])["x"] == VALUE).all()


def test_packing_keeps_the_bytes_between_planes() -> None:
    regions = [np.full(64, 9, np.uint8)] * 4
    write_tensor(regions, X, VALUE)
    assert (regions[Region.INPUT][[2, 15, 19, 32]] == 9).all()


def test_packed_tensors_are_images_outside_dram() -> None:
    regions = [np.full(64, 9, np.uint8)] * 4
    packed = TensorSpec("p", Region.INPUT, 1, (2, 3, 4), 20, 0.5, -7, Packing(3, 4, 6, 2))
    write_tensor(regions, packed, VALUE)
    assert (read_tensor(regions, packed) == VALUE).all()
    lines = regions[Region.INPUT].view(np.int8)[1:21].reshape(2, 10)
    # image lines 0 and 2, then 1 and none
    assert (lines == [[*VALUE[0, 0], -7, -7, *VALUE[0, 2]], [*VALUE[0, 1], *[-7] * 6]]).all()
    assert regions[Region.INPUT].view(np.int8)[[0, 41]].tolist() == [9, 9]


def test_image_larger_than_its_region_is_kept_whole() -> None:
    program = Program(PRESETS["tiny"], bytes(100), 0, (16, 0, 0, 0), (), ())
    assert build_regions(program, {})[Region.CONST].size == 100


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": VALUE}, r"input\(s\) missing: z; the program takes x \(2, 3, 4\), z \(1, 1, 5\)"),
        ({"x": VALUE, "z": TAIL, "y": TAIL}, "no input named y"),
        ({"x": VALUE.astype(np.float32), "z": TAIL}, "x has type float32; int8 is expected"),
        ({"x": VALUE.astype(np.uint8), "z": TAIL}, "x has type uint8"),
        ({"x": VALUE[None], "z": TAIL}, r"x has shape \(1, 2, 3, 4\); \(2, 3, 4\) \(channels, height, width\)"),
    ],
)
def test_unfit_inputs(inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_regions(PROGRAM, inputs)


def test_tensor_outside_its_region() -> None:
    with pytest.raises(ProgramError, match="takes bytes 3 to 32 of region INPUT, which has 31"):
        read_tensor([bytes(31)] * 4, X)


def test_quantisation_rounds_to_even_and_saturates() -> None:
    real = [-1000.0, -0.75, -0.25, 0.25, 0.75, 1.0, 1000.0]
    assert quantise_input(X, real).tolist() == [-128, -1, 1, 1, 3, 3, 127]
    q = np.arange(-128, 128, dtype=np.int8)
    assert (quantise_input(X, dequantise(X, q)) == q).all()
    assert dequantise(X, np.int8(3)) == 1.0
    for value in (math.nan, math.inf):
        with pytest.raises(InputError, match="not finite"):
            quantise_input(X, [value])
