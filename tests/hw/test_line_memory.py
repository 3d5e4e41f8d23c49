# amaranth: UnusedElaboratable=no
"""Line memory against a byte array: beats in, words out."""

from __future__ import annotations

import random

import pytest
from amaranth.back import rtlil
from amaranth.sim import Simulator

from hw.line_memory import LineMemory

SHAPES = [
    (256, 4, 8),  # beat wider than word
    (256, 16, 4),  # word wider than beat
    (128, 8, 8),
    (64, 8, 64),  # a single line, many words
    (64, 64, 8),  # a single line, many beats
    (16, 1, 16),
]


@pytest.mark.parametrize(("size", "word", "beat"), SHAPES)
def test_random_traffic(size: int, word: int, beat: int) -> None:
    rng = random.Random(size + 3 * word + 5 * beat)
    dut = LineMemory(size, word, beat)
    line = max(word, beat)
    model = bytearray(size)
    seen = 0

    async def bench(ctx) -> None:
        nonlocal seen
        want: int | None = None
        for _ in range(600):
            write, read = rng.random() < 0.5, rng.random() < 0.6
            wr_addr, rd_addr = rng.randrange(size // beat), rng.randrange(size // word)
            data = rng.randbytes(beat)
            ctx.set(dut.wr_en, write)
            ctx.set(dut.wr_addr, wr_addr)
            ctx.set(dut.wr_data, int.from_bytes(data, "little"))
            ctx.set(dut.rd_en, read)
            ctx.set(dut.rd_addr, rd_addr)
            if read:
                want = int.from_bytes(model[rd_addr * word :][:word], "little")
            if write:
                model[wr_addr * beat : (wr_addr + 1) * beat] = data
            await ctx.tick()
            if want is not None:  # also when nothing was read: the word holds
                assert ctx.get(dut.rd_data) == want
                seen += read

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen > 200
    assert dut.depth * line == size and LineMemory.READ_LATENCY == 1


@pytest.mark.parametrize(("size", "word", "beat"), SHAPES)
def test_converts_to_one_memory(size: int, word: int, beat: int) -> None:
    text = rtlil.convert(LineMemory(size, word, beat), emit_src=False)
    assert text.count("\n  memory ") == 1
    assert f"memory width {8 * max(word, beat)} size {size // max(word, beat)} " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((48, 4, 4), "size_bytes .* not 48"), ((64, 3, 4), "word_bytes .* not 3"), ((64, 4, 0), "beat_bytes .* not 0"),
     ((16, 32, 4), "size_bytes=16 is less than one line of 32 bytes")],
)
def test_bad_sizes_are_refused(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LineMemory(*arguments)
