"""EXEC: convolution or maximum, output stage and pooling of one strip, exact and vectorised."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.spec.isa import Activation, Instruction, Mode, ResidualOp, Target
from hw.spec.numerics import NUMERICS, QuantRangeError
from hw.spec.program import PARAM_DTYPE
from sim.iss.machine import Machine, UndefinedUseError
from sim.iss.operands import Operands

__all__ = ["execute"]

_IM2COL_BYTES = 1 << 25
"""Largest im2col matrix built at once; longer strips are computed in groups of lines."""

_FLOAT32_EXACT = 1 << 24
"""Integers below this are exact in float32, whatever the order of summation."""

_MAX_ABS = 128
"""Largest magnitude of an int8."""


def execute(machine: Machine, instruction: Instruction, what: Operands) -> None:
    """Carry out an EXEC whose operands have been checked.

    Raises
    ------
    UndefinedUseError
        If an accumulator overflows or a parameter's shift is larger than the arithmetic allows.
    """
    act = machine.onchip[Target.ACT].view(np.int8)
    window = _window(act, instruction, what)
    if what.mode == Mode.VEC:
        acc = window[:, :: instruction["sy"], :: instruction["sx"]]
    elif what.mode == Mode.MAX:
        acc = _maximum(window, instruction)
    elif what.depthwise:
        acc = _depthwise(window, _weights(machine, what, instruction["cout"]), instruction)
    else:
        acc = _gemm(window, _weights(machine, what, instruction["cout"]), instruction)
    params = machine.onchip[Target.PARAM].view(PARAM_DTYPE)[what.param_entries.start : what.param_entries.stop]
    if (worst := int(params["shift"].max())) > NUMERICS.max_shift:
        raise UndefinedUseError(f"parameter shift {worst} exceeds {NUMERICS.max_shift}")
    try:
        NUMERICS.check_accumulator(acc)
        out = NUMERICS.output(
            acc,
            *(params[name][:, None, None] for name in ("bias", "mult", "shift")),
            out_zp=instruction["out_zp"],
            q_lo=instruction["q_lo"],
            q_hi=instruction["q_hi"],
            post_shift=instruction["post_shift"],
            **_options(act, instruction, what),
        )
        summed = out
        if instruction["seg"]:
            outside = _outside_segments(instruction)
            summed, out = np.where(outside, 0, out), np.where(outside, instruction["out_zp"], out)
        if instruction["gap"]:
            pooled = NUMERICS.pool(
                summed.sum(axis=(1, 2), dtype=np.int64)[:, None, None],
                bias=instruction["gap_bias"],
                mult=instruction["gap_mult"],
                shift=instruction["gap_shift"],
                zp=instruction["gap_zp"],
            )
            if what.pooled is None:
                out = pooled
            else:
                what.pooled.view(act)[...] = pooled
    except QuantRangeError as error:
        raise UndefinedUseError(str(error)) from None
    what.sink.view(act)[...] = out


def _outside_segments(instruction: Instruction) -> npt.NDArray[np.bool_]:
    """Return which pixels (out_h, out_w) of packed lines belong to no image line."""
    seg, out_h, out_w = instruction["seg"], instruction["out_h"], instruction["out_w"]
    y, x = np.ogrid[:out_h, :out_w]
    missing = (y >= out_h - instruction["seg_missing"]) & (x >= out_w - seg)
    return (x % seg >= seg - instruction["seg_gap"]) | missing


def _options(act: npt.NDArray[np.int8], instruction: Instruction, what: Operands) -> dict[str, Any]:
    """Return the arguments of Numerics.output that depend on ``act`` and ``res``."""
    options: dict[str, Any] = {}
    if instruction["act"] == Activation.HSWISH:
        options["hswish"] = instruction["act_offset"], instruction["act_limit"]
    if what.second is not None:
        options["res_zp"] = instruction["res_zp"]
        if instruction["res"] == ResidualOp.SCALE:
            options["gate"] = what.second.view(act)  # (cout, 1, 1)
        else:
            options |= {"residual": what.second.view(act), "res_mult": instruction["res_mult"]}
    return options


def _window(act: npt.NDArray[np.int8], instruction: Instruction, what: Operands) -> npt.NDArray[np.int8]:
    """Return the input the strip needs, (channels, rows.size, columns.size), the zero point outside the tensor."""
    shape = (what.channels, what.parts[0].rows.size, what.parts[0].columns.size)
    sources = [part.source.view(act) for part in what.parts]
    if sources[0].shape == shape:
        return sources[0]
    window = np.full(shape, instruction["in_zp"], np.int8)
    for part, source in zip(what.parts, sources, strict=True):
        if source.size:
            window[:, part.rows.low : part.rows.high, part.columns.low : part.columns.high] = source
    return window


def _weights(machine: Machine, what: Operands, cout: int) -> npt.NDArray[np.int8]:
    """Return the weight words as (cout, steps): lane n-1-i of a block of n channels belongs to its channel i."""
    config = machine.config
    words = machine.onchip[Target.WEIGHT].view(np.int8).reshape(config.weight_words, config.weight_word_bytes)
    blocks = -(-cout // config.rows)
    used = words[what.weight_words.start : what.weight_words.stop].reshape(blocks, -1, config.weight_word_bytes)
    weights = np.empty((cout, used.shape[1]), np.int8)
    for block in range(blocks):
        first = block * config.rows
        n = min(config.rows, cout - first)
        weights[first : first + n] = used[block, :, :n][:, ::-1].T
    return weights


def _gemm(
    window: npt.NDArray[np.int8], weights: npt.NDArray[np.int8], instruction: Instruction
) -> npt.NDArray[np.int64]:
    """Return int64 accumulators (cout, out_h, out_w) by one exact floating-point product per group of lines."""
    kh, kw, sy, sx = (instruction[name] for name in ("kh", "kw", "sy", "sx"))
    out_h, out_w = instruction["out_h"], instruction["out_w"]
    bound = int(np.abs(weights, dtype=np.int32).sum(axis=1, dtype=np.int64).max()) * _MAX_ABS
    dtype = np.float32 if bound < _FLOAT32_EXACT else np.float64
    matrix = weights.astype(dtype)
    acc = np.empty((weights.shape[0], out_h, out_w), np.int64)
    # (cin, kh, kw, out_h, out_w), no copy yet
    patches = np.lib.stride_tricks.sliding_window_view(window, (kh, kw), axis=(1, 2))[:, ::sy, ::sx]
    patches = patches.transpose(0, 3, 4, 1, 2)
    group = max(1, _IM2COL_BYTES // (weights.shape[1] * out_w * matrix.itemsize))
    for y in range(0, out_h, group):
        columns = patches[:, :, :, y : y + group].astype(dtype, order="C").reshape(weights.shape[1], -1)
        acc[:, y : y + group] = (matrix @ columns).reshape(weights.shape[0], -1, out_w)
    return acc


def _depthwise(
    window: npt.NDArray[np.int8], weights: npt.NDArray[np.int8], instruction: Instruction
) -> npt.NDArray[np.int32]:
    """Return int32 accumulators (channels, out_h, out_w): one shifted multiply-add per tap (225 taps fit easily)."""
    sy, sx, out_h, out_w = (instruction[name] for name in ("sy", "sx", "out_h", "out_w"))
    taps = weights.reshape(-1, instruction["kh"], instruction["kw"])[:, :, ::-1]  # a line's taps are stored last first
    wide = window.astype(np.int32)
    acc = np.zeros((window.shape[0], out_h, out_w), np.int32)
    product = np.empty_like(acc)
    for ky in range(taps.shape[1]):
        lines = wide[:, ky : ky + (out_h - 1) * sy + 1 : sy]
        for kx in range(taps.shape[2]):
            pixels = lines[:, :, kx : kx + (out_w - 1) * sx + 1 : sx]
            np.multiply(pixels, taps[:, ky, kx, None, None], out=product, dtype=np.int32)
            acc += product
    return acc


def _maximum(window: npt.NDArray[np.int8], instruction: Instruction) -> npt.NDArray[np.int8]:
    """Return int8 maxima (channels, out_h, out_w): of the window's columns first, then of its lines."""
    sy, sx, out_h, out_w = (instruction[name] for name in ("sy", "sx", "out_h", "out_w"))
    lines = (window[:, ky : ky + (out_h - 1) * sy + 1 : sy] for ky in range(instruction["kh"]))
    tall = reduce(np.maximum, lines)
    return reduce(np.maximum, (tall[:, :, kx : kx + (out_w - 1) * sx + 1 : sx] for kx in range(instruction["kw"])))
