"""Seeded runs of EXECs back to back: everything is loaded before, so nothing but the array paces them.

Programs that load between EXECs leave gaps in which a sequencer's state settles and rows drain.  Faults at the seams
(a mode that starts under the rows of another, wide arrays whose rows take longest) show only without the gaps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Mode, Region, ResidualOp, Target
from hw.spec.program import PARAM_DTYPE, Layer, Program, TensorSpec
from sim.iss.machine import Block
from sim.program_builder import ProgramBuilder
from sim.random_draw import Draw, legal_modes
from sim.random_shapes import random_shape
from sim.random_stages import random_operation, random_stage

__all__ = ["random_run"]

_AREA = 1 << 15
"""Most bytes of the scratchpad that a run uses."""


def random_run(
    config: AcceleratorConfig,
    seed: int,
    *,
    execs: int = 16,
    cycles: int = 12_000,
    modes: tuple[Mode, ...] = tuple(Mode),
) -> Program:
    """Return a program that fills the memories with random bytes, runs EXECs on them and stores the scratchpad.

    Every EXEC reads what happens to lie at random places, earlier results among them.  ``overlap`` is set where it is
    safe.  All of the scratchpad in use is one output tensor.

    Parameters
    ----------
    config
        Configuration; ST-OS modes are left out if it has none.
    seed
        Equal seeds give equal programs.
    execs
        Number of EXEC instructions.
    cycles
        Rough limit for their cost together, in clock cycles.
    modes
        Choose from these only.

    Raises
    ------
    ValueError
        If `modes` holds none that the configuration has, or nothing fits the memories and the limit.
    """
    legal, draw = legal_modes(config, modes), Draw(seed)
    size = min(config.act_bytes, _AREA)
    area = Block(draw.between(0, config.act_bytes - size), 1, 0, 1, 0, size)
    params = np.zeros(0, PARAM_DTYPE)
    planned = []
    for _ in range(execs):
        shape = random_shape(config, draw.rng, legal, cycles=cycles // execs, tensor_bytes=size // 8)
        res, act, gap = random_operation(draw)
        stage, entries = random_stage(draw, shape, res, act, gap)
        first = len(params)
        if first + len(entries) > config.param_entries:
            first = draw.between(0, first - len(entries)) if first > len(entries) else 0
        params = np.concatenate([params[:first], entries, params[first + len(entries) :]])
        fields = _places(draw, area, shape.fields, res, gap) | stage
        fields["w_base"] = draw.between(0, config.weight_words - shape.words(config))
        planned.append((shape, fields | {"p_base": first}))

    builder = ProgramBuilder(config)
    builder.load_const(Target.ACT, area.base, draw.rng.bytes(size))
    builder.load_const(Target.WEIGHT, 0, draw.rng.bytes(config.weight_bytes))
    beats = -(-params.nbytes // config.axi_bytes) * config.axi_bytes
    builder.load_const(Target.PARAM, 0, params.tobytes().ljust(beats, b"\0"))
    for index, (shape, fields) in enumerate(planned):
        pc = builder.exec(**shape.fields, **fields)
        dims = (shape.cout, shape.out_h, shape.out_w)
        builder.layers.append(Layer(f"exec{index}", shape.mode.name.lower(), shape.macs, (pc,), dims))
    builder.store(Region.OUTPUT, mem_addr=area.base, rows=1, row_bytes=size)
    output = TensorSpec("scratchpad", Region.OUTPUT, 0, (1, 1, size), size, 0.05, 0)
    return builder.finish(outputs=(output,))


def _places(draw: Draw, area: Block, geometry: dict[str, int], res: ResidualOp, gap: int) -> dict[str, int]:
    """Return random places inside an area for input, output and second operand, clear of each other."""
    cout = geometry["cout"]
    channels = geometry["cin"] if geometry["mode"] == Mode.GEMM and not geometry["depthwise"] else cout
    limit = area.width // 6
    source = draw.block(channels, geometry["in_h"], geometry["in_w"], limit=limit)
    plane = draw.block(cout, geometry["out_h"], geometry["out_w"], limit=limit)
    sink = Block(0, cout, plane.cs, 1, 0, 1) if gap and res != ResidualOp.POOL else plane
    second = Block(0, 0, 0, 0, 0, 0)
    if res != ResidualOp.NONE:  # read or, pooled bytes, written
        second = plane if res == ResidualOp.ADD else Block(0, cout, 1, 1, 0, 1)
    while True:
        source, sink, second = (
            replace(block, base=area.base + draw.between(0, area.width - (block.end - block.base)))
            for block in (source, sink, second)
        )
        in_place = res == ResidualOp.ADD and not gap and draw.chance(0.4)
        if in_place:
            second = sink
        if not (sink.overlaps(source) or second.overlaps(source) or (sink.overlaps(second) and not in_place)):
            break
    return {
        "overlap": int(draw.chance(0.9)),
        "in_base": source.base,
        "in_cs": source.cs,
        "in_pitch": source.pitch,
        "in_zp": draw.between(-128, 127),
        "out_base": sink.base,
        "out_cs": plane.cs,
        "out_pitch": plane.pitch,
        "res_base": second.base,
    }
