"""PE: dot products in a stream without gaps, each captured and drained while the next one runs."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from sim.cocotb.bench import Bench, pack, unpack

JUNK = 0x55
"""Driven where the PE must not look."""

ABOVE = -123_456
"""The upper neighbour's result."""


class PEBench(Bench):
    """Drives one PE as its neighbours would.

    Arrays: ``a``, ``b`` (tiles, K): GEMM puts a on `h`, b on `v`; ST-OS puts b in the window, a on the tap wire.
    ``expected`` (tiles,): their dot products.  Parameters: ``stos`` (ports exist), ``mode``, ``mac_latency``.
    """

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, ["h_in", "v_in", "h", "v", "clear", "used", "go", "d_in", "d"])
        self.stos = self.parameters["mode"] == "stos"
        if self.parameters["stos"]:
            self.ports |= {name: getattr(dut, name) for name in ("stos", "w_row_n", "capture", "v_en")}
        self.a, self.b = (self.arrays[name].reshape(-1) for name in ("a", "b"))
        self.length = self.arrays["a"].shape[1]

    async def flush(self) -> None:
        """Clear the registers, which have no reset."""
        stos = {"stos": int(self.stos), "w_row_n": 0xFF, "capture": 0, "v_en": 1} if self.parameters["stos"] else {}
        await self.start(h_in=0, v_in=0, clear=1, used=0, go=1, d_in=0, **stos)
        for _ in range(4):
            await self.step()

    def operands(self, now: int) -> dict[str, int]:
        """Return the operand ports in cycle `now`; register `h` holds operand i in cycle i + 1."""
        count = len(self.a)

        def byte(values: np.ndarray, index: int) -> int:
            return pack([values[index]], 8) if 0 <= index < count else 0

        if not self.stos:
            return {"h_in": byte(self.a, now), "v_in": byte(self.b, now)}
        capture, load = now % self.length == 0, (now + 1) % self.length == 0
        return {
            "capture": int(capture),
            "h_in": JUNK if capture else byte(self.b, now),
            "v_en": int(load),
            "v_in": byte(self.b, now + 1) if load else JUNK,
            "w_row_n": byte(self.a, now - 1) ^ 0xFF,
        }

    def ends(self, index: int) -> bool:
        """Tell whether operand `index` is the last one of a tile."""
        return 0 <= index < len(self.a) and index % self.length == self.length - 1

    async def run(self) -> None:
        """Feed every tile; compare each result, and what is passed on to the neighbours."""
        latency, got = self.parameters["mac_latency"], []
        for now in range(-1, len(self.a) + latency + 2):
            clear = int(self.ends(now - 1 - latency))
            h, d = await self.step("h", "d", **self.operands(now), clear=clear, used=1, go=0, d_in=pack([ABOVE], 32))
            if 1 <= now <= len(self.a):
                expected = (self.b if self.stos else self.a)[now - 1]
                assert unpack(h, 8, 1)[0] == expected, f"cycle {now}: h"
            if self.ends(now - 2 - latency):
                got.append(int(unpack(d, 32, 1)[0]))
        assert np.array_equal(got, self.arrays["expected"]), f"got {got}, expected {self.arrays['expected'].tolist()}"

    async def drain(self) -> None:
        """Check that a captured result stays until ``go``, and that the chain then passes the upper neighbour's."""
        for _ in range(3):
            (d,) = await self.step("d", clear=0)
            assert unpack(d, 32, 1)[0] == self.arrays["expected"][-1], "a held result moved before go"
        await self.step(go=1)
        (d,) = await self.step("d", go=0)
        assert unpack(d, 32, 1)[0] == ABOVE, "the chain does not pass on"


@cocotb.test()
async def dot_products(dut: Any) -> None:
    """Every dot product equals the reference."""
    bench = PEBench(dut)
    await bench.flush()
    await bench.limited(bench.run())
    await bench.limited(bench.drain())
