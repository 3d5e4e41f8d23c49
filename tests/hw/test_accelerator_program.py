"""Whole programs, EXEC included, on the RTL in Amaranth's simulator against the instruction set simulator."""

from __future__ import annotations

from typing import Any

import pytest

from hw.spec.config import PRESETS
from hw.spec.csr import ErrorCause
from hw.spec.isa import INSTRUCTION_BYTES, Instruction, Opcode, Region, decode, encode
from sim.broken_programs import sound_program
from sim.iss import IssBackend
from sw.regions import build_regions
from tests.hw.accelerator_bench import DONE, ERROR, AcceleratorRig

CONFIGS = {
    "tiny": PRESETS["tiny"],
    "plain_oblong": PRESETS["tiny"].twin(rows=3, cols=5, stos=False),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_convolution_between_load_and_store(name: str) -> None:
    """All regions equal the ISS's; then a bad EXEC is reported, and after a soft reset the good one runs again."""
    config = CONFIGS[name]
    program = sound_program(config)
    expected = IssBackend(config).run(program, {}).regions
    images = [region.tobytes() for region in build_regions(program, {})]
    rig = AcceleratorRig(config, images, stall=0.1)
    count = program.instruction_count
    place = next(i for i, instruction in enumerate(program.instructions()) if instruction.opcode == Opcode.EXEC)
    good = images[0][place * INSTRUCTION_BYTES :][:INSTRUCTION_BYTES]
    bad = encode(Instruction(Opcode.EXEC, decode(good).values | {"sx": 3}))
    start = rig.bases[Region.CONST] - rig.dram.base + place * INSTRUCTION_BYTES
    output = rig.bases[Region.OUTPUT] - rig.dram.base

    async def bench(ctx: Any) -> None:
        await rig.begin(ctx)
        assert await rig.execute(count) == DONE, await rig.error()
        assert [rig.region(index) for index in range(4)] == list(expected)
        rig.dram.data[start : start + INSTRUCTION_BYTES] = bad
        rig.dram.data[output : output + rig.sizes[Region.OUTPUT]] = bytes(rig.sizes[Region.OUTPUT])
        assert await rig.execute(count) == ERROR
        assert (await rig.error())[:2] == (ErrorCause.BAD_FIELD, place)
        await rig.soft_reset()
        rig.dram.data[start : start + INSTRUCTION_BYTES] = good
        assert await rig.execute(count) == DONE, await rig.error()
        assert [rig.region(index) for index in range(4)] == list(expected)
        assert await rig.bus.get("EXEC_GEMM_LO") > 0

    rig.run(bench)
    assert any(expected[Region.OUTPUT]), "the expected output is not all zero"
