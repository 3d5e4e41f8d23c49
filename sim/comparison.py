"""Two runs of one program, compared byte for byte and named tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw.spec.isa import Region
from hw.spec.program import Program
from sw.regions import read_tensor

__all__ = ["Comparison", "compare_regions"]


@dataclass(frozen=True)
class Comparison:
    """What was compared, and where it differs.

    Parameters
    ----------
    tensors
        Tensors that the program writes to DRAM, network inputs left out.
    size
        Bytes of the regions they lie in, all of which are compared.
    differences
        One line per tensor that differs, in order of execution, then regions that differ elsewhere; empty if all
        bytes of all regions are equal.
    """

    tensors: int
    size: int
    differences: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether all bytes are equal."""
        return not self.differences


def compare_regions(program: Program, got: Sequence[bytes], expected: Sequence[bytes]) -> Comparison:
    """Compare the DRAM regions that two runs of a program left behind.

    Raises
    ------
    ValueError
        If a region has another size.
    """
    written = (Region.WORK, Region.OUTPUT)
    tensors = [spec for spec in program.tensors if spec.region in written]
    size = sum(len(expected[region]) for region in written)
    lines: list[str] = []
    for region in Region:
        if len(got[region]) != len(expected[region]):
            raise ValueError(f"region {region.name} has {len(got[region])} bytes, not {len(expected[region])}")
        if got[region] == expected[region]:
            continue
        named = []
        for spec in tensors:
            if spec.region == region:
                mine, other = read_tensor(got, spec), read_tensor(expected, spec)
                if wrong := int(np.count_nonzero(mine != other)):
                    first = tuple(int(axis[0]) for axis in np.nonzero(mine != other))
                    named.append(
                        f"{spec.name}: {wrong} of {mine.size} bytes differ, first at {first}: "
                        f"{mine[first]}, not {other[first]}"
                    )
        lines += named or [f"region {region.name}: bytes outside all tensors differ"]
    return Comparison(len(tensors), size, tuple(lines))
