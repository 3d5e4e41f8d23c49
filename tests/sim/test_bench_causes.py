"""Causes of cycles beyond the bound: they add up, and each is found where it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.spec.config import PRESETS
from hw.spec.isa import Mode, Queue, Region, Target
from hw.spec.program import Layer, Program
from sim.bench_causes import CAUSES, PARTS, causes, kind_of
from sim.program_builder import ProgramBuilder
from sim.random_programs import random_program
from sw.model.channels import Memory
from sw.model.timeline import timeline
from sw.model.trace import TraceEvent

TINY = PRESETS["tiny"]


def measured(program: Program, latency: int = 64) -> tuple[list[TraceEvent], int]:
    """Return EXECs and cycles of a run; the model's serve as well as measured ones."""
    run = timeline(program, Memory(latency=latency))
    return [event for event in run.trace if event.queue == Queue.EXEC], run.cycles


@pytest.mark.parametrize("seed", range(8))
def test_they_add_up(seed: int) -> None:
    program = random_program(TINY, seed)
    execs, cycles = measured(program)
    bounds = {layer.name: 100.5 for layer in program.layers} | {"fused away": 7.0}
    found = causes(program, execs, cycles, bounds)
    assert sum(found.values()) == pytest.approx(cycles - sum(bounds.values()))
    assert all(name in CAUSES or name.partition(": ")[2] in PARTS for name in found)
    assert found["first data"] > 0 < found["last results"]
    assert list(found) == sorted(
        found, key=lambda name: (name in CAUSES, list(CAUSES).index(name) if name in CAUSES else name)
    )


def strip(modes: list[Mode], late: int = 0, **last: int) -> Program:
    """Return EXECs of four lines of four pixels, 1x1; one of them needs a LOAD of `late` bytes just before it."""
    builder = ProgramBuilder(TINY)
    builder.load_const(Target.WEIGHT, 0, bytes(64))
    builder.load_const(Target.PARAM, 0, bytes(64))
    builder.load_const(Target.ACT, 0, bytes(8192))
    layers = []
    for index, mode in enumerate(modes):
        if late and index == len(modes) - 1:
            builder.load_const(Target.ACT, 0, bytes(late))
        fields = {
            "mode": mode, "in_cs": 16, "in_w": 4, "in_h": 4, "in_pitch": 4, "out_base": 9000 + 128 * index,
            "out_cs": 16, "out_w": 4, "out_h": 4, "out_pitch": 4, "kh": 1, "kw": 1, "sy": 1, "sx": 1, "cin": 1,
            "cout": 1, "q_hi": 127, "overlap": 1,
        }  # fmt: skip
        pc = builder.exec(**fields | (last if index == len(modes) - 1 else {}))
        layers.append(Layer(f"layer{index}", mode.name.lower(), 16, (pc,), (1, 4, 4)))
    builder.store(Region.WORK, mem_addr=9000, rows=1, row_bytes=128 * len(modes))
    builder.layers = layers
    return builder.finish(work_bytes=128 * len(modes))


def of(program: Program, **options: int) -> dict[str, float]:
    return causes(program, *measured(program, **options), {})


def test_tiles_are_counted_by_kind() -> None:
    found = of(strip([Mode.GEMM, Mode.STOS_CH]))
    # Tiles of one row and one step each; of ST-OS the first window's line is loaded before.
    assert tiles(found, "gemm") == 4
    assert tiles(found, "stos_ch") == 6
    bound = causes(strip([Mode.GEMM]), *measured(strip([Mode.GEMM])), {"layer0": 4.5})
    assert tiles(bound, "gemm") == 4 - 4.5


def test_idle_columns_and_rows() -> None:
    full = of(strip([Mode.GEMM], cin=8, cout=4))
    assert full == full | {"gemm: other steps": 32.0} and "gemm: idle rows" not in full
    # Every second column, and five channels in two blocks of four rows.
    half = of(strip([Mode.GEMM], cin=8, cout=4, out_w=2))
    assert half["gemm: idle columns"] == half["gemm: other steps"] == 16
    five = of(strip([Mode.GEMM], cin=8, cout=5))
    assert five["gemm: idle rows"] == 64 * 3 / 8 and "gemm: idle columns" not in five
    # Four lines of two segments, of two pixels and a gap; the last line has only one.
    packed = of(strip([Mode.VEC], seg=2, seg_gap=1, seg_missing=1))
    assert packed["vec: idle columns"] == 4 * (16 - 8 + 1) / 16
    # A short sum waits for the rows to drain.
    short = of(strip([Mode.GEMM], cin=1, cout=4))
    assert short["gemm: other steps"] == 1 + 3 * 4
    # A layer that the weight port bounds leaves columns idle for that.
    program = replace_macs(strip([Mode.GEMM], cin=8, cout=4, out_w=1, out_h=1), 32)
    for bound, idle in ((2, 6), (5, 3), (8, 0)):
        found = causes(program, *measured(program), {"layer0": bound})
        assert found.get("gemm: idle columns", 0) == idle and "gemm: other steps" not in found
    # Windows at stride 2 are computed at stride 1.
    assert "stos_ch: idle columns" not in of(strip([Mode.STOS_CH], kw=2, sx=2, out_w=2))


def replace_macs(program: Program, macs: int) -> Program:
    return replace(program, layers=tuple(replace(layer, macs=macs) for layer in program.layers))


def tiles(found: dict[str, float], kind: str) -> float:
    return sum(cycles for name, cycles in found.items() if kind_of(name) == kind)


def test_modes_that_change() -> None:
    assert of(strip([Mode.GEMM, Mode.STOS_CH]))["mode change"] > 0
    assert of(strip([Mode.GEMM, Mode.VEC, Mode.STOS_CH]))["mode change"] > 0
    for same in ([Mode.GEMM, Mode.GEMM], [Mode.STOS_LN, Mode.STOS_CH], [Mode.STOS_CH, Mode.VEC, Mode.STOS_LN]):
        assert "mode change" not in of(strip(same))


def test_dependencies() -> None:
    alone, reading = strip([Mode.GEMM] * 2), strip([Mode.GEMM] * 2, in_base=9000)
    assert "dependency" not in of(alone) and "hand-over" in of(alone)
    assert of(reading)["dependency"] > of(alone)["hand-over"]


def test_waiting() -> None:
    short, long = (of(strip([Mode.GEMM] * 2, late=size)) for size in (800, 8000))
    assert long["loads"] == short["loads"] + 7200 // 8 and "refill" in short
    assert "loads" not in of(strip([Mode.GEMM] * 2))
    near, far = (of(strip([Mode.GEMM]), latency=latency) for latency in (10, 110))
    assert far["first data"] >= near["first data"] + 100 and far["last results"] == near["last results"] + 100


def test_second_operands() -> None:
    # Both maps lie in one bank: every row but the last reads a byte that an operand read must wait for.
    found = of(strip([Mode.VEC], res=1, res_base=100, res_mult=1))
    assert found["second operand"] > 0 and "second operand" not in of(strip([Mode.VEC]))
    assert tiles(found, "vec") == tiles(of(strip([Mode.VEC])), "vec") == 4


def test_a_trace_of_something_else_is_refused() -> None:
    program = strip([Mode.GEMM] * 2)
    execs, cycles = measured(program)
    for wrong in (execs[1:], [*execs[1:], replace(execs[0], pc=0)]):
        with pytest.raises(ValueError, match="EXECs is none of this program, which has 2"):
            causes(program, wrong, cycles, {})
