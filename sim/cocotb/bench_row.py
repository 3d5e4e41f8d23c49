"""Row: 1-D convolutions with the halo's window, and systolic dot products."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from sim.cocotb.bench import Bench, pack, unpack

NO_TAP = 0xFF
"""What is broadcast without a tap: the complement of 0."""


class RowBench(Bench):
    """Drives one row: its vertical chain, left edge and taps.

    Parameters: ``cols``, ``halo``, ``mac_latency``.  Arrays: ST-OS ``lines`` (tiles, halo + cols), ``taps``
    (tiles, K) in order of use, ``conv`` (tiles, cols) expected; GEMM ``w`` (K,), ``a`` (K, cols), ``product`` (cols,).
    """

    def __init__(self, dut: Any) -> None:
        stos = ["halo_en", "halo_out", "use_taps", "w_row_n", "capture", "v_en"]
        super().__init__(dut, ["h_in", "v_in", "v", "clear", "used", "go", "d_in", "d", *stos])
        self.cols, self.halo = self.parameters["cols"], self.parameters["halo"]
        self.all = (1 << self.cols) - 1

    async def flush(self, *, stos: bool) -> None:
        """Clear the PEs, which have no reset."""
        quiet = {"h_in": 0, "v_in": 0, "d_in": 0, "w_row_n": NO_TAP, "capture": 0, "v_en": 1, "halo_out": 0}
        quiet["halo_en"] = (1 << self.halo) - 1
        await self.step(**quiet, clear=self.all, used=0, go=self.all, use_taps=self.all * stos)
        for _ in range(self.cols + self.halo + 4):
            await self.step()

    def halo_at(self, now: int) -> dict[str, int]:
        """Return which halo registers load, and which one goes to column 0, `now` cycles after the columns' load.

        Capture comes one cycle after that load; register k is halo - k cycles late for both.
        """
        loads, enters = (1 << self.halo) >> now, (1 << self.halo + 1) >> now
        return {"halo_en": loads, "halo_out": enters & (1 << self.halo) - 1}

    async def convolve(self) -> None:
        """Run every tile, one after the other: load, capture, taps, take; then compare."""
        latency = self.parameters["mac_latency"]
        for line, taps, expected in zip(*(self.arrays[name] for name in ("lines", "taps", "conv")), strict=True):
            await self.step(v_en=1, v_in=pack(line, 8), clear=0, go=0, halo_en=0, halo_out=0)
            await self.step(v_en=0, capture=1, **self.halo_at(1))
            for now, tap in enumerate(taps, 2):
                await self.step(capture=0, w_row_n=pack([~int(tap)], 8), **self.halo_at(now))
            for _ in range(latency - 1):
                await self.step(w_row_n=NO_TAP, halo_en=0, halo_out=0)
            await self.step(w_row_n=NO_TAP, clear=self.all, used=1, halo_en=0, halo_out=0)
            d, passed = await self.step("d", "v", clear=0)
            assert np.array_equal(unpack(passed, 8, len(line)), line), "the vertical chain changed the line"
            assert np.array_equal(unpack(d, 32, self.cols), expected), f"{unpack(d, 32, self.cols)} != {expected}"

    async def multiply(self) -> None:
        """One tile of a matrix product: weights from the left, activations skewed by their column."""
        w, a, expected = (self.arrays[name] for name in ("w", "a", "product"))
        length, latency, got = len(w), self.parameters["mac_latency"], np.zeros(self.cols, np.int64)
        for now in range(length + self.cols + latency + 2):
            lanes = [int(a[now - j, j]) if 0 <= now - j < length else 0 for j in range(self.cols)]
            done = [now - j == length + latency for j in range(self.cols)]
            (d,) = await self.step(
                "d",
                h_in=pack([w[now]], 8) if now < length else 0,
                v_in=pack([0x44] * self.halo + lanes, 8),
                v_en=1,
                clear=pack(done, 1),
                used=1,
                go=0,
            )
            for j in range(self.cols):
                if now - j == length + latency + 1:
                    got[j] = unpack(d, 32, self.cols)[j]
        assert np.array_equal(got, expected), f"{got} != {expected}"


@cocotb.test()
async def row(dut: Any) -> None:
    """Both modes, one after the other, on the same row."""
    bench = RowBench(dut)
    await bench.start()
    await bench.flush(stos=True)
    await bench.limited(bench.convolve())
    await bench.flush(stos=False)
    await bench.limited(bench.multiply())
