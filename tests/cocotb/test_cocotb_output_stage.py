"""The emitted output stage against PyTorch's integer arithmetic, at ties and at the ends of every range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hw.output_stage import OutputStage, output_config
from hw.spec.isa import Activation, ResidualOp
from hw.spec.numerics import NUMERICS
from hw.spec.program import PARAM_DTYPE
from sim.cocotb.runner import run_bench

OPERATIONS = [
    (Activation.NONE, ResidualOp.NONE),
    (Activation.NONE, ResidualOp.ADD),
    (Activation.HSWISH, ResidualOp.NONE),
    (Activation.HSWISH, ResidualOp.ADD),
    (Activation.NONE, ResidualOp.SCALE),
    (Activation.HSWISH, ResidualOp.SCALE),
]
PRODUCT = 2
"""First of these with a product."""


def shift_round(value: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """value / 2**shift to the nearest, ties to even: torch's own rounding of an exact quotient in float64."""
    return torch.round(value.to(torch.float64) / torch.exp2(shift.to(torch.float64))).to(torch.int64)


def reference(acc: torch.Tensor, param: dict[str, torch.Tensor], cfg: dict[str, torch.Tensor], residual: torch.Tensor):
    limit = 1 << (NUMERICS.mid_width - 1)
    product = (acc + param["bias"]) * param["mult"]
    assert product.abs().max() < 1 << 53, "the quotient must be exact in float64"
    mid = shift_round(product, param["shift"]).clamp(-limit, limit - 1)
    mid = mid + (cfg["res"] == ResidualOp.ADD) * (residual - cfg["res_zp"]) * cfg["res_mult"]
    half = 1 << (NUMERICS.factor_width - 1)
    factor = mid.clamp(-half, half - 1)
    gated = factor * (residual[:, :1] - cfg["res_zp"])
    scale = cfg["res"] == ResidualOp.SCALE
    mid = torch.where(scale, gated, mid)
    factor = torch.where(scale, shift_round(gated, torch.tensor(8)), factor)
    curve = torch.minimum((factor + cfg["act_offset"]).clamp(min=0), cfg["act_limit"])
    mid = torch.where(cfg["act"] == Activation.HSWISH, factor * curve, mid)
    out = shift_round(mid, cfg["post_shift"]) + cfg["out_zp"]
    return torch.minimum(torch.maximum(out, cfg["q_lo"]), cfg["q_hi"])


@pytest.mark.parametrize("lanes", [4, 10])
def test_output_stage(lanes: int) -> None:
    rng = np.random.default_rng(lanes)
    count = 600
    shift = rng.integers(0, NUMERICS.max_shift + 1, count)
    mult = rng.integers(0, 1 << 16, count)
    # Sums that reach the clamp about half of the time, and powers of two, whose quotients are ties.
    size = np.exp2(np.clip(shift + rng.integers(4, 10, count) - np.log2(np.maximum(mult, 1)), 3, 30))
    acc = (rng.uniform(-1, 1, (count, lanes)) * size[:, None]).astype(np.int64)
    tie = rng.random(count) < 0.4
    mult[tie] = 1 << rng.integers(0, 12, tie.sum())
    acc[tie] = (2 * rng.integers(-300, 300, (tie.sum(), lanes)) + 1) << rng.integers(0, 8, tie.sum())[:, None]
    bias = rng.integers(-(1 << 20), 1 << 20, count)
    bias[tie] = 0
    shift[tie] = rng.integers(0, 24, tie.sum())
    low = rng.integers(-128, 100, count)
    stage = rng.integers(0, len(OPERATIONS), count)
    fields = {
        "out_zp": rng.integers(-128, 128, count),
        "q_lo": low,
        "q_hi": rng.integers(low, 128),
        "post_shift": np.where(
            stage >= PRODUCT, rng.integers(4, 32, count), rng.integers(0, 16, count) * rng.integers(0, 2, count)
        ),
        "act": np.array([act for act, _ in OPERATIONS])[stage],
        "act_offset": rng.integers(0, 1 << 15, count),
        "act_limit": rng.integers(0, 1 << 16, count),
        "res": np.array([res for _, res in OPERATIONS])[stage],
        "res_zp": rng.integers(-128, 128, count),
        "res_mult": rng.integers(0, 1 << 16, count),
    }
    residual = rng.integers(-128, 128, (count, lanes))
    param = np.zeros(count, PARAM_DTYPE)
    param["bias"], param["mult"], param["shift"] = bias, mult, shift
    layout = output_config()
    size_bytes = -(-layout.size // 8)
    cfg = [
        np.frombuffer(layout.const({name: int(value[i]) for name, value in fields.items()}).as_value().value
                      .to_bytes(size_bytes, "little"), np.uint8)
        for i in range(count)
    ]  # fmt: skip
    valid = np.zeros(count + 200, np.int64)
    valid[np.sort(rng.choice(len(valid), count, replace=False))] = 1

    column = {name: torch.from_numpy(value)[:, None] for name, value in fields.items()}
    params = {
        name: torch.from_numpy(value)[:, None] for name, value in (("bias", bias), ("mult", mult), ("shift", shift))
    }
    expected = reference(torch.from_numpy(acc), params, column, torch.from_numpy(residual)).numpy()

    got = run_bench(
        lambda: OutputStage(lanes),
        "sim.cocotb.bench_output_stage",
        parameters={"lanes": lanes, "residual_stage": OutputStage.RESIDUAL_STAGE, "latency": OutputStage.LATENCY},
        arrays={
            "acc": acc,
            "residual": residual,
            "param": param.view(np.uint8).reshape(count, -1),
            "cfg": np.stack(cfg),
            "valid": valid,
        },
    )
    assert np.array_equal(got["q"], expected)
    assert len(np.unique(expected)) > 200, "the stimulus must cover the output range"
