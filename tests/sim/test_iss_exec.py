"""EXEC on the ISS against PyTorch's integer convolutions, and against a literal reading of its specification."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
import torch

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Activation, Instruction, Mode, Opcode, ResidualOp, Target
from hw.spec.numerics import NUMERICS
from hw.spec.program import PARAM_DTYPE
from sim.iss import IssBackend
from sim.iss.machine import Machine
from sim.random_programs import random_inputs, random_program

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "edge16": PRESETS["edge16"],
    "no_stos": PRESETS["edge8"].twin(stos=False),
    "odd": AcceleratorConfig(rows=5, cols=11, act_kib=64, max_kernel=9, axi_data_width=64),
    "one_row": AcceleratorConfig(rows=1, cols=8, act_kib=64, max_kernel=15, axi_data_width=64),
}


def weight(config: AcceleratorConfig, weights: np.ndarray, ins: Instruction, c, ci, ky, kx) -> np.ndarray:
    """W(c, ci, ky, kx) as isa.EXEC defines it, for integers or arrays (ci is ignored by depthwise layouts)."""
    block, i = c // config.rows, c % config.rows
    n = np.minimum(config.rows, ins["cout"] - block * config.rows)
    kh, kw = ins["kh"], ins["kw"]
    if ins["mode"] == Mode.GEMM and not ins["depthwise"]:
        word = ins["w_base"] + ((block * ins["cin"] + ci) * kh + ky) * kw + kx
    else:
        word = ins["w_base"] + (block * kh + ky) * kw + (kw - 1 - kx)
    return weights[word * config.weight_word_bytes + n - 1 - i].astype(np.int64)


def in_segments(ins: Instruction, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return whether a pixel (arrays or integers) of the output belongs to an image line."""
    if not ins["seg"]:
        return (y >= 0) & (x >= 0)
    in_gap = x % ins["seg"] >= ins["seg"] - ins["seg_gap"]
    return ~(in_gap | ((y >= ins["out_h"] - ins["seg_missing"]) & (x >= ins["out_w"] - ins["seg"])))


def finish(act: np.ndarray, after: np.ndarray, params: np.ndarray, ins: Instruction, acc: np.ndarray) -> None:
    """Requantise accumulators (cout, out_h, out_w) with the golden arithmetic, from `act` before the instruction."""
    cout, out_h, out_w = acc.shape
    entries = params.view(PARAM_DTYPE)[ins["p_base"] : ins["p_base"] + cout]
    c, y, x = np.ogrid[:cout, :out_h, :out_w]
    place = c * ins["out_cs"] + y * ins["out_pitch"] + x
    more = {}
    if ins["res"] == ResidualOp.ADD:
        more = {"residual": act[ins["res_base"] + place], "res_zp": ins["res_zp"], "res_mult": ins["res_mult"]}
    if ins["res"] == ResidualOp.SCALE:
        more = {"gate": act[ins["res_base"] + c], "res_zp": ins["res_zp"]}
    if ins["act"] == Activation.HSWISH:
        more["hswish"] = ins["act_offset"], ins["act_limit"]
    q = NUMERICS.output(
        acc,
        *(entries[name].astype(np.int64)[:, None, None] for name in ("bias", "mult", "shift")),
        out_zp=ins["out_zp"], q_lo=ins["q_lo"], q_hi=ins["q_hi"], post_shift=ins["post_shift"], **more,
    )  # fmt: skip
    inside = in_segments(ins, y, x)
    beside = ins["res"] == ResidualOp.POOL
    if beside or not ins["gap"]:
        after[ins["out_base"] + place] = np.where(inside, q, ins["out_zp"])
    if ins["gap"]:
        sums = (q.astype(np.int64) * inside).sum(axis=(1, 2))
        base, stride = (ins["res_base"], 1) if beside else (ins["out_base"], ins["out_cs"])
        after[base + np.arange(cout) * stride] = NUMERICS.pool(
            sums, bias=ins["gap_bias"], mult=ins["gap_mult"], shift=ins["gap_shift"], zp=ins["gap_zp"]
        )


