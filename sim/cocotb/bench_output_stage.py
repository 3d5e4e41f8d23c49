"""Output stage: one vector per cycle, with gaps, each with its own channel's parameters and settings."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from sim.cocotb.bench import Bench, pack, unpack


class OutputStageBench(Bench):
    """Feeds vectors and collects the results.

    Arrays: ``acc`` (vectors, lanes), ``residual`` (vectors, lanes), ``param`` and ``cfg`` (vectors, bytes of the packed
    structs), ``valid`` (cycles,) with as many ones as vectors.  Parameters: ``lanes``, ``residual_stage``, ``latency``.
    Hands back ``q`` (vectors, lanes).
    """

    def __init__(self, dut: Any) -> None:
        super().__init__(dut, ["valid", "acc", "param", "cfg", "residual", "out_valid", "q"])

    async def run(self) -> None:
        """Drive every vector; the residual follows its vector by ``residual_stage`` cycles."""
        lanes, latency = self.parameters["lanes"], self.parameters["latency"]
        valid = np.concatenate([self.arrays["valid"], np.zeros(latency + 2, np.int64)])
        index = np.where(valid, np.cumsum(valid) - 1, -1)
        got = []
        for now, vector in enumerate(index):
            late = now - self.parameters["residual_stage"]
            residual = index[late] if late >= 0 else -1
            # Where nothing is valid, noise: it must not matter.
            out_valid, q = await self.step(
                "out_valid",
                "q",
                valid=int(valid[now]),
                acc=pack(self.arrays["acc"][vector], 32),
                param=int.from_bytes(self.arrays["param"][vector].tobytes(), "little"),
                cfg=int.from_bytes(self.arrays["cfg"][vector].tobytes(), "little"),
                residual=pack(self.arrays["residual"][residual], 8),
            )
            assert out_valid == (now >= latency and valid[now - latency]), f"cycle {now}: out_valid {out_valid}"
            if out_valid:
                got.append(unpack(q, 8, lanes))
        self.hand_back(q=np.array(got))


@cocotb.test()
async def vectors(dut: Any) -> None:
    """Run every vector; the caller compares."""
    bench = OutputStageBench(dut)
    await bench.start(valid=0, acc=0, param=0, cfg=0, residual=0)
    await bench.limited(bench.run())
