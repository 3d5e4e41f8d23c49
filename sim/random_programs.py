"""Seeded random programs that exercise every EXEC mode, for comparing one backend with another byte by byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Mode, Region, ResidualOp, Target
from hw.spec.program import PARAM_DTYPE, Layer, Program, TensorSpec
from sim.backend import Int8Array
from sim.iss.machine import Block
from sim.program_builder import ProgramBuilder, align
from sim.random_draw import Draw, legal_modes
from sim.random_shapes import Shape, random_shape
from sim.random_stages import random_operation, random_stage

__all__ = ["random_inputs", "random_program"]


def random_inputs(program: Program, seed: int) -> dict[str, Int8Array]:
    """Return uniform int8 values for every input of a program."""
    rng = np.random.default_rng(seed)
    return {spec.name: rng.integers(-128, 128, spec.shape, dtype=np.int8) for spec in program.inputs}


def random_program(
    config: AcceleratorConfig,
    seed: int,
    *,
    execs: int = 6,
    cycles: int = 20_000,
    modes: tuple[Mode, ...] = tuple(Mode),
) -> Program:
    """Return a valid random program: tensors, weights and parameters loaded, computed with, and stored.

    Odd sizes, widths that are no multiple of the array, packed lines, single lines, strides, unusual padding, channels
    that divide nothing, residuals (in place too), gates, h-swish, pooling, clamps, results that come back from DRAM.
    Every result is an output tensor.  Tokens are exactly those needed; ``overlap`` is set where it is safe.
    Accumulators never overflow.

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
    generator = _Generator(config, Draw(seed), legal_modes(config, modes), cycles // execs)
    for index in range(execs):
        generator.layer(index)
    return generator.finish()


class _Generator:
    """State of one program in the making; a tensor is its block in the scratchpad and its zero point."""

    def __init__(self, config: AcceleratorConfig, draw: Draw, modes: tuple[Mode, ...], cycles: int) -> None:
        self.config, self.draw, self.modes, self.cycles = config, draw, modes, cycles
        self.builder = ProgramBuilder(config)
        self.inputs: list[TensorSpec] = []
        self.outputs: list[TensorSpec] = []
        self.live: dict[Block, int] = {}
        self.unsaved: dict[Block, int] = {}
        # Three tensors of a sixth each always find room beside each other, however the first two lie.
        self.limit = config.act_bytes // 6

    # --- tensors in the scratchpad -------------------------------------------------------------------------------

    def place(self, block: Block, kept: list[Block]) -> Block:
        """Move a block to a random address clear of `kept`; save and forget the tensors it covers."""
        bases = [self.draw.between(0, self.config.act_bytes - block.end) for _ in range(20)]
        for base in (*bases, 0, *(other.end for other in kept)):
            moved = replace(block, base=base)
            if moved.end <= self.config.act_bytes and not any(_span(moved).overlaps(_span(other)) for other in kept):
                break
        else:
            raise AssertionError(f"no room for {block} beside {kept}")
        for tensor in list(self.live):
            if _span(tensor).overlaps(_span(moved)):
                if tensor in self.unsaved:
                    self.save(tensor)
                self.live.pop(tensor, None)
        return moved

    def fill(self, block: Block, zero_point: int) -> None:
        """Load random bytes, or a new input of the program, into a block."""
        if block.pitch == block.width and self.draw.chance(0.4):
            spec = self.spec(f"in{len(self.inputs)}", Region.INPUT, self.inputs, block, zero_point)
            self.inputs.append(spec)
            self.move(self.builder.load, block, spec, target=Target.ACT)
        else:
            self.builder.load_const(Target.ACT, block.base, self.draw.rng.bytes(block.end - block.base))

    def save(self, block: Block) -> None:
        """Store a result as an output of the program; sometimes it then comes back from DRAM."""
        zero_point = self.unsaved.pop(block)
        spec = self.spec(f"out{len(self.outputs)}", Region.OUTPUT, self.outputs, block, zero_point)
        self.outputs.append(spec)
        self.move(self.builder.store, block, spec)
        if block in self.live and self.draw.chance(0.25):
            self.builder.load_const(Target.ACT, block.base, self.draw.rng.bytes(block.end - block.base))
            self.move(self.builder.load, block, spec, target=Target.ACT)

    def spec(self, name: str, region: Region, before: list[TensorSpec], block: Block, zero_point: int) -> TensorSpec:
        """Return a place in DRAM for a block."""
        offset = (before[-1].end if before else 0) + self.draw.between(0, 9)
        stride = block.lines * block.width + self.draw.between(0, 1) * self.draw.between(0, 20)
        shape = (block.channels, block.lines, block.width)
        return TensorSpec(name, region, offset, shape, stride, 0.05, zero_point)

    @staticmethod
    def move(emit: Callable[..., int], block: Block, spec: TensorSpec, **fields: int) -> None:
        """Emit the LOADs or STOREs between a block and its place in DRAM."""
        if block.lines == 1 or block.pitch == block.width:
            emit(
                region=spec.region, dram_offset=spec.offset, mem_addr=block.base, rows=block.channels,
                row_bytes=block.lines * block.width, dram_stride=spec.plane_stride, mem_stride=block.cs, **fields,
            )  # fmt: skip
            return
        for channel in range(block.channels):
            emit(
                region=spec.region, dram_offset=spec.offset + channel * spec.plane_stride,
                mem_addr=block.base + channel * block.cs, rows=block.lines, row_bytes=block.width,
                dram_stride=block.width, mem_stride=block.pitch, **fields,
            )  # fmt: skip

    # --- instructions --------------------------------------------------------------------------------------------

    def layer(self, index: int) -> None:
        """Emit one EXEC with the loads it needs, and perhaps the store of its result."""
        source = None
        if self.live and self.draw.chance(0.5):
            source = self.draw.pick(list(self.live))
        shape = random_shape(
            self.config,
            self.draw.rng,
            self.modes,
            cycles=self.cycles,
            tensor_bytes=self.limit,
            source=(source.channels, source.lines, source.width) if source else None,
        )
        in_zp = self.draw.between(-128, 127)
        if source is None:
            source = self.place(self.draw.block(shape.channels, shape.in_h, shape.in_w, limit=self.limit), [])
            self.fill(source, in_zp)
        in_zp = self.live.get(source, in_zp)
        res, act, gap = random_operation(self.draw)
        plane = self.draw.block(shape.cout, shape.out_h, shape.out_w, limit=self.limit)
        second = None
        if res == ResidualOp.ADD:
            plane, second = self.map_to_add(plane, source)
        elif res == ResidualOp.SCALE:
            second = self.gate(shape.cout, source)
        if res == ResidualOp.ADD and second is not None and not gap and self.draw.chance(0.5):
            sink = second
            if sink in self.unsaved:
                self.save(sink)
        else:
            written = Block(0, shape.cout, plane.cs, 1, 0, 1) if gap and res != ResidualOp.POOL else plane
            sink = self.place(written, [source, second] if second else [source])
        pooled = self.place(Block(0, shape.cout, 1, 1, 1, 1), [source, sink]) if res == ResidualOp.POOL else None
        beside = second or pooled
        stage, params = random_stage(self.draw, shape, res, act, gap)
        first = self.draw.between(0, self.config.param_entries - shape.cout)
        self.load_aligned(Target.PARAM, first * PARAM_DTYPE.itemsize, params.tobytes())
        pc = self.builder.exec(
            overlap=int(self.draw.chance(0.8)),
            in_base=source.base,
            in_cs=source.cs,
            in_pitch=source.pitch,
            in_zp=in_zp,
            out_base=sink.base,
            out_cs=plane.cs,
            out_pitch=plane.pitch,
            p_base=first,
            # Unused fields may hold anything.
            res_base=beside.base if beside else self.draw.between(0, (1 << 24) - 1),
            **self.weights(shape),
            **shape.fields,
            **stage,
        )
        kind = shape.mode.name.lower()
        dims = (sink.channels, sink.lines, sink.width)
        self.builder.layers.append(Layer(f"exec{index}", kind, shape.macs, (pc,), dims))
        self.live[sink] = self.unsaved[sink] = stage["gap_zp" if gap and pooled is None else "out_zp"]
        if pooled is not None:
            self.live[pooled] = self.unsaved[pooled] = stage["gap_zp"]
        if self.draw.chance(0.5):
            self.save(sink)

    def weights(self, shape: Shape) -> dict[str, int]:
        """Load random weight words; return the fields that name them."""
        words, size = shape.words(self.config), self.config.weight_word_bytes
        if not words:
            return {"w_base": self.draw.between(0, 1000)}
        first = self.draw.between(0, self.config.weight_words - words)
        self.load_aligned(Target.WEIGHT, first * size, self.draw.rng.bytes(words * size))
        return {"w_base": first}

    def map_to_add(self, plane: Block, source: Block) -> tuple[Block, Block]:
        """Return the output's block at address 0 and a map of this form to add, beside the input."""
        dims = plane.channels, plane.lines, plane.width
        made = [old for old in self.clear_of(source) if (old.channels, old.lines, old.width) == dims]
        if made and self.draw.chance(0.5):
            second = self.draw.pick(made)
            return replace(second, base=0), second
        second = self.place(plane, [source])
        self.fill(second, 0)
        return plane, second

    def gate(self, channels: int, source: Block) -> Block:
        """Return one byte per channel beside the input: new ones, or some out of a result without gaps."""
        wanted = Block(0, channels, 1, 1, 0, 1)
        made = [old for old in self.clear_of(source) if old.channels * old.lines * old.width == _span(old).width]
        made = [old for old in made if _span(old).width >= channels]
        if made and self.draw.chance(0.6):
            old = self.draw.pick(made)
            return replace(wanted, base=self.draw.between(old.base, old.end - channels))
        second = self.place(wanted, [source])
        self.fill(replace(second, pitch=1), 0)
        return second

    def clear_of(self, source: Block) -> list[Block]:
        """Return the results that share no byte with the input."""
        return [old for old in self.live if not _span(old).overlaps(_span(source))]

    def load_aligned(self, target: Target, address: int, data: bytes) -> None:
        """Load whole beats around `data`; the bytes before and behind are random."""
        beat = self.config.axi_bytes
        start, end = address // beat * beat, align(address + len(data), beat)
        whole = self.draw.rng.bytes(address - start) + data + self.draw.rng.bytes(end - address - len(data))
        self.builder.load_const(target, start, whole)

    def finish(self) -> Program:
        """Store what has not been stored and return the program."""
        for block in list(self.unsaved):
            self.save(block)
        return self.builder.finish(inputs=tuple(self.inputs), outputs=tuple(self.outputs))


def _span(block: Block) -> Block:
    """Return all bytes from a block's first to its last."""
    return Block(block.base, 1, 0, 1, 0, block.end - block.base)