def literal_finish(act: np.ndarray, after: np.ndarray, params: np.ndarray, ins: Instruction, acc: np.ndarray) -> None:
    """The same as :func:`finish` in exact integers and fractions, one pixel after another."""

    def rshift_round(value: int, shift: int) -> int:
        return round(Fraction(value, 1 << shift))  # Python rounds ties to even

    def clamp(value: int, low: int, high: int) -> int:
        return min(max(value, low), high)

    def saturate(value: int, width: int) -> int:
        return clamp(value, -(1 << width - 1), (1 << width - 1) - 1)

    for c in range(ins["cout"]):
        bias, mult, shift, _ = (int(value) for value in params.view(PARAM_DTYPE)[ins["p_base"] + c])
        total = 0
        for y, x in np.ndindex(acc.shape[1:]):
            u = saturate(rshift_round((int(acc[c, y, x]) + bias) * mult, shift), 24)
            if ins["res"] == ResidualOp.ADD:
                place = ins["res_base"] + c * ins["out_cs"] + y * ins["out_pitch"] + x
                u += (int(act[place]) - ins["res_zp"]) * ins["res_mult"]
            if ins["res"] == ResidualOp.SCALE:
                u = saturate(u, 16) * (int(act[ins["res_base"] + c]) - ins["res_zp"])
            if ins["act"] == Activation.HSWISH:
                h = rshift_round(u, 8) if ins["res"] == ResidualOp.SCALE else saturate(u, 16)
                u = h * clamp(h + ins["act_offset"], 0, ins["act_limit"])
            q = clamp(rshift_round(u, ins["post_shift"]) + ins["out_zp"], ins["q_lo"], ins["q_hi"])
            seg, last = ins["seg"], x >= ins["out_w"] - ins["seg"]
            if seg and (x % seg >= seg - ins["seg_gap"] or (y >= ins["out_h"] - ins["seg_missing"] and last)):
                q = ins["out_zp"]
            else:
                total += q
            if not ins["gap"] or ins["res"] == ResidualOp.POOL:
                after[ins["out_base"] + c * ins["out_cs"] + y * ins["out_pitch"] + x] = q
        if ins["gap"]:
            mean = saturate(rshift_round((total + ins["gap_bias"]) * ins["gap_mult"], ins["gap_shift"]), 24)
            place = ins["res_base"] + c if ins["res"] == ResidualOp.POOL else ins["out_base"] + c * ins["out_cs"]
            after[place] = clamp(mean + ins["gap_zp"], -128, 127)


