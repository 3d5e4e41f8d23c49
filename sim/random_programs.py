"""Seeded random programs that exercise every EXEC mode, for comparing one backend with another byte by byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from hw.spec.config import AcceleratorConfig
from hw.spec.isa import Activation, Mode, Region, ResidualOp, Target
from hw.spec.numerics import NUMERICS, quantize_multiplier
from hw.spec.program import PARAM_DTYPE, Layer, Program, TensorSpec
from sim.backend import Int8Array
from sim.iss.machine import Block
from sim.program_builder import ProgramBuilder, align
from sim.random_shapes import Shape, random_shape

__all__ = ["random_inputs", "random_program"]

T = TypeVar("T")

_SECOND_OPERANDS = (ResidualOp.NONE, ResidualOp.NONE, ResidualOp.ADD, ResidualOp.SCALE)
_PIXEL_STEP = 74.0
"""Standard deviation of a uniform int8."""


def random_inputs(program: Program, seed: int) -> dict[str, Int8Array]:
    """Return uniform int8 values for every input of a program."""
    rng = np.random.default_rng(seed)
    return {spec.name: rng.integers(-128, 128, spec.shape, dtype=np.int8) for spec in program.inputs}


def random_program(
    config: AcceleratorConfig, seed: int, *, execs: int = 6, cycles: int = 20_000, modes: tuple[Mode, ...] = tuple(Mode)
) -> Program:
    """Return a valid random program: tensors, weights and parameters loaded, computed with, and stored.

    Odd sizes, widths that are no multiple of the array, single lines, strides, unusual padding, channels that divide
    nothing, residuals (in place too), gates, h-swish, pooling, clamps, results that come back from DRAM.  Every result
    is an output tensor.  Tokens are exactly those needed; ``overlap`` is set where it is safe.  Accumulators never
    overflow.

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
    legal = tuple(mode for mode in modes if config.stos or mode not in (Mode.STOS_CH, Mode.STOS_LN))
    if not legal:
        raise ValueError(f"modes={modes}: none of them exists with stos={config.stos}")
    generator = _Generator(config, np.random.default_rng(seed), legal, cycles // execs)
    for index in range(execs):
        generator.layer(index)
    return generator.finish()


class _Generator:
    """State of one program in the making; a tensor is its block in the scratchpad and its zero point."""

    def __init__(
        self, config: AcceleratorConfig, rng: np.random.Generator, modes: tuple[Mode, ...], cycles: int
    ) -> None:
        self.config, self.rng, self.modes, self.cycles = config, rng, modes, cycles
        self.builder = ProgramBuilder(config)
        self.inputs: list[TensorSpec] = []
        self.outputs: list[TensorSpec] = []
        self.live: dict[Block, int] = {}
        self.unsaved: dict[Block, int] = {}
        # Three tensors of a sixth each always find room beside each other, however the first two lie.
        self.limit = config.act_bytes // 6

    def between(self, low: int, high: int) -> int:
        """Draw an integer, bounds included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, values: Sequence[T]) -> T:
        """Draw one of several."""
        return values[self.between(0, len(values) - 1)]

    def chance(self, probability: float) -> bool:
        """Draw a decision."""
        return bool(self.rng.random() < probability)

    # --- tensors in the scratchpad -------------------------------------------------------------------------------

    def block(self, channels: int, lines: int, width: int) -> Block:
        """Return a tensor's block at address 0, dense or with gaps between lines and planes."""
        pitch = width
        if channels <= 6 and self.chance(0.3):
            pitch += self.between(1, 5)
        sparse = Block(0, channels, lines * pitch + self.between(0, 9), lines, pitch, width)
        return sparse if sparse.end <= self.limit else Block(0, channels, lines * width, lines, width, width)

    def place(self, block: Block, kept: list[Block]) -> Block:
        """Move a block to a random address clear of `kept`; save and forget the tensors it covers."""
        bases = [self.between(0, self.config.act_bytes - block.end) for _ in range(20)]
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
        if block.pitch == block.width and self.chance(0.4):
            spec = self.spec(f"in{len(self.inputs)}", Region.INPUT, self.inputs, block, zero_point)
            self.inputs.append(spec)
            self.move(self.builder.load, block, spec, target=Target.ACT)
        else:
            self.builder.load_const(Target.ACT, block.base, self.rng.bytes(block.end - block.base))

    def save(self, block: Block) -> None:
        """Store a result as an output of the program; sometimes it then comes back from DRAM."""
        zero_point = self.unsaved.pop(block)
        spec = self.spec(f"out{len(self.outputs)}", Region.OUTPUT, self.outputs, block, zero_point)
        self.outputs.append(spec)
        self.move(self.builder.store, block, spec)
        if block in self.live and self.chance(0.25):
            self.builder.load_const(Target.ACT, block.base, self.rng.bytes(block.end - block.base))
            self.move(self.builder.load, block, spec, target=Target.ACT)

    def spec(self, name: str, region: Region, before: list[TensorSpec], block: Block, zero_point: int) -> TensorSpec:
        """Return a place in DRAM for a block."""
        offset = (before[-1].end if before else 0) + self.between(0, 9)
        stride = block.lines * block.width + self.between(0, 1) * self.between(0, 20)
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
        if self.live and self.chance(0.5):
            source = self.pick(list(self.live))
        shape = random_shape(
            self.config,
            self.rng,
            self.modes,
            cycles=self.cycles,
            tensor_bytes=self.limit,
            source=(source.channels, source.lines, source.width) if source else None,
        )
        in_zp = self.between(-128, 127)
        if source is None:
            source = self.place(self.block(shape.channels, shape.in_h, shape.in_w), [])
            self.fill(source, in_zp)
        in_zp = self.live.get(source, in_zp)
        gap, res = self.chance(0.15), self.pick(_SECOND_OPERANDS)
        act = Activation.HSWISH if res != ResidualOp.SCALE and self.chance(0.3) else Activation.NONE
        plane = self.block(shape.cout, shape.out_h, shape.out_w)
        second = None
        if res == ResidualOp.ADD:
            plane, second = self.map_to_add(plane, source)
        elif res == ResidualOp.SCALE:
            second = self.gate(shape.cout, source)
        if res == ResidualOp.ADD and second is not None and not gap and self.chance(0.5):
            sink = second
            if sink in self.unsaved:
                self.save(sink)
        else:
            written = Block(0, shape.cout, plane.cs, 1, 0, 1) if gap else plane
            sink = self.place(written, [source, second] if second else [source])
        fields = self.weights(shape) | self.output_stage(shape, res, act, second, gap)
        pc = self.builder.exec(
            overlap=int(self.chance(0.8)),
            in_base=source.base,
            in_cs=source.cs,
            in_pitch=source.pitch,
            in_zp=in_zp,
            out_base=sink.base,
            out_cs=plane.cs,
            out_pitch=plane.pitch,
            **shape.fields,
            **fields,
        )
        kind = shape.mode.name.lower()
        dims = (sink.channels, sink.lines, sink.width)
        self.builder.layers.append(Layer(f"exec{index}", kind, shape.macs, (pc,), dims))
        self.live[sink] = self.unsaved[sink] = fields["gap_zp" if gap else "out_zp"]
        if self.chance(0.5):
            self.save(sink)

    def weights(self, shape: Shape) -> dict[str, int]:
        """Load random weight words; return the fields that name them."""
        words, size = shape.words(self.config), self.config.weight_word_bytes
        if not words:
            return {"w_base": self.between(0, 1000)}
        first = self.between(0, self.config.weight_words - words)
        self.load_aligned(Target.WEIGHT, first * size, self.rng.bytes(words * size))
        return {"w_base": first}

    def map_to_add(self, plane: Block, source: Block) -> tuple[Block, Block]:
        """Return the output's block at address 0 and a map of this form to add, beside the input."""
        dims = plane.channels, plane.lines, plane.width
        made = [old for old in self.clear_of(source) if (old.channels, old.lines, old.width) == dims]
        if made and self.chance(0.5):
            second = self.pick(made)
            return replace(second, base=0), second
        second = self.place(plane, [source])
        self.fill(second, 0)
        return plane, second

    def gate(self, channels: int, source: Block) -> Block:
        """Return one byte per channel beside the input: new ones, or some out of a result without gaps."""
        wanted = Block(0, channels, 1, 1, 0, 1)
        made = [old for old in self.clear_of(source) if old.channels * old.lines * old.width == _span(old).width]
        made = [old for old in made if _span(old).width >= channels]
        if made and self.chance(0.6):
            old = self.pick(made)
            return replace(wanted, base=self.between(old.base, old.end - channels))
        second = self.place(wanted, [source])
        self.fill(replace(second, pitch=1), 0)
        return second

    def clear_of(self, source: Block) -> list[Block]:
        """Return the results that share no byte with the input."""
        return [old for old in self.live if not _span(old).overlaps(_span(source))]

    def output_stage(
        self, shape: Shape, res: ResidualOp, act: Activation, second: Block | None, gap: bool
    ) -> dict[str, int]:
        """Load random parameters that spread the results over int8; return the output stage's fields."""
        product = res == ResidualOp.SCALE or act == Activation.HSWISH
        # Bits that the channel shift's result has below the output's unit.
        fraction = self.between(0, 15) if res == ResidualOp.ADD else self.between(0, 1) * self.between(0, 4)
        if product:
            fraction = self.between(0, 8)
        spread = _PIXEL_STEP if shape.single and not shape.macs else _PIXEL_STEP**2 * shape.taps**0.5
        params = np.zeros(shape.cout, PARAM_DTYPE)
        for entry in params:
            real = 50 * 2.0 ** self.rng.uniform(-1.5, 1.5) / spread * 2**fraction
            entry["mult"], entry["shift"] = quantize_multiplier(min(real, 60_000.0))
            entry["bias"] = int(self.rng.normal() * spread)
            if self.chance(0.05):  # far from any sensible scale; the bias still leaves the accumulator room
                entry["bias"] = self.between(-(1 << 30), 1 << 30)
                entry["mult"], entry["shift"] = self.between(0, 65535), self.between(0, NUMERICS.max_shift)
        first = self.between(0, self.config.param_entries - shape.cout)
        self.load_aligned(Target.PARAM, first * PARAM_DTYPE.itemsize, params.tobytes())

        narrow = self.chance(0.4)
        pixels = shape.out_h * shape.out_w
        out_zp = self.between(-128, 127) if self.chance(0.3) else self.between(-40, 40)
        mult, shift = quantize_multiplier(self.rng.uniform(0.5, 4) / pixels)
        # The number 6 is about as large as the results; the other factor takes its share of the shift.
        limit = min(int(50 * 2.0**fraction * self.rng.uniform(0.2, 2)), (1 << NUMERICS.limit_width) - 1)
        offset = min(limit // 2 + self.between(-1, 1) * self.between(0, limit), (1 << NUMERICS.offset_width) - 1)
        factor = limit if act == Activation.HSWISH else _PIXEL_STEP
        bits = fraction + (round(math.log2(factor + 1)) + self.between(-2, 2) if product else 0)
        return {
            "p_base": first,
            "out_zp": out_zp,
            "q_lo": self.between(-128, 0) if narrow else -128,
            "q_hi": self.between(0, 127) if narrow else 127,
            "post_shift": min(max(bits, 0), (1 << NUMERICS.post_width) - 1),
            "act": int(act),
            "act_offset": max(offset, 0),
            "act_limit": limit,
            "res": int(res),
            # Unused fields may hold anything.
            "res_base": self.between(0, (1 << 24) - 1) if second is None else second.base,
            "res_zp": self.between(-128, 127),
            "res_mult": int(2**fraction * self.rng.uniform(0.2, 1.5)),
            "gap": int(gap),
            "gap_bias": -pixels * out_zp + self.between(-pixels, pixels),
            "gap_mult": mult,
            "gap_shift": shift,
            "gap_zp": self.between(-128, 127),
        }

    def load_aligned(self, target: Target, address: int, data: bytes) -> None:
        """Load whole beats around `data`; the bytes before and behind are random."""
        beat = self.config.axi_bytes
        start, end = address // beat * beat, align(address + len(data), beat)
        whole = self.rng.bytes(address - start) + data + self.rng.bytes(end - address - len(data))
        self.builder.load_const(target, start, whole)

    def finish(self) -> Program:
        """Store what has not been stored and return the program."""
        for block in list(self.unsaved):
            self.save(block)
        return self.builder.finish(inputs=tuple(self.inputs), outputs=tuple(self.outputs))


def _span(block: Block) -> Block:
    """Return all bytes from a block's first to its last."""
    return Block(block.base, 1, 0, 1, 0, block.end - block.base)
