"""The integer arithmetic of the output stage: one object for hardware, ISS and tests.

All rounding is to nearest, ties to even, which is also what PyTorch's ``quantize_per_tensor`` does::

    def rshift_round(value, shift):
        half = (1 << shift) // 2
        odd = value >> shift & 1
        return value + half - 1 + odd >> shift if shift else value

    def clamp(value, low, high):
        return min(max(value, low), high)

    def sat16(value):
        return clamp(value, -(2**15), 2**15 - 1)

    def sat24(value):
        return clamp(value, -(2**23), 2**23 - 1)

In formulas, of an accumulator::

    t = sat24(rshift_round((acc + bias) * mult, shift))            mult, shift per output channel
    u = t + (r - res_zp) * res_mult                                with a residual operand r
    u = sat16(t) * (gate - res_zp)                                 with a gate;  neither: u = t
    w = sat16(u)                                                   with a gate: w = rshift_round(u, 8)
    v = w * clamp(w + act_offset, 0, act_limit)                    h-swish;  else v = u
    q = clamp(rshift_round(v, post_shift) + out_zp, q_lo, q_hi)

With t alone ``post_shift`` is 0 and this is the textbook ``clamp(rshift_round(acc*mult, shift) + zp, lo, hi)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NUMERICS", "Numerics", "QuantRangeError", "quantise", "quantize_multiplier", "rshift_round"]

Int = npt.NDArray[np.int64]


class QuantRangeError(ValueError):
    """A real multiplier or an accumulator that the integer arithmetic cannot hold."""


def rshift_round(value: npt.ArrayLike, shift: npt.ArrayLike) -> Int:
    """Shift right arithmetically by 0 to 63 bits, rounding to nearest, ties to even (int64, magnitudes below 2**62)."""
    x = np.asarray(value, np.int64)
    s = np.asarray(shift, np.int64)
    # Adding half an output step, less one unit if the result would be even, carries into it exactly when it must.
    some = (s > 0).astype(np.int64)
    odd = (x >> s) & some
    return (x + odd + ((some << np.maximum(s - 1, 0)) - some)) >> s


def quantise(real: npt.ArrayLike, scale: float, zero_point: int) -> npt.NDArray[np.int8]:
    """Return real numbers as int8: ``clip(round(x / scale) + zero_point)``, ties to even.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    values = np.asarray(real, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("values that are not finite cannot be quantised")
    return np.clip(np.rint(values / scale) + zero_point, -128, 127).astype(np.int8)


def quantize_multiplier(real: float, *, max_shift: int = 47) -> tuple[int, int]:
    """Return (mult, shift) with ``mult / 2**shift`` nearest to `real` and mult a 16-bit number, 0 < real < 2**16.

    mult lies in [2**15, 2**16) unless `real` is so small that shift reaches `max_shift`; 0 gives (0, 0).

    Raises
    ------
    QuantRangeError
        If `real` is negative, not finite or 2**16 - 0.5 or more.
    """
    if not (math.isfinite(real) and 0 <= real < 65535.5):
        raise QuantRangeError(f"multiplier {real} is outside 0 to 65535")
    if real == 0:
        return 0, 0
    exponent = math.frexp(real)[1]
    shift = min(max(16 - exponent, 0), max_shift)
    mult = round(math.ldexp(real, shift))
    if mult == 1 << 16:
        mult, shift = mult >> 1, shift - 1
    return mult, shift


@dataclass(frozen=True)
class Numerics:
    """Widths in bits of the output stage; :meth:`output` and :meth:`pool` are its golden model.

    Parameters
    ----------
    acc_width, bias_width
        Signed accumulator and bias.
    mult_width, shift_width
        Unsigned per-channel multiplier and shift; products are acc_width + mult_width bits, signed.
    mid_width
        Signed, saturated intermediate after the per-channel shift.
    factor_width
        Signed, saturated factor of an h-swish or gate product.
    gate_bits
        Bits rounded off a gate product in front of h-swish; the gate's magnitude has no more, so factor_width holds it.
    offset_width, limit_width
        Unsigned constants of h-swish.
    post_width
        Width of the final shift's field.
    pool_width
        Signed accumulator of global average pooling.
    """

    acc_width: int = 32
    bias_width: int = 32
    mult_width: int = 16
    shift_width: int = 6
    mid_width: int = 24
    factor_width: int = 16
    gate_bits: int = 8
    offset_width: int = 15
    limit_width: int = 16
    post_width: int = 5
    pool_width: int = 28

    @property
    def max_shift(self) -> int:
        """Largest useful shift; larger ones are refused by the compiler and the hardware's result is then undefined."""
        return self.acc_width + self.mult_width - 1

    @staticmethod
    def saturate(value: npt.ArrayLike, width: int) -> Int:
        """Clamp to the range of a signed number of `width` bits."""
        return np.clip(np.asarray(value, np.int64), -(1 << (width - 1)), (1 << (width - 1)) - 1)

    def check_accumulator(self, value: npt.ArrayLike) -> None:
        """Raise :class:`QuantRangeError` if a value exceeds the accumulator (the compiler proves that none does)."""
        self._check_width("accumulator", value, self.acc_width)

    @staticmethod
    def _check_width(what: str, value: npt.ArrayLike, width: int) -> None:
        array = np.asarray(value)
        limit = 1 << (width - 1)
        if array.size and (array.min() < -limit or array.max() >= limit):
            raise QuantRangeError(f"{what} {int(array.min())} .. {int(array.max())} exceeds {width} bits")

    def output(
        self,
        acc: npt.ArrayLike,
        bias: npt.ArrayLike,
        mult: npt.ArrayLike,
        shift: npt.ArrayLike,
        *,
        out_zp: int,
        q_lo: int,
        q_hi: int,
        post_shift: int = 0,
        residual: npt.ArrayLike | None = None,
        res_zp: int = 0,
        res_mult: int = 0,
        hswish: tuple[int, int] | None = None,
        gate: npt.ArrayLike | None = None,
    ) -> npt.NDArray[np.int8]:
        """Return int8 outputs of int32 accumulators.

        Parameters
        ----------
        acc, bias, mult, shift, residual, gate
            Integers that broadcast against each other; residual and gate are int8 values with zero point `res_zp`.
        hswish
            (act_offset, act_limit): apply h-swish.

        Raises
        ------
        QuantRangeError
            If accumulator plus bias exceeds `acc_width`.
        ValueError
            If there is a gate together with a residual: they share an operand and a multiplier.
        """
        if gate is not None and residual is not None:
            raise ValueError("a gate excludes a residual")
        total = np.asarray(acc, np.int64) + np.asarray(bias, np.int64)
        self.check_accumulator(total)
        mid = self.saturate(rshift_round(total * np.asarray(mult, np.int64), shift), self.mid_width)
        if residual is not None:
            mid = mid + (np.asarray(residual, np.int64) - res_zp) * res_mult
        if gate is not None:
            mid = self.saturate(mid, self.factor_width) * (np.asarray(gate, np.int64) - res_zp)
        if hswish is not None:
            offset, limit = hswish
            if gate is not None:
                mid = rshift_round(mid, self.gate_bits)
            factor = self.saturate(mid, self.factor_width)
            mid = factor * np.clip(factor + offset, 0, limit)
        out = rshift_round(mid, post_shift) + out_zp
        return np.clip(out, q_lo, q_hi).astype(np.int8)

    def pool(self, total: npt.ArrayLike, *, bias: int, mult: int, shift: int, zp: int) -> npt.NDArray[np.int8]:
        """Return the int8 global average of sums of int8: ``clamp(rshift_round((total+bias)*mult, shift) + zp)``.

        Raises
        ------
        QuantRangeError
            If sum plus bias exceeds `pool_width`.
        """
        value = np.asarray(total, np.int64) + bias
        self._check_width("pooled sum", value, self.pool_width)
        mid = self.saturate(rshift_round(value * mult, shift), self.mid_width)
        return np.clip(mid + zp, -128, 127).astype(np.int8)

    def to_dict(self) -> dict[str, Any]:
        """Widths by name, for the manifest."""
        return dict(self.__dict__)


NUMERICS = Numerics()
"""The arithmetic of the current ISA version."""
