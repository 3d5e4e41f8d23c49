"""Inputs for runs of which only the cycles count."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hw.spec.program import Program

__all__ = ["random_inputs"]


def random_inputs(program: Program) -> dict[str, npt.NDArray[np.int8]]:
    """Return uniform int8 inputs by name, the same ones every time: cycles do not depend on them."""
    rng = np.random.default_rng(0)
    return {spec.name: rng.integers(-128, 128, spec.shape, dtype=np.int8) for spec in program.inputs}
