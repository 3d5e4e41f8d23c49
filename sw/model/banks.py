"""Scratchpad banks that an EXEC's operands and its second operand have in common."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Instruction, Mode, ResidualOp

__all__ = ["shared_share"]

_SAMPLES = 8
"""Places looked at along a line."""


def shared_share(config: AcceleratorConfig, instruction: Instruction) -> float:
    """Return how often a read of the second operand needs the bank of an operand read at its side, from 0 to 1.

    GEMM reads all input channels for every tile; the other modes walk through both tensors side by side.
    """
    if instruction["res"] == ResidualOp.NONE:
        return 0.0
    ins = instruction
    lines = np.arange(ins["out_h"])[:, None]
    places = np.linspace(0, ins["out_w"] - 1, _SAMPLES, dtype=np.int64)
    dense = ins["mode"] == Mode.GEMM and not ins["depthwise"]
    channels = np.arange(ins["cin"] if dense else ins["cout"])[:, None, None]
    read = ins["in_base"] + channels * ins["in_cs"] + lines * ins["sy"] * ins["in_pitch"] + places * ins["sx"]
    outputs = np.arange(ins["cout"])[:, None, None]
    if ins["res"] == ResidualOp.SCALE:
        second = ins["res_base"] + outputs + 0 * (lines + places)
    else:
        second = ins["res_base"] + outputs * ins["out_cs"] + lines * ins["out_pitch"] + places
    first_banks, second_banks = read // config.act_bank_bytes, second // config.act_bank_bytes
    if dense:
        return float(_histogram(config, first_banks) @ _histogram(config, second_banks))
    return float((first_banks == second_banks).mean())


def _histogram(config: AcceleratorConfig, banks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.bincount(banks.ravel(), minlength=config.act_banks) / banks.size
