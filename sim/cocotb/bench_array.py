"""Array and row: tiles in a stream, GEMM or ST-OS, results collected by a monitor."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from sim.cocotb.bench import Bench, pack, unpack


class ArrayBench(Bench):
    """Feeds tiles at a fixed distance and collects what drains.

    Parameters (of the task): ``rows``, ``cols``, ``halo``, ``mode`` ("gemm" or "stos"), ``has_stos``, ``interval``
    (cycles from one tile's last step to the next one's).  Arrays: GEMM ``w`` (tiles, rows, K), ``a`` (tiles, K, cols);
    ST-OS ``w`` (tiles, rows, K) in order of use, ``lines`` (tiles, rows, cols + halo).  Tile t's ``tile_rows[t]`` first
    rows count.  Hands back ``out`` (drained rows in order, cols) and ``cycles``, the cycle of each, and ``last``, the
    cycle of each tile's last step.
    """

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, ["w", "a", "last", "tile_rows", "flush", "bypass", "bypass_valid", "out", "out_valid"])
        self.mode, self.has_stos = self.parameters["mode"], self.parameters["has_stos"]
        if self.has_stos:
            self.ports |= {name: getattr(dut, name) for name in ("stos", "v_en", "capture")}
        self.rows, self.cols, self.halo = (self.parameters[name] for name in ("rows", "cols", "halo"))
        self.out: list[np.ndarray] = []
        self.cycles: list[int] = []

    async def prepare(self) -> None:
        """Reset, and flush the PEs, which have no reset."""
        extra = {"stos": int(self.mode == "stos"), "v_en": 0, "capture": 0} if self.has_stos else {}
        await self.start(w=0, a=0, last=0, tile_rows=0, flush=1, bypass=0, bypass_valid=0, **extra)
        for _ in range(self.rows + self.cols + 8):
            await self.step()
        await self.step(flush=0)

    def schedule(self) -> tuple[list[dict[str, int]], list[int]]:
        """Return the ports' values cycle by cycle, and the cycle of every tile's last step."""
        tiles, _, taps = self.arrays["w"].shape
        interval = self.parameters["interval"]
        ends = [self.rows + 2 + taps + interval * tile for tile in range(tiles)]
        steps: list[dict[str, int]] = [{} for _ in range(ends[-1] + 1)]
        for tile, end in enumerate(ends):
            first = end - taps + 1
            for k in range(taps):
                steps[first + k]["w"] = pack(self.arrays["w"][tile, :, k], 8)
            steps[end] |= {"last": 1, "tile_rows": int(self.arrays["tile_rows"][tile])}
            if self.mode == "gemm":
                for k in range(taps):
                    lanes = np.concatenate([np.full(self.halo, 0x33), self.arrays["a"][tile, k]])
                    steps[first + k]["a"] = pack(lanes, 8)
                continue
            # Lines enter from the bottom row's to the top row's, then one cycle copies them into the windows.
            steps[first - 1]["capture"] = 1
            for index in range(self.rows):
                at = first - 2 - index
                steps[at] |= {"v_en": 1, "a": pack(self.arrays["lines"][tile, index], 8)}
        return steps, ends

    async def run(self) -> None:
        """Play the schedule and then idle until the last tile must have drained."""
        steps, ends = self.schedule()
        idle = {"w": 0, "a": 0, "last": 0}
        if self.has_stos:
            idle |= {"v_en": 0, "capture": 0}
        origin = self.cycle + 1
        for values in [*steps, *[{}] * (2 * self.rows + self.cols + 16)]:
            valid, out = await self.step("out_valid", "out", **{**idle, **values})
            if valid:
                self.out.append(unpack(out, 32, self.cols))
                self.cycles.append(self.cycle - origin)
        self.hand_back(out=np.array(self.out), cycles=self.cycles, last=ends)


@cocotb.test()
async def tiles(dut: Any) -> None:
    """Run every tile; the caller compares."""
    bench = ArrayBench(dut)
    await bench.prepare()
    await bench.limited(bench.run())
