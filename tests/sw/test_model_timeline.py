"""The timeline of compiled programs: bursts, memory, order, and how long a prediction takes."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from hw.spec.config import PRESETS, AcceleratorConfig
from hw.spec.isa import Instruction, Opcode, Queue, assemble
from hw.spec.program import Program
from sw.compiler import compile_graph
from sw.compiler.traffic import loaded_bytes
from sw.model.bursts import bursts
from sw.model.channels import Memory
from sw.model.timeline import timeline
from sw.model.trace import TraceEvent
from tests.sw.ir_graphs import block_net

CONFIG = PRESETS["tiny"]


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_graph(block_net(0)[1], CONFIG)


@pytest.mark.parametrize("width", [64, 128, 512])
def test_bursts_cover_rows_and_cross_no_page(width: int) -> None:
    config = AcceleratorConfig(rows=64, cols=64, axi_data_width=width)
    rng = np.random.default_rng(width)
    for _ in range(50):
        names = {"dram_offset": 9000, "rows": 9, "row_bytes": 6000, "dram_stride": 9000}
        names |= {"mem_addr": 9000, "mem_stride": 9000}
        load = Instruction(Opcode.LOAD, {name: int(rng.integers(1, high)) for name, high in names.items()})
        found = bursts(config, load)
        assert sum(found.beats) * config.axi_bytes == loaded_bytes(load, config.axi_bytes)
        number = 0
        for row, end in enumerate(found.row_ends):
            start = load["dram_offset"] + row * load["dram_stride"]
            beat = start // config.axi_bytes
            for beats, address in zip(found.beats[number:end], found.addresses[number:end], strict=True):
                assert address - load["mem_addr"] - row * load["mem_stride"] == max(beat * config.axi_bytes - start, 0)
                first, last = beat * config.axi_bytes, (beat + beats) * config.axi_bytes - 1
                assert 1 <= beats <= 64 and first // 4096 == last // 4096
                beat += beats
            number = end
        assert number == len(found.beats)


def test_every_instruction_runs_once_in_the_order_of_its_queue(program: Program) -> None:
    predicted = timeline(program)
    opcodes = [instruction.opcode for instruction in program.instructions()]
    for queue, opcode in ((Queue.LOAD, Opcode.LOAD), (Queue.EXEC, Opcode.EXEC), (Queue.STORE, Opcode.STORE)):
        mine = [event for event in predicted.trace if event.queue == queue]
        assert [event.pc for event in mine] == [pc for pc, code in enumerate(opcodes) if code == opcode]
        assert all(a.done < b.done and a.start < b.start for a, b in zip(mine, mine[1:], strict=False))
    assert predicted.cycles > max(event.done for event in predicted.trace)


def test_a_taker_starts_after_its_giver(program: Program) -> None:
    events = sorted(timeline(program).trace, key=lambda event: event.pc)
    stream = program.instructions()

    def marked(queue: Queue, mask: str, other: Queue) -> list[TraceEvent]:
        return [event for event in events if event.queue == queue and stream[event.pc][mask] >> other & 1]

    pairs = 0
    for taker in Queue:
        for giver in Queue:
            gives, takes = marked(giver, "signal", taker), marked(taker, "wait", giver)
            assert all(take.start > give.done for take, give in zip(takes, gives, strict=False))
            pairs += len(takes)
    assert pairs > 10


def test_slower_memory_takes_longer(program: Program) -> None:
    cycles = [timeline(program, Memory(latency=latency)).cycles for latency in (1, 64, 256)]
    assert cycles == sorted(set(cycles))
    assert timeline(program, Memory(outstanding=1)).cycles > cycles[1]
    with pytest.raises(ValueError, match="outstanding=0"):
        Memory(outstanding=0)


def test_a_token_that_never_comes_is_an_error(program: Program) -> None:
    stream = list(program.instructions())
    pc = next(pc for pc, instruction in enumerate(stream) if instruction.opcode == Opcode.EXEC)
    stream[pc] = Instruction(Opcode.EXEC, {**stream[pc].values, "wait": 1 << Queue.STORE})
    image = assemble(stream)
    broken = dataclasses.replace(program, image=image + program.image[len(image) :])
    with pytest.raises(ValueError, match=f"instruction {pc} .*token"):
        timeline(broken)


def test_prediction_is_fast(program: Program) -> None:
    """Seconds per instruction times those of the largest networks stay below a second."""
    started = time.process_time()
    timeline(program)
    assert (time.process_time() - started) / program.instruction_count < 5e-4