def torch_accumulators(config: AcceleratorConfig, act: np.ndarray, weights: np.ndarray, ins: Instruction) -> np.ndarray:
    single = ins["mode"] != Mode.GEMM or bool(ins["depthwise"])
    cout, kh, kw, sy, sx = (ins[name] for name in ("cout", "kh", "kw", "sy", "sx"))
    channels = cout if single else ins["cin"]
    # Exactly the window that the outputs need: pads may be negative, and it may begin behind the tensor's end.
    c, y, x = np.ogrid[:channels, : (ins["out_h"] - 1) * sy + kh, : (ins["out_w"] - 1) * sx + kw]
    y, x = y - ins["pad_y"], x - ins["pad_x"]
    if ins["fold"]:  # image lines go on in the segment before or behind
        turn = np.where((-2 * ins["in_h"] <= y) & (y < 3 * ins["in_h"]), y // max(ins["in_h"], 1), 0)
        y, x = y - turn * ins["in_h"], x + turn * ins["seg"]
    there = (y >= 0) & (y < ins["in_h"]) & (x >= 0) & (x < ins["in_w"])
    address = np.where(there, ins["in_base"] + c * ins["in_cs"] + y * ins["in_pitch"] + x, 0)
    padded = torch.from_numpy(np.where(there, act[address], ins["in_zp"]).astype(np.float64))
    if ins["mode"] == Mode.MAX:
        return torch.nn.functional.max_pool2d(padded[None], (kh, kw), (sy, sx))[0].numpy().astype(np.int64)
    if ins["mode"] == Mode.VEC:
        kernel = torch.ones(cout, 1, 1, 1, dtype=torch.float64)
    else:
        inner = 1 if single else channels
        taps = weight(config, weights, ins, *np.ogrid[:cout, :inner, :kh, :kw])
        kernel = torch.from_numpy(np.broadcast_to(taps, (cout, inner, kh, kw)).astype(np.float64))
    acc = torch.nn.functional.conv2d(padded[None], kernel, stride=(sy, sx), groups=cout if single else 1)[0]
    return acc.numpy().astype(np.int64)


def literal_accumulators(
    config: AcceleratorConfig, act: np.ndarray, weights: np.ndarray, ins: Instruction
) -> np.ndarray:
    """The loops of isa.EXEC, word for word."""

    def read(c: int, y: int, x: int) -> int:
        if 0 <= y < ins["in_h"] and 0 <= x < ins["in_w"]:
            return int(act[ins["in_base"] + c * ins["in_cs"] + y * ins["in_pitch"] + x])
        if ins["fold"] and -2 * ins["in_h"] <= y < 0:
            return read(c, y + ins["in_h"], x - ins["seg"])
        if ins["fold"] and ins["in_h"] <= y < 3 * ins["in_h"]:
            return read(c, y - ins["in_h"], x + ins["seg"])
        return ins["in_zp"]

    mode, sy, sx, pad_y, pad_x = ins["mode"], ins["sy"], ins["sx"], ins["pad_y"], ins["pad_x"]
    acc = np.zeros((ins["cout"], ins["out_h"], ins["out_w"]), np.int64)
    for c, y, x in np.ndindex(acc.shape):
        taps = [(ky, kx) for ky in range(ins["kh"]) for kx in range(ins["kw"])]
        if mode == Mode.VEC:
            acc[c, y, x] = read(c, y * sy - pad_y, x * sx - pad_x)
        elif mode == Mode.MAX:
            acc[c, y, x] = max(read(c, y * sy + ky - pad_y, x * sx + kx - pad_x) for ky, kx in taps)
        elif mode == Mode.GEMM and not ins["depthwise"]:
            acc[c, y, x] = sum(
                weight(config, weights, ins, c, ci, ky, kx) * read(ci, y * sy + ky - pad_y, x * sx + kx - pad_x)
                for ci in range(ins["cin"]) for ky, kx in taps
            )  # fmt: skip
        else:
            acc[c, y, x] = sum(
                weight(config, weights, ins, c, 0, ky, kx) * read(c, y * sy + ky - pad_y, x * sx + kx - pad_x)
                for ky, kx in taps
            )
    return acc


@dataclass
class Checker:
    """Observer: predicts the scratchpad after every EXEC from the state before it and compares all bytes."""

    config: AcceleratorConfig
    accumulators: Callable[..., np.ndarray]
    finish: Callable[..., None]
    seen: Counter[object] = field(default_factory=Counter)
    before: np.ndarray | None = None

    def __call__(self, pc: int, ins: Instruction, machine: Machine) -> None:
        act = machine.onchip[Target.ACT].view(np.int8)
        if ins.opcode == Opcode.EXEC:
            weights = machine.onchip[Target.WEIGHT].view(np.int8)
            expected = self.before.copy()
            acc = self.accumulators(self.config, self.before, weights, ins)
            self.finish(self.before, expected, machine.onchip[Target.PARAM], ins, acc)
            assert (act == expected).all(), f"instruction {pc}: {ins}"
            name = Mode(ins["mode"]).name + "_DW" * ins["depthwise"]
            stage = (ResidualOp(ins["res"]).name, Activation(ins["act"]).name)
            flags = [flag for flag in ("gap", "overlap", "seg", "seg_gap", "seg_missing", "fold") if ins[flag]]
            flags += [(name, flag) for flag in (*flags, *stage)] if ins["seg"] else []
            flags += [("fold", "kw")] if ins["fold"] and ins["kw"] > 1 else []
            flags += [("fold", "sy")] if ins["fold"] and ins["sy"] > 1 else []
            self.seen.update((name, *stage, *flags, (name, *stage, ins["gap"])))
        self.before = act.copy()


@pytest.mark.parametrize("name", CONFIGS)
def test_random_programs_against_torch(name: str) -> None:
    config = CONFIGS[name]
    checker = Checker(config, torch_accumulators, finish)
    for seed in range(48):
        program = random_program(config, seed, cycles=60_000)
        IssBackend(config, observer=checker).run(program, random_inputs(program, seed))
    stos = {"STOS_CH", "STOS_LN"}
    modes = {"GEMM", "GEMM_DW", "VEC", "MAX"} | (stos if config.stos else set())
    wanted = {*modes, "gap", "overlap", "ADD", "SCALE", "HSWISH", "seg_gap", "seg_missing"}
    wanted |= {("fold", "kw"), ("fold", "sy"), *((mode, "fold") for mode in stos)} if config.stos else set()
    wanted |= {(mode, "seg") for mode in modes}
    assert all(checker.seen[what] >= 2 for what in wanted), checker.seen
    assert not stos & set(checker.seen) - wanted


@pytest.mark.parametrize("mode", Mode)
def test_literal_reading_of_the_specification(mode: Mode) -> None:
    config = PRESETS["tiny"]
    checker = Checker(config, literal_accumulators, literal_finish)
    for seed in range(6):
        program = random_program(config, 1000 + seed, execs=3, cycles=1500, modes=(mode,))
        IssBackend(config, observer=checker).run(program, random_inputs(program, seed))
    assert checker.seen[mode.name] + checker.seen[f"{mode.name}_DW"] == 18
    assert checker.seen["seg"] >= 2
